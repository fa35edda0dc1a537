package queue

import (
	"reflect"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/relay/internal/quorum"
	"github.com/icws-gateway/caddy-icws/verify"
)

func TestPlace(t *testing.T) {
	for _, tc := range []struct {
		name              string
		next, first, last uint64
		want              place
		skip              int
	}{
		{"start of the queue", 0, 0, 49, placeNext, 0},
		{"continues", 50, 50, 99, placeNext, 0},
		{"overlaps", 60, 50, 99, placeNext, 10},
		{"overlaps but for one", 99, 50, 99, placeNext, 49},
		{"all old", 100, 50, 99, placeOld, 0},
		{"one missing", 50, 51, 60, placeGap, 0},
		{"retention at the start", 0, 7, 9, placeGap, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := position{next: tc.next}
			page := pageOf(tc.first, make([]uint64, tc.last-tc.first+1)...)
			if at, skip := p.place(page); at != tc.want || skip != tc.skip {
				t.Errorf("place(%d, %d) at %d = %v, %d, want %v, %d", tc.first, tc.last, tc.next, at, skip, tc.want, tc.skip)
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
	at := position{next: 10, marks: []mark{{3, 300}, {6, 600}, {9, 1000}}}
	overtaken := position{next: 10, marks: []mark{{1, 100}, {5, 500}, {9, 3000}}}
	for _, tc := range []struct {
		name  string
		at    position
		page  *verify.Page
		want  bool
		floor uint64
	}{
		{"new queue", at, pageOf(0, 2000, 2001), true, 1000},
		{"new queue without its first messages", at, pageOf(4, 2400, 2500), true, 1000},
		{"new queue from behind some of what was seen", at, pageOf(8, 2800), true, 1000},
		{"same queue from its beginning", at, pageOf(0, 100, 200, 300, 300, 400), false, 0},
		{"same queue, newest again", at, pageOf(9, 1000), false, 0},
		{"same queue has grown", at, pageOf(9, 1000, 1500), false, 0},
		{"same nonce and another message", at, pageOf(9, 1001), true, 1000},
		{"new queue that has grown past the position", overtaken, pageOf(0, 2000, 2001), true, 500},
		{"the same without its first messages", overtaken, pageOf(4, 2300, 2400), true, 500},
		{"new queue from the block of the newest message", at, pageOf(0, 1000, 1001), true, 999},
		{"a node that lags", at, pageOf(0, 100), false, 0},
		{"nothing seen yet", position{next: 10}, pageOf(0, 2000), false, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			floor, got := tc.at.restarted(tc.page)
			if got != tc.want || got && floor != tc.floor {
				t.Errorf("restarted = %d, %v, want %d, %v", floor, got, tc.floor, tc.want)
			}
			if got && tc.at.stale(tc.page) {
				t.Error("the new queue is held for one that has ended")
			}
		})
	}
}

func TestStale(t *testing.T) {
	at := position{next: 3, floor: 1000, marks: []mark{{0, 1200}, {2, 1500}}}
	for _, tc := range []struct {
		name string
		page *verify.Page
		want bool
	}{
		{"continues", pageOf(3, 1500, 1600), false},
		{"continues behind what was seen", pageOf(1, 1300, 1500, 1700), false},
		{"from the beginning", pageOf(0, 1200, 1300, 1500, 1700), false},
		{"behind a gap", pageOf(9, 1900), false},
		{"the queue before", pageOf(3, 900, 950), true},
		{"the queue before, newer than what was seen of it", pageOf(3, 1400), true},
		{"the queue before from its beginning", pageOf(0, 100, 200, 300, 400), true},
		{"the queue before, of which the floor knows nothing", pageOf(0, 1100, 1150), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := at.stale(tc.page); got != tc.want {
				t.Errorf("stale = %v, want %v", got, tc.want)
			}
			if floor, restarted := at.restarted(tc.page); restarted {
				t.Errorf("held for a new queue, floor %d", floor)
			}
		})
	}
	if (&position{}).stale(pageOf(0, 0, 0)) {
		t.Error("a queue without times is held for one that has ended")
	}
}

// A canister whose times do not grow with its nonces cannot be followed: its sessions end, and it does not look like one whose
// queue begins anew all the time.
func TestTimesThatFall(t *testing.T) {
	q, now := New(2*time.Minute), time.Unix(1000, 0)
	head := q.Next()
	q.Step(now, &Answer{Question: &head, Vote: quorum.Vote{Host: "a"}})
	for began := now; ; now = now.Add(100 * time.Millisecond) {
		q.Suspect(now)
		ask, due := q.Check(now, now, true)
		if !due {
			ask = q.Next()
		}
		switch d := q.Step(now, &Answer{Question: &ask, Vote: quorum.Vote{Host: "a"}, Page: pageOf(0, 100, 50, 60)}); {
		case d.Do == Restart, d.Do == Deliver:
			t.Fatalf("after %s: %+v", now.Sub(began), d)
		case d.Do == GiveUp:
			return
		}
		if now.Sub(began) > 3*time.Minute {
			t.Fatal("its sessions go on")
		}
	}
}

func TestAdvance(t *testing.T) {
	var p position
	p.advance(pageOf(5, 10, 20, 20, 30))
	want := position{next: 9, since: 10, marks: []mark{{5, 10}, {7, 20}, {8, 30}}}
	if !reflect.DeepEqual(p, want) {
		t.Fatalf("after a page: %+v", p)
	}
	p.advance(pageOf(6, 20, 20))
	if !reflect.DeepEqual(p, want) {
		t.Fatalf("an old page moved the position: %+v", p)
	}
	p.rewind(9)
	if !reflect.DeepEqual(p, want) {
		t.Fatalf("rewinding forwards moved the position: %+v", p)
	}
	p.rewind(6)
	want.next = 6
	if !reflect.DeepEqual(p, want) {
		t.Fatalf("after rewinding: %+v, want %+v", p, want)
	}
	p.restart(20)
	if want = (position{floor: 20, since: 30, marks: []mark{{8, 30}}}); !reflect.DeepEqual(p, want) {
		t.Fatalf("after a restart: %+v, want %+v", p, want)
	}
}

// However long a queue is, the marks stay few, the first one and many of the newest are kept, and they stay in order.
func TestMarksAreBounded(t *testing.T) {
	var p position
	for n := range uint64(100_000) {
		p.advance(pageOf(n, 1000+n))
	}
	if len(p.marks) > maxMarks || p.marks[0] != (mark{0, 1000}) {
		t.Fatalf("%d marks, the first is %v", len(p.marks), p.marks[0])
	}
	for i := 1; i < len(p.marks); i++ {
		if p.marks[i].nonce <= p.marks[i-1].nonce || p.marks[i].stamp <= p.marks[i-1].stamp {
			t.Fatalf("mark %d is %v, and the one before %v", i, p.marks[i], p.marks[i-1])
		}
	}
	for i := range uint64(100) {
		if got, want := p.marks[len(p.marks)-1-int(i)], (mark{99_999 - i, 100_999 - i}); got != want {
			t.Fatalf("the newest but %d is %v, want %v", i, got, want)
		}
	}
}
