package relay

import (
	"time"

	"go.uber.org/zap"

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
func (p *poller) acceptGap(page *verify.Page, at position, h *host) bool {
	first := page.Messages[0].Nonce
	if len(p.gap.by.by) == 0 || first < p.gap.first {
		p.gap = gapDoubt{first: first}
		p.logger().Warn("messages are missing before those of a page, asking again",
			zap.String("host", h.name), zap.Uint64("missing", first-at.next))
	}
	if p.gap.by.add(h, p.g.up.hosts) {
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
func (p *poller) acceptPoison(page *verify.Page, skip int, h *host) bool {
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
			p.logger().Warn("message of the canister cannot be used", zap.String("host", h.name),
				zap.String("cause", string(cause)), zap.Error(m.Poison))
		}
		doubt.times++
		if believed := doubt.by.add(h, p.g.up.hosts); cause == verify.CauseClientKey && (!believed || doubt.times < poisonTries) {
			accept = false
		}
	}
	if !accept {
		p.avoid = h
		p.due = time.Now().Add(p.g.cfg.PollInterval)
	}
	return accept
}

// settled forgets the doubts about a page: one was accepted.
func (p *poller) settled() {
	p.gap = gapDoubt{}
	clear(p.poison)
}
