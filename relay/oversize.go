package relay

import (
	"errors"

	"go.uber.org/zap"
)

// skipTries is how many polls in a row must be rejected before messages are skipped.
const skipTries = 3

// trySkipping looks for the next page that can be had when the one at the position can not: the canister's reply may
// be too large for the IC, and nothing makes it smaller from outside. The messages before that page are lost, and
// their clients are told at their next message; everybody else goes on.
func (p *poller) trySkipping(err error, failures int) {
	var rejected *rejectedPoll
	if !errors.As(err, &rejected) || rejected.trouble.reason != CanisterRefused || failures < skipTries || (failures-skipTries)%10 != 0 {
		return
	}
	from := p.here().next
	low, high := uint64(0), uint64(0) // low: known not to work; high: known to work
	for step := uint64(1); step <= 2*pageSize; step *= 2 {
		if p.servable(from + step) {
			high = step
			break
		}
		low = step
	}
	if high == 0 {
		return
	}
	for high-low > 1 {
		if mid := low + (high-low)/2; p.servable(from + mid) {
			high = mid
		} else {
			low = mid
		}
	}
	p.logger().Error("messages are skipped that the canister cannot deliver; their clients will be closed",
		zap.Uint64("messages", high), zap.Error(err))
	p.mu.Lock()
	p.at.next = from + high
	p.poll.failures = 0
	p.mu.Unlock()
	p.nudge()
}

// servable reports whether there is a page at nonce.
func (p *poller) servable(nonce uint64) bool {
	r := p.ask(p.g.ctx, nonce, classBusy, nil)
	defer r.release()
	if r.err != nil || r.reply.Failed || len(r.reply.Messages) == 0 {
		return false
	}
	_, err := p.verify(r)
	return err == nil
}
