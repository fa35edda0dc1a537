package relay

import (
	"errors"
	"testing"
)

func TestFirstServable(t *testing.T) {
	// A queue of n messages of which the pages can be had that begin between from and to.
	queue := func(n, from, to uint64) func(uint64) (shelf, error) {
		return func(skip uint64) (shelf, error) {
			switch {
			case skip >= n:
				return bare, nil
			case skip >= from && skip < to:
				return servable, nil
			}
			return unservable, nil
		}
	}
	for _, tc := range []struct {
		name        string
		n, from, to uint64
		want        uint64
	}{
		{"nothing wrong", 10, 0, 10, 0},
		{"queue is empty", 0, 0, 0, 0},
		{"one message", 50, 1, 50, 1},
		{"fifteen messages", 45, 15, 45, 15},
		{"all but the last thirty of a thousand", 1000, 970, 1000, 970},
		{"all but the last", 1 << 19, 1<<19 - 1, 1 << 19, 1<<19 - 1},
		{"a message that is too large by itself, at the end", 7, 7, 7, 0},
		{"no end in sight", 1 << 40, 1 << 39, 1 << 40, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			looks := 0
			got, err := firstServable(func(skip uint64) (shelf, error) {
				looks++
				return queue(tc.n, tc.from, tc.to)(skip)
			})
			if err != nil || got != tc.want {
				t.Errorf("skips %d, %v, want %d", got, err, tc.want)
			}
			if looks > 50 {
				t.Errorf("that took %d looks", looks)
			}
		})
	}
	broken := errors.New("broken")
	for at := range 8 {
		looks := 0
		got, err := firstServable(func(skip uint64) (shelf, error) {
			if looks++; looks > at {
				return unservable, broken
			}
			return queue(45, 15, 45)(skip)
		})
		if !errors.Is(err, broken) || got != 0 {
			t.Errorf("a failure at look %d: skips %d, %v", at, got, err)
		}
	}
}

// However a canister answers, the search for the head of its queue ends.
func TestSearchEnds(t *testing.T) {
	const max = 1<<64 - 1
	for name, look := range map[string]func(uint64) (uint64, bool, error){
		"always older":             func(n uint64) (uint64, bool, error) { return n, true, nil },
		"always older, at the end": func(uint64) (uint64, bool, error) { return max, true, nil },
		"older beyond what is younger": func(n uint64) (uint64, bool, error) {
			return n + 1<<40, n < 5000, nil
		},
		"never older": func(uint64) (uint64, bool, error) { return 0, false, nil },
	} {
		t.Run(name, func(t *testing.T) {
			looks := 0
			search(49, 0, func(n uint64) (uint64, bool, error) {
				if looks++; looks > 1000 {
					t.Fatal("it does not end")
				}
				return look(n)
			})
			if looks > maxLooks {
				t.Errorf("it took %d looks", looks)
			}
		})
	}
	head := uint64(1_234_567)
	looks := 0
	low := search(49, 0, func(n uint64) (uint64, bool, error) {
		looks++
		return min(n+49, head), n <= head, nil
	})
	if low > head || head-low > pageSize {
		t.Errorf("found %d, want at most a page before %d", low, head)
	}
	if looks > 40 {
		t.Errorf("that took %d looks", looks)
	}
}
