package relay

import "time"

// Bounds of what one client may have waiting for submission; then its socket is not read. One envelope is always
// taken, whatever its size.
const (
	inboxFrames = 32
	inboxBytes  = 1 << 20
)

// envelope is a client's envelope on its way to the canister.
type envelope struct {
	body    []byte   // exact bytes with the CBOR tag in front, as they are posted
	id      [32]byte // request ID
	expiry  time.Time
	open    bool // ws_open, else ws_message
	late    bool // ws_open whose signature could not be checked here: routed once the canister accepted it
	arrived time.Time
	held    lease
	// executed is a certified time by which the canister had executed it; zero = none is known.
	executed time.Time
}

// inboxPhase is what an inbox does. It only grows.
type inboxPhase uint8

const (
	inboxOpen      inboxPhase = iota // takes envelopes
	inboxFinishing                   // takes nothing more; what waits and what is under way is still submitted
	inboxDropped                     // what waits is dropped, and what is under way is given up, except for a ws_open
)

// inbox is what waits to be submitted, first in, first out. It belongs to the session, whose lock guards it.
type inbox struct {
	waiting  []*envelope
	slot     [1]*envelope // of waiting, while no more than one waits
	bytes    int
	underway int       // taken out, and not done
	memory   int64     // what they hold of the memory for messages, with those in the reader's hand
	outcome  time.Time // when the last one was done, or came while there was no other
	relaying bool      // a relayer exists
	phase    inboxPhase
	space    chan struct{} // closed when there may be room again; set while the reader waits
	heldUp   time.Time     // when the reader last waited for room
}

func (i *inbox) full() bool {
	return len(i.waiting) >= inboxFrames || i.bytes >= inboxBytes
}

// takes reports whether there is room for e. A client has one small message for free; whatever waits behind another one is
// counted in m.
func (i *inbox) takes(e *envelope, m *memory) bool {
	before := e.held.held
	ok := i.idle() || !i.full() && e.held.count(m, int64(len(e.body)))
	i.memory += e.held.held - before
	return ok
}

// arrived notes that e is here, before there is room for it.
func (i *inbox) arrived(e *envelope) {
	if i.idle() {
		i.outcome = time.Now()
	}
	i.memory += e.held.held
}

// done notes that nothing is left to do for e, and gives its memory back.
func (i *inbox) done(e *envelope) {
	i.memory -= e.held.held
	e.held.release()
}

func (i *inbox) push(e *envelope) {
	if i.waiting == nil {
		i.waiting = i.slot[:0]
	}
	if i.waiting = append(i.waiting, e); len(i.waiting) > 1 {
		i.slot[0] = nil // they have moved
	}
	i.bytes += len(e.body)
}

// pop takes the oldest envelope, nil if there is none. It is under way until envelopeDone is called.
func (i *inbox) pop() *envelope {
	if len(i.waiting) == 0 {
		return nil
	}
	e := i.waiting[0]
	i.waiting[0] = nil
	i.waiting = i.waiting[1:]
	if len(i.waiting) == 0 {
		i.waiting = nil
	}
	i.bytes -= len(e.body)
	i.underway++
	i.release()
	return e
}

// idle reports whether nothing waits and nothing is under way.
func (i *inbox) idle() bool { return len(i.waiting) == 0 && i.underway == 0 }

// finish takes nothing more and lets the reader go. What waits is still submitted.
func (i *inbox) finish() {
	i.phase = max(i.phase, inboxFinishing)
	i.release()
}

// drop takes nothing more, lets the reader go and drops what waits.
func (i *inbox) drop() {
	for _, e := range i.waiting {
		i.done(e)
	}
	i.waiting, i.slot[0], i.bytes = nil, nil, 0
	i.phase = inboxDropped
	i.release()
}

// release lets the reader go.
func (i *inbox) release() {
	if i.space != nil {
		close(i.space)
		i.space = nil
	}
}
