package queue

import (
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/relay/internal/quorum"
)

// However a canister answers, the search for the head of its queue ends.
func TestSearchEnds(t *testing.T) {
	const max = 1<<64 - 1
	for name, look := range map[string]func(uint64) (uint64, bool){
		"always older":             func(n uint64) (uint64, bool) { return n, true },
		"always older, at the end": func(uint64) (uint64, bool) { return max, true },
		"older beyond what is younger": func(n uint64) (uint64, bool) {
			return n + 1<<40, n < 5000
		},
		"never older": func(uint64) (uint64, bool) { return 0, false },
	} {
		t.Run(name, func(t *testing.T) {
			s, looks := NewSearch(49, 0), 0
			for nonce, more := s.Next(); more; nonce, more = s.Next() {
				if looks++; looks > maxLooks {
					t.Fatal("it does not end")
				}
				last, old := look(nonce)
				s.Found(nonce, last, old)
			}
		})
	}
	for _, head := range []uint64{49, 50, 99, 100, 149, 1000, 1_234_567, 1 << 40} {
		s, looks := NewSearch(49, 0), 0
		for nonce, more := s.Next(); more; nonce, more = s.Next() {
			looks++
			s.Found(nonce, min(nonce+49, head), nonce <= head)
		}
		if low := s.Low(); low > head || head-low > pageSize {
			t.Errorf("found %d, want at most a page before %d", low, head)
		}
		if looks > 70 {
			t.Errorf("%d: that took %d looks", head, looks)
		}
	}
}

func TestPast(t *testing.T) {
	for _, tc := range []struct {
		name        string
		n, from, to uint64 // a queue of n messages of which the pages can be had that begin between from and to
		want        uint64
	}{
		{"queue is empty", 0, 0, 0, 0},
		{"nothing wrong any more", 10, 0, 10, 0},
		{"one message", 50, 1, 50, 1},
		{"fifteen messages", 45, 15, 45, 15},
		{"all but the last thirty of a thousand", 1000, 970, 1000, 970},
		{"all but the last", 1 << 19, 1<<19 - 1, 1 << 19, 1<<19 - 1},
		{"a message that is too large by itself, at the end", 7, 7, 7, 0},
		{"no end in sight", 1 << 40, 1 << 39, 1 << 40, 0},
	} {
		for _, liar := range []bool{false, true} {
			p, looks, now := newPast(0), 0, time.Unix(1, 0)
			host := quorum.Host("a")
			got := uint64(0)
			for v := goOn; v == goOn; {
				if looks++; looks > maxLooks+1 {
					t.Fatalf("%s: it does not end", tc.name)
				}
				at := p.next()
				st := tooLarge
				switch {
				case at >= tc.n:
					st = empty
				case at >= tc.from && at < tc.to:
					st = available
				}
				if liar && host == "a" {
					st = tooLarge
				}
				if v = p.observe(st, quorum.Vote{Host: host}, now); v == skipNow {
					got = p.high
				}
				host = map[quorum.Host]quorum.Host{"a": "b", "b": "a"}[host]
			}
			if got != tc.want && (!liar || got != 0) { // who lies can keep it from being found, for now
				t.Errorf("%s: skips %d, want %d", tc.name, got, tc.want)
			}
			if looks > 60 && !liar {
				t.Errorf("%s: that took %d looks", tc.name, looks)
			}
			t.Logf("%s, one host lies %t: skips %d after %d looks", tc.name, liar, got, looks)
		}
	}
}

// At whatever look a canister works again, nothing is skipped.
func TestPastHeals(t *testing.T) {
	for healAt := range 40 {
		p, now := newPast(0), time.Unix(1, 0)
		looks := 0
		for v := goOn; v == goOn; looks++ {
			st := tooLarge
			if looks >= healAt {
				st = available
			}
			if v = p.observe(st, quorum.Vote{Host: quorum.Host(rune('a' + looks%2))}, now); v == skipNow {
				t.Errorf("works again at look %d, and %d messages are skipped", healAt, p.high)
			}
		}
	}
}

// An answer to a search that is over says nothing in the next one.
func TestAnswerOfAnEarlierSearch(t *testing.T) {
	q, now := New(time.Minute), time.Unix(100, 0)
	ask := q.Next()
	q.Step(now, &Answer{Question: &ask})
	reject := func() {
		for _, host := range []quorum.Host{"a", "b"} {
			ask := q.Next()
			q.Step(now, &Answer{Question: &ask, Nonce: q.Nonce(&ask), Vote: quorum.Vote{Host: host}, Failure: Failure{Kind: Trapped}})
		}
		if q.past == nil {
			t.Fatal("two hosts reject the page, and there is no search past it")
		}
	}
	news := q.Next()
	reject()
	late := q.Next()
	if late.Purpose != Past {
		t.Fatalf("a search asks %+v", late)
	}
	if d := q.Step(now, &Answer{Question: &news, Vote: quorum.Vote{Host: "a"}, Page: pageOf(0, 1, 2, 3)}); d.Do != Deliver {
		t.Fatalf("a page at the position: %+v", d)
	}
	reject()
	if d := q.Step(now, &Answer{Question: &late, Nonce: 1, Vote: quorum.Vote{Host: "a"}, Page: pageOf(5, 8)}); d.Do != Nothing || q.past.looks != 0 {
		t.Errorf("a late answer: %+v after %d looks", d, q.past.looks)
	}
}
