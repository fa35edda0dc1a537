package relay

import (
	"sync"
	"time"
)

// handOut is the writing to those for whom a page brought messages. One goroutine does it, client after client: one for each would cost
// more than the writing. Nobody can say beforehand whether a write will wait for its client, so it is the time that tells: when
// handOutPatience is over and clients are left, others go on with them, twice as many each time.
type handOut struct {
	g *Gateway

	mu      sync.Mutex
	left    []*session
	writers int
	timer   *time.Timer // nil if nobody is left for others
}

// handOutPatience is how long clients wait for one before them in the same page that does not read.
const handOutPatience = 5 * time.Millisecond

// handOut writes to sessions, to which the caller was told by send to write. It does not wait for that. The slice is its own from now
// on.
func (g *Gateway) handOut(sessions []*session) {
	if len(sessions) == 0 {
		return
	}
	h := &handOut{g: g, left: sessions}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.startWriters(1)
}

// startWriters starts that many more writers, and looks after them. The caller holds mu.
func (h *handOut) startWriters(n int) {
	h.writers += n
	for range n {
		var s *session
		h.g.spawn("writer", func() {
			for s = h.next(); s != nil; s = h.next() {
				s.write()
			}
		}, func() { s.abort(newClosing(InternalError, "")) })
	}
	if len(h.left) > n {
		h.timer = time.AfterFunc(handOutPatience, h.late)
	}
}

// next takes a session that is to be written to, nil if none is left.
func (h *handOut) next() *session {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.left) == 0 {
		if h.timer != nil {
			h.timer.Stop()
		}
		return nil
	}
	s := h.left[0]
	h.left[0], h.left = nil, h.left[1:]
	return s
}

// late starts more writers if sessions are left.
func (h *handOut) late() {
	h.g.mu.Lock() // no goroutine may be started once Close has begun
	defer h.g.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer = nil
	if !h.g.closed && len(h.left) > 0 {
		h.startWriters(h.writers)
	}
}
