package relay

import (
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

func TestPlace(t *testing.T) {
	for _, tc := range []struct {
		name              string
		next, first, last uint64
		want              verdict
		skip              int
	}{
		{"start of the queue", 0, 0, 49, verdictNext, 0},
		{"continues", 50, 50, 99, verdictNext, 0},
		{"overlaps", 60, 50, 99, verdictNext, 10},
		{"overlaps but for one", 99, 50, 99, verdictNext, 49},
		{"all old", 100, 50, 99, verdictOld, 0},
		{"one missing", 50, 51, 60, verdictGap, 0},
		{"retention at the start", 0, 7, 9, verdictGap, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := position{next: tc.next}
			v, skip := p.place(tc.first, tc.last)
			if v != tc.want || skip != tc.skip {
				t.Errorf("place(%d, %d) at %d = %v, %d, want %v, %d", tc.first, tc.last, tc.next, v, skip, tc.want, tc.skip)
			}
		})
	}
}

// pageOf makes a page of messages with consecutive nonces and the given timestamps.
func pageOf(first uint64, stamps ...uint64) *verify.Page {
	p := &verify.Page{}
	for i, s := range stamps {
		p.Messages = append(p.Messages, verify.PageMessage{Nonce: first + uint64(i), Timestamp: s})
	}
	return p
}

func TestRestarted(t *testing.T) {
	at := position{next: 10, seen: true, first: mark{3, 300}, newest: mark{9, 1000}}
	overtaken := position{next: 10, seen: true, first: mark{1, 100}, newest: mark{9, 3000}}
	for _, tc := range []struct {
		name string
		at   position
		page *verify.Page
		want bool
	}{
		{"new queue", at, pageOf(0, 2000, 2001), true},
		{"same queue from its beginning", at, pageOf(0, 100, 200, 300), false},
		{"same queue, newest again", at, pageOf(9, 1000), false},
		{"same queue has grown", at, pageOf(9, 1000, 1500), false},
		{"same nonce and another message", at, pageOf(9, 1001), true},
		{"new queue that has grown past the position", overtaken, pageOf(0, 2000, 2001), true},
		{"a node that lags", at, pageOf(0, 100), false},
		{"nothing seen yet", position{next: 10}, pageOf(0, 2000), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			floor, got := tc.at.restarted(tc.page)
			if got != tc.want {
				t.Errorf("restarted = %v, want %v", got, tc.want)
			}
			if got && floor != tc.page.Messages[0].Timestamp-1 {
				t.Errorf("floor is %d, want it just below the first message of the page", floor)
			}
		})
	}
}

func TestAdvance(t *testing.T) {
	var p position
	p.advance(pageOf(5, 10, 20, 30))
	want := position{next: 8, passed: 30, since: 10, seen: true, first: mark{5, 10}, newest: mark{7, 30}}
	if p != want {
		t.Fatalf("after a page: %+v", p)
	}
	p.advance(pageOf(6, 20))
	if p != want {
		t.Fatalf("an old page moved the position: %+v", p)
	}
	p.rewind(9)
	if p != want {
		t.Fatalf("rewinding forwards moved the position: %+v", p)
	}
	p.rewind(6)
	want.next, want.passed = 6, 0
	if p != want {
		t.Fatalf("after rewinding: %+v, want %+v", p, want)
	}
}

func TestOutlived(t *testing.T) {
	at := position{next: 3, floor: 1000, passed: 1500}
	for _, tc := range []struct {
		name string
		page *verify.Page
		skip int
		want bool
	}{
		{"continues", pageOf(3, 1500, 1600), 0, false},
		{"continues behind what is skipped", pageOf(1, 1200, 1500, 1700), 2, false},
		{"the queue before", pageOf(3, 900, 950), 0, true},
		{"the queue before, newer than what was seen of it", pageOf(3, 1400), 0, true},
		{"the queue before, skipped in part", pageOf(0, 100, 200, 300, 400), 3, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := at.outlived(tc.page, tc.skip); got != tc.want {
				t.Errorf("outlived = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestKeyNonce(t *testing.T) {
	for key, want := range map[string]uint64{
		"gateway_00000000000000000000": 0,
		"gateway_00000000000000000042": 42,
		"x_18446744073709551615":       1<<64 - 1,
	} {
		if n, ok := keyNonce([]byte(key)); !ok || n != want {
			t.Errorf("keyNonce(%q) = %d, %v", key, n, ok)
		}
	}
	for _, key := range []string{"", "1", "gateway_0000000000000000004x", "x_18446744073709551616", "x_99999999999999999999"} {
		if n, ok := keyNonce([]byte(key)); ok {
			t.Errorf("keyNonce(%q) = %d, want a refusal", key, n)
		}
	}
}

func TestPace(t *testing.T) {
	const ms = time.Millisecond
	for _, tc := range []struct{ silent, want time.Duration }{
		{0, 100 * ms},
		{29 * time.Second, 100 * ms},
		{30 * time.Second, 150 * ms},
		{36 * time.Second, 225 * ms},
		{41 * time.Second, 337*ms + 500*time.Microsecond},
		{50 * time.Second, 500 * ms},
		{time.Hour, 500 * ms},
	} {
		if got := pace(tc.silent, 100*ms, 500*ms); got != tc.want {
			t.Errorf("pace after %s = %s, want %s", tc.silent, got, tc.want)
		}
	}
}

// A session that is let in late moves the position back, perhaps while a page is being handed out. It stays there.
func TestDeliverLeavesAPositionThatMovedBack(t *testing.T) {
	for _, moved := range []bool{false, true} {
		p := newPoller(newCanister(&Gateway{cfg: Config{KeepOrphans: true}}, verify.Principal{}))
		p.at = position{next: 10}
		at := p.here()
		want := uint64(12)
		if moved {
			p.at.rewind(5)
			want = 5
		}
		p.deliver(pageOf(10, 100, 200), 0, at)
		if got := p.here().next; got != want {
			t.Errorf("moved back %v: position is at %d, want %d", moved, got, want)
		}
	}
}
