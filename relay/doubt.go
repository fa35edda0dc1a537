package relay

import (
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
	"github.com/icws-gateway/caddy-icws/verify"
)

// What is certified in a page cannot be forged; what a page leaves out and the routing keys in it can. Where that would
// cost clients their sessions, one boundary node is not believed, however often it says so: on a slow network several
// polls are under way at once, and all of them may have gone to the same node.

// gapDoubt is a gap that waits to be confirmed.
type gapDoubt struct {
	first uint64 // nonce of the message behind it
	by    denials
}

// acceptGap decides on a page that begins after the position. The canister deletes what is older than its retention
// time; but a node can leave messages out as well, and then another shows them.
func (p *poller) acceptGap(page *verify.Page, at position, h *upstream.Host) bool {
	first := page.Messages[0].Nonce
	if len(p.gap.by.by) == 0 || first < p.gap.first {
		p.gap = gapDoubt{first: first}
		p.logger().Warn("messages are missing before those of a page, asking again",
			zap.String("host", h.Name()), zap.Uint64("missing", first-at.next))
	}
	if p.gap.by.add(h, p.g.up.Hosts()) {
		return true
	}
	p.avoid = h
	p.due = time.Now()
	return false
}

// poisonTries is how often a page with a message for another client than it says is asked for before the canister is
// blamed.
const poisonTries = 3

// poisonDoubt is a message that cannot be used.
type poisonDoubt struct {
	times int
	by    denials
}

// acceptPoison decides on certified messages that cannot be used. What is certified stays as it is however often it is
// asked for; the routing key beside it is not certified, and may have been swapped on the way.
func (p *poller) acceptPoison(page *verify.Page, skip int, h *upstream.Host) bool {
	accept := true
	for i := skip; i < len(page.Messages); i++ {
		m := &page.Messages[i]
		if m.Poison == nil {
			continue
		}
		cause := verify.CauseOf(m.Poison)
		doubt := p.poison[m.Nonce]
		if doubt == nil {
			doubt = &poisonDoubt{}
			p.poison[m.Nonce] = doubt
			p.g.cfg.Metrics.VerificationFailed(p.id, cause)
			p.logger().Warn("message of the canister cannot be used", zap.String("host", h.Name()),
				zap.String("cause", string(cause)), zap.Error(m.Poison))
		}
		doubt.times++
		if believed := doubt.by.add(h, p.g.up.Hosts()); cause == verify.CauseClientKey && (!believed || doubt.times < poisonTries) {
			accept = false
		}
	}
	if !accept {
		p.avoid = h
		p.due = time.Now().Add(p.g.cfg.PollInterval)
	}
	return accept
}

// quietTries is how many empty answers in a row are taken from one boundary node before another is asked. They prove
// nothing: the node may hide the messages, and the fastest one would otherwise be asked for ever.
const quietTries = 8

// noteEmpty notes an empty answer of h.
func (p *poller) noteEmpty(h *upstream.Host) {
	if h != p.quiet {
		p.quiet, p.quietFor = h, 0
	}
	if p.quietFor++; p.quietFor >= quietTries && p.g.up.Hosts().Besides(h, p.id) {
		p.quietFor = 0
		p.avoid = h
	}
}

// haunted reports whether to believe that a page is of a queue that has ended since: nodes that lag go on showing that for
// a while. If it lasts longer, the canister is one in which times do not grow with nonces, and they tell nothing.
func (p *poller) haunted() bool {
	if p.ghosts.IsZero() {
		p.ghosts = time.Now()
	}
	p.unordered = p.unordered || time.Since(p.ghosts) > lagLimit
	return !p.unordered
}

// settled forgets the doubts about a page: one was accepted.
func (p *poller) settled() {
	p.ghosts = time.Time{}
	p.gap = gapDoubt{}
	clear(p.poison)
}
