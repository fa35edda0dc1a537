package queue

import (
	"slices"

	"github.com/icws-gateway/caddy-icws/verify"
)

// position is where the gateway stands in a queue.
type position struct {
	next  uint64 // nonce of the next message
	floor uint64 // everything in this queue is younger, by the canister's clock in nanoseconds; 0 = not known
	since uint64 // this queue was there then, and is followed since; 0 = not known
	marks []mark // what was seen of this queue, oldest first
}

// mark is the last message that was seen of one block: its nonce and when it was made.
type mark struct{ nonce, stamp uint64 }

// maxMarks bounds the marks. The first one and the newest ones are kept, and fewer and fewer in between.
const maxMarks = 256

// endedBefore reports whether the queue of the mark ended before that of m began: m comes earlier and is younger.
func (k mark) endedBefore(m *verify.PageMessage) bool {
	return m.Nonce <= k.nonce && m.Timestamp > k.stamp
}

// beganAfter reports whether the queue of the mark began after that of m had ended: m comes later and is older.
func (k mark) beganAfter(m *verify.PageMessage) bool {
	return m.Nonce >= k.nonce && m.Timestamp < k.stamp
}

// seen reports whether a message of this queue was seen.
func (p *position) seen() bool { return len(p.marks) > 0 }

// newest is the newest message seen. Only where seen.
func (p *position) newest() mark { return p.marks[len(p.marks)-1] }

// place is where a page lies to the position.
type place int

const (
	placeNext place = iota // it continues the queue
	placeOld               // it holds nothing new: a node that lags, or a poll that another has overtaken
	placeGap               // it begins after the position
)

// place says where page lies, and how many of its messages come before the position.
func (p *position) place(page *verify.Page) (at place, skip int) {
	first, last := page.Messages[0].Nonce, page.Messages[len(page.Messages)-1].Nonce
	switch {
	case last < p.next:
		return placeOld, 0
	case first > p.next:
		return placeGap, 0
	}
	return placeNext, int(p.next - first)
}

// stale reports whether page is of a queue that has ended: its messages are older than what was seen of the present one, or
// than the end of the one before. A node that lags gives such pages. A page of the present queue never looks like that.
func (p *position) stale(page *verify.Page) bool {
	j := len(p.marks) - 1 // the newest mark that does not come after the message
	for i := len(page.Messages) - 1; i >= 0; i-- {
		m := &page.Messages[i]
		if m.Poison != nil {
			continue
		}
		for j >= 0 && p.marks[j].nonce > m.Nonce {
			j--
		}
		if j >= 0 && p.marks[j].beganAfter(m) || m.Timestamp <= p.floor && p.floor > 0 {
			return true
		}
	}
	return false
}

// disordered reports whether a message of page is older than one before it, which in no queue of an honest canister is so.
func disordered(page *verify.Page) bool {
	last := uint64(0)
	for i := range page.Messages {
		m := &page.Messages[i]
		if m.Poison != nil {
			continue
		}
		if m.Timestamp < last {
			return true
		}
		last = m.Timestamp
	}
	return false
}

// restarted reports whether page shows that the queue began anew: one of its messages comes before one that was seen and is
// younger. No lag and no omission can make it look so. floor is for the new queue.
//
// The floor is the time of the newest mark that is contradicted, which is of the old queue. It is not the time of the first message of
// page: a node can leave messages out, and then what honest nodes show would count as old. But the floor is before that message,
// as the last message of the old queue and the first of the new one may be of the same block.
func (p *position) restarted(page *verify.Page) (floor uint64, restarted bool) {
	if !p.seen() || page.Messages[0].Nonce > p.newest().nonce {
		return 0, false
	}
	first := uint64(0) // time of the first message of page
	for i := range page.Messages {
		m := &page.Messages[i]
		if m.Poison != nil {
			continue
		}
		if first == 0 {
			first = m.Timestamp
		}
		for j := len(p.marks) - 1; j >= 0 && p.marks[j].nonce >= m.Nonce; j-- {
			if p.marks[j].endedBefore(m) {
				floor, restarted = max(floor, p.marks[j].stamp), true
				break // those before it are older
			}
		}
	}
	return min(floor, max(first, 1)-1), restarted
}

// restart moves to the beginning of a new queue. Of what was seen the younger part is of that. (The first block of it may be
// the last one of the old queue.)
func (p *position) restart(floor uint64) {
	old := 0
	for old < len(p.marks) && p.marks[old].stamp <= floor+1 {
		old++
	}
	*p = position{floor: floor, marks: p.marks[old:]}
	if p.seen() {
		p.since = p.marks[0].stamp
	}
}

// advance moves behind the messages of page.
func (p *position) advance(page *verify.Page) {
	for i := range page.Messages {
		m := &page.Messages[i]
		p.next = max(p.next, m.Nonce+1)
		if m.Poison != nil {
			continue
		}
		if p.since == 0 {
			p.since = m.Timestamp
		}
		p.mark(mark{m.Nonce, m.Timestamp})
	}
}

// mark adds a mark, unless its block has one of a later message.
func (p *position) mark(m mark) {
	i := len(p.marks)
	for i > 0 && p.marks[i-1].nonce > m.nonce {
		i--
	}
	switch {
	case i < len(p.marks) && p.marks[i].stamp == m.stamp, i > 0 && p.marks[i-1].nonce == m.nonce:
		return // read again
	case i > 0 && p.marks[i-1].stamp == m.stamp:
		p.marks[i-1].nonce = m.nonce
		return
	}
	p.marks = slices.Insert(p.marks, i, m)
	if len(p.marks) > maxMarks {
		half := maxMarks / 2
		for i := range half / 2 {
			p.marks[i] = p.marks[2*i]
		}
		p.marks = slices.Delete(p.marks, half/2, half)
	}
}

// rewind moves back to nonce.
func (p *position) rewind(nonce uint64) {
	if nonce < p.next {
		p.next = nonce
	}
}
