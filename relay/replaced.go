package relay

import (
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// A canister keeps one session of a principal. The queue has the opens in the order in which the canister executed them, so each
// first message says of an earlier session of its principal that it is over.

// opened notes the first message of s, made at stamp.
func (c *canister) opened(s *session, stamp uint64) {
	c.g.turns.finish(s.turn, true)
	c.mu.Lock()
	c.queue.Forget(s.key)
	over, by := c.latest[s.key.Principal], s
	if over != nil && !over.openedBy(stamp) { // s has been read again, after a later one
		over, by = s, over
	}
	c.latest[s.key.Principal] = by
	c.mu.Unlock()
	if over != nil && over != by {
		over.endReplaced(by.place > over.place)
	}
	c.g.traffic.opened.Add(1)
	c.g.cfg.Metrics.SessionOpened(c.id, time.Since(s.started))
}

// openedByOther notes the first message m of a client that is not here: it has left, or it is one of another instance with this
// identity.
func (c *canister) openedByOther(m *verify.PageMessage) {
	c.mu.Lock()
	over := c.latest[m.Client.Principal]
	c.mu.Unlock()
	if over == nil || m.Timestamp == 0 || !over.openedBy(m.Timestamp-1) {
		return
	}
	// If the other client has left, the one that is still here should open again.
	over.endReplaced(!c.g.peers.hasLeft(c.departure(m.Client)))
}
