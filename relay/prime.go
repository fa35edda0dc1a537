package relay

import (
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay/internal/pause"
	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
	"github.com/icws-gateway/caddy-icws/verify"
)

// pageSize is how many messages a canister returns at most, by the CDK's default. It only shapes the search.
const pageSize = 50

// prime finds the head of the queue, which may hold thousands of messages of an earlier run: they are for clients that
// are gone. It reports whether it did; otherwise the gateway has ended or nobody is waiting any more.
//
// The first page tells the time at the canister. A client whose ws_open is submitted after that gets only messages
// made after that. So everything older can be skipped, and the first younger message is searched for by doubling steps
// and then by halving. Only certified messages move the lower end of the search, so a node that lags or lies can make
// it slower and not wrong.
func (p *poller) prime() bool {
	select {
	case <-p.primed:
		return true
	default:
	}
	for {
		ok := p.primeOnce()
		if ok {
			close(p.primed)
			return true
		}
		if p.g.ctx.Err() != nil || p.deserted() {
			return false
		}
		if pause.Sleep(p.g.ctx, max(time.Until(p.due), p.g.cfg.PollInterval)) != nil {
			return false
		}
	}
}

func (p *poller) primeOnce() bool {
	// From the position, which is not 0 if what the queue begins with cannot be had.
	r := p.ask(p.g.ctx, p.here().next, upstream.ClassBusy, p.avoid)
	defer r.release()
	if r.err != nil || r.reply.Failed || len(r.reply.Messages) == 0 {
		p.handle(r)
		return r.err == nil && !r.reply.Failed
	}
	page, err := p.verify(r)
	if err != nil {
		p.failed(err, r.took)
		return false
	}
	p.works(r, OutcomeOK, len(page.Messages), page.Time)
	p.skip(page, r.reply.EndOfQueue, uint64(page.Time.UnixNano()))
	return true
}

// skip moves the position to the first message that was made at start or later.
func (p *poller) skip(page *verify.Page, end bool, start uint64) {
	low, found := lastBefore(page, start) // nonce of the newest message known to be older
	if !found {
		return // nothing here is older: begin with it
	}
	if !end && low == page.Messages[len(page.Messages)-1].Nonce {
		low = search(low, 0, func(nonce uint64) (uint64, bool, error) { return p.lookAt(nonce, start) })
	}
	p.mu.Lock()
	p.at.next, p.at.since = low+1, start
	p.mu.Unlock()
	if !p.g.cfg.KeepOrphans {
		oldest := page.Messages[0].Nonce
		p.g.spawn("orphan scan", func() { p.scanOrphans(p.g.ctx, oldest, low+1, start) }, nil)
	}
	p.logger().Debug("skipped messages of an earlier run", zap.Uint64("messages", low+1))
}

// maxLooks bounds a search. The longest queue there can be takes fewer; a canister that contradicts itself might keep the
// search going for ever.
const maxLooks = 96

// search returns the nonce of an old message that has at most about a page of such behind it. low is one that is known to
// be old, high one that is known not to be, or 0. look tells whether there is an old message at nonce or behind it, in
// one page, and the nonce of the last such one.
func search(low, high uint64, look func(nonce uint64) (at uint64, older bool, err error)) uint64 {
	step := uint64(pageSize)
	for range maxLooks {
		probe := low + step
		if high != 0 {
			probe = low + (high-low)/2
		}
		if high != 0 && (high <= low || high-low <= pageSize) || probe < low {
			break
		}
		at, older, err := look(probe)
		switch {
		case err != nil:
			return low // searching is a favour: go on from here
		case older:
			low = max(low, at)
			step *= 4
		default:
			high = probe
		}
	}
	return low
}

// lookAt polls from nonce and reports whether there is a message older than start, and the nonce of the last such one.
func (p *poller) lookAt(nonce, start uint64) (at uint64, older bool, err error) {
	r := p.ask(p.g.ctx, nonce, upstream.ClassBusy, p.avoid)
	defer r.release()
	switch {
	case r.err != nil:
		return 0, false, r.err
	case r.reply.Failed:
		return 0, false, errors.New(r.reply.Err)
	case len(r.reply.Messages) == 0:
		return 0, false, nil
	}
	page, err := p.verify(r)
	if err != nil {
		return 0, false, err
	}
	at, older = lastBefore(page, start)
	return at, older, nil
}

// lastBefore returns the nonce of the last message of page that was made before start.
func lastBefore(page *verify.Page, start uint64) (nonce uint64, ok bool) {
	for i := range page.Messages {
		m := &page.Messages[i]
		if m.Poison == nil && m.Timestamp >= start {
			break
		}
		nonce, ok = m.Nonce, true
	}
	return nonce, ok
}
