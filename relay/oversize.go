package relay

import (
	"errors"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
)

// skipTries is how many polls in a row must be rejected before messages are skipped.
const skipTries = 3

// maxSkip bounds the messages that are skipped at once.
const maxSkip = 1 << 20

// trySkipping looks for the next page that can be had when the one at the position can not: the canister's reply may
// be too large for the IC, and nothing makes it smaller from outside. The messages before that page are lost, and
// their clients are told at their next message; everybody else goes on.
func (p *poller) trySkipping(err error, failures int) {
	var rejected *rejectedPoll
	if !errors.As(err, &rejected) || rejected.rejection.reason != CanisterRefused || failures < skipTries || (failures-skipTries)%10 != 0 {
		return
	}
	from := p.here().next
	skip, err := firstServable(func(skip uint64) (shelf, error) { return p.lookAhead(from + skip) })
	if err != nil || skip == 0 {
		return // not now, or it was one node's word only
	}
	p.logger().Error("messages are skipped that the canister cannot deliver; their clients will be closed",
		zap.Uint64("messages", skip), zap.Error(rejected))
	p.mu.Lock()
	if p.at.next == from {
		p.at.next = from + skip
	}
	p.poll.failures = 0
	p.mu.Unlock()
	p.nudge()
}

// shelf is what there is at a nonce.
type shelf int

const (
	unservable shelf = iota // a page that cannot be had
	servable                // a page
	bare                    // nothing: the queue ends before
)

// firstServable returns how many messages must be skipped to get to a page that can be had: 0 if none or if there is no
// such page. A page needs fewer than any before it, as all pages are equally long up to the end of the queue; and there
// may be some only just before that end.
func firstServable(look func(skip uint64) (shelf, error)) (uint64, error) {
	now, err := look(0)
	if err != nil || now != unservable {
		return 0, err
	}
	low, high, end := uint64(0), uint64(0), uint64(0) // unservable; servable, bare, 0 = not known
	for step := uint64(1); high == 0; {
		switch {
		case end == 0 && step > maxSkip, end != 0 && end-low <= 1:
			return 0, nil
		case end != 0:
			step = low + (end-low)/2
		}
		at, err := look(step)
		if err != nil {
			return 0, err
		}
		switch at {
		case servable:
			high = step
		case bare:
			end = step
		default:
			low = step
			step *= 2
		}
	}
	for high-low > 1 {
		mid := low + (high-low)/2
		at, err := look(mid)
		if err != nil {
			return 0, err
		}
		switch at {
		case servable:
			high = mid
		case bare:
			return 0, nil // a node that lags: skipping by its word would lose messages
		default:
			low = mid
		}
	}
	return high, nil
}

// lookAhead asks what there is at nonce. That there is a page which cannot be had is believed when two boundary nodes
// say so, if there are two. The error is any other failure: it must not cost messages.
func (p *poller) lookAhead(nonce uint64) (shelf, error) {
	var avoid *upstream.Host
	for range min(2, len(p.g.up.Hosts())) {
		at, h, err := p.lookOnce(nonce, avoid)
		switch {
		case err != nil || at != unservable:
			return at, err
		case h == avoid:
			return unservable, errors.New("no other boundary node gives an answer")
		}
		avoid = h
	}
	return unservable, nil
}

func (p *poller) lookOnce(nonce uint64, avoid *upstream.Host) (shelf, *upstream.Host, error) {
	r := p.ask(p.g.ctx, nonce, upstream.ClassBusy, avoid)
	defer r.release()
	var rejected *rejectedPoll
	switch {
	case errors.As(r.err, &rejected) && rejected.rejection.reason == CanisterRefused:
		return unservable, rejected.host, nil
	case r.err != nil:
		return unservable, nil, r.err
	case r.reply.Failed:
		return unservable, nil, errors.New(r.reply.Err)
	case len(r.reply.Messages) == 0:
		return bare, nil, nil
	}
	_, err := p.verify(r)
	return servable, nil, err
}
