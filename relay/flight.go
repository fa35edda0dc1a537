package relay

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
)

// purpose is what a poll is for.
type purpose int

const (
	forNews  purpose = iota // the messages from the position on
	forProbe                // the beginning of the queue: has it begun anew?
	forProof                // the newest message seen: is it still there?
)

// flight is one poll under way.
type flight struct {
	purpose   purpose
	off       atomic.Int64   // when it left for the network, in unix nanoseconds; 0 while it waits for upstream_rate
	suspected time.Time      // since when the queue may have begun anew, for a look at it
	install   bool           // it reads the install time as well, if there is still reason to
	lagging   *upstream.Host // if possible not from this one
}

var errPanic = errors.New("fault in the gateway while polling")

// fly starts a poll; its answer comes to results.
func (p *poller) fly(f *flight, cl upstream.Class, avoid *upstream.Host) {
	p.flying = append(p.flying, f)
	p.g.spawn("poll", func() { p.results <- p.travel(p.g.ctx, f, cl, avoid) },
		func() { p.results <- &pollResult{flight: f, err: errPanic} })
}

// travel sees one poll through. Where it asks from is decided when its turn has come: what was news before it waited may
// have been delivered by then.
func (c *canister) travel(ctx context.Context, f *flight, cl upstream.Class, avoid *upstream.Host) *pollResult {
	if err := c.g.up.Admit(ctx, c.id, cl); err != nil {
		return &pollResult{flight: f, err: err}
	}
	f.off.Store(time.Now().UnixNano())
	nonce := c.position()
	switch f.purpose {
	case forProbe:
		nonce = 0
	case forProof:
		nonce = max(nonce, 1) - 1
	}
	r := c.fetch(ctx, nonce, cl, avoid, true)
	r.flight = f
	if f.purpose != forNews && r.empty {
		r.nodeErr = c.g.up.CheckNode(ctx, c.id, &r.answer)
	}
	if f.install && (f.purpose == forProbe || r.empty) {
		r.install = c.readInstall(ctx, f.lagging)
	}
	return r
}

// landed strikes a poll off those under way.
func (p *poller) landed(r *pollResult) {
	p.flying = slices.DeleteFunc(p.flying, func(f *flight) bool { return f == r.flight })
}

// mayFly reports whether one more poll for news may start. Only one at a time waits for upstream_rate: more would take
// turns that belong to other canisters, or to the next page. A poll that hangs must not keep the others from flying: the
// answers of a few slow nodes would hold up everybody's messages. It costs a connection though, so even those are
// bounded.
func (p *poller) mayFly(now time.Time, failing bool) bool {
	prompt := 0
	for _, f := range p.flying {
		if f.purpose != forNews {
			continue
		}
		off := f.off.Load()
		if off == 0 {
			return false
		}
		if now.Sub(time.Unix(0, off)) < hangs {
			prompt++
		}
	}
	if failing {
		return prompt == 0 && len(p.flying) < maxOverlap
	}
	return prompt < maxOverlap && len(p.flying) < maxFlying
}

// mayCheck reports whether a look at the queue itself may start: one at a time.
func (p *poller) mayCheck() bool {
	return len(p.flying) < maxFlying && !slices.ContainsFunc(p.flying, func(f *flight) bool { return f.purpose != forNews })
}
