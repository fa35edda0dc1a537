package relay

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

// outboxMemory bounds the frames that wait for all clients together, and those that are being written. What ended sessions are still
// writing comes on top: up to eight frames or one large one each, for some seconds.
const outboxMemory = 256 << 20

// outFrame is a canister frame that waits for its client. Times are in nanoseconds since 1970.
type outFrame struct {
	*frame
	made int64 // when the canister made the message, by its clock
	stop int64 // when it is too old to be sent: the client would refuse the certificate
}

// outbox is what waits for one client. It belongs to the session, whose lock guards it.
type outbox struct {
	frames  []outFrame
	slot    [1]outFrame // of frames, while no more than one waits
	bytes   int64
	memory  int64  // what the frames occupy, with those in hand
	inHand  int64  // what the frames occupy that are being written
	writing bool   // somebody writes, or will at once
	over    bool   // nothing is written any more
	ping    bool   // a ping is due
	pong    []byte // due, the payload; nil = none
}

// push appends f unless that would exceed the bounds. A single frame is always taken: bounds below the size of one
// frame would otherwise shut a client out for good.
func (o *outbox) push(f outFrame, maxFrames int, maxBytes int64) bool {
	size := int64(f.size())
	if len(o.frames) > 0 && (len(o.frames) >= maxFrames || o.bytes+size > maxBytes) {
		return false
	}
	if o.frames == nil {
		o.frames = o.slot[:0]
	}
	if o.frames = append(o.frames, f); len(o.frames) > 1 {
		o.slot[0] = outFrame{} // they have moved
	}
	o.bytes += size
	o.memory += f.memory()
	return true
}

// pop takes the oldest frame, to be written: it is in hand until written is called.
func (o *outbox) pop() (outFrame, bool) {
	if len(o.frames) == 0 {
		return outFrame{}, false
	}
	f := o.frames[0]
	o.frames[0] = outFrame{}
	o.frames = o.frames[1:]
	if len(o.frames) == 0 {
		o.frames = nil // an idle session keeps no queue
	}
	o.bytes -= int64(f.size())
	o.inHand += f.memory()
	return f, true
}

// written lets go of the frames in hand, and returns what they occupied.
func (o *outbox) written() int64 {
	freed := o.inHand
	o.inHand = 0
	o.memory -= freed
	return freed
}

// clear lets go of everything, and returns what it occupied.
func (o *outbox) clear() int64 {
	freed := o.memory
	clear(o.frames)
	o.frames, o.bytes, o.memory, o.inHand = nil, 0, 0, 0
	return freed
}

// outboxes is what waits for all clients together.
type outboxes struct {
	limit    int64
	held     atomic.Int64
	reducing sync.Mutex
}

// reduceOutboxes makes some room again: what sessions that have ended still had to write is dropped, and then those with the largest
// outboxes are ended. It never blocks.
func (g *Gateway) reduceOutboxes() {
	if !g.outboxes.reducing.TryLock() {
		return
	}
	defer g.outboxes.reducing.Unlock()
	type debt struct {
		s     *session
		bytes int64
	}
	g.mu.Lock()
	all := g.snapshotSessions()
	g.mu.Unlock()
	debts := make([]debt, 0, len(all))
	for _, s := range all {
		s.mu.Lock()
		switch {
		case s.closing != nil:
			s.clearOutbox()
		case s.out.memory > 0:
			debts = append(debts, debt{s, s.out.memory})
		}
		s.mu.Unlock()
	}
	slices.SortFunc(debts, func(a, b debt) int { return cmp.Compare(b.bytes, a.bytes) })
	for _, d := range debts {
		if g.outboxes.held.Load() <= g.outboxes.limit/8*7 { // one by one, this would be done for each frame
			return
		}
		d.s.end(newClosing(SlowConsumer, "too much waits for clients that read slowly, most of it for this one, reconnect"))
	}
}
