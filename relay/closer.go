package relay

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay/internal/pause"
	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
	"github.com/icws-gateway/caddy-icws/verify"
)

const (
	methodClose = "ws_close"
	methodPoll  = "ws_get_messages"

	// closeWorkers bounds the ws_close calls under way, so that clients that leave do not hold up those that stay.
	closeWorkers = 32
	// drainWorkers does so while the gateway drains. A call takes about 2 s, and the time for all of them is short.
	drainWorkers = 256
	// closeEffort is how long one ws_close is tried. After that the canister finds out by its keep-alive check.
	closeEffort = 45 * time.Second
	// closeRefusals is how many refusals that may pass one ws_close is tried for: a canister that is stopped for good must
	// not keep the workers from the others.
	closeRefusals = 4
	// maxCloses bounds the queue of the closer, some 60 bytes an entry.
	maxCloses = 100_000
)

// closer tells canisters that clients have gone, in the background, a bounded number at a time.
type closer struct {
	g *Gateway

	mu      sync.Mutex
	waiting []closeCall
	workers int
	limit   int           // of workers
	idle    chan struct{} // closed when nothing waits and no worker is left; nil if nobody asked
}

// closeCall is a ws_close that is due.
type closeCall struct {
	canister verify.Principal
	key      verify.ClientKey
}

func newCloser(g *Gateway) *closer { return &closer{g: g, limit: closeWorkers} }

// hurry lets more calls be under way from now on.
func (c *closer) hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = drainWorkers
	for range min(len(c.waiting), c.limit-c.workers) {
		c.startWorker()
	}
}

// add queues a ws_close. It never blocks.
func (c *closer) add(canister verify.Principal, key verify.ClientKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.g.ctx.Err() != nil || len(c.waiting) >= maxCloses {
		return
	}
	c.waiting = append(c.waiting, closeCall{canister, key})
	if c.workers < c.limit {
		c.startWorker()
	}
}

// startWorker starts one more worker. The caller holds mu.
func (c *closer) startWorker() {
	c.workers++
	c.g.spawn("closer", c.work, c.crashed)
}

func (c *closer) work() {
	for {
		next, more := c.next()
		if !more {
			return
		}
		if err := c.g.sendClose(c.g.ctx, next); err != nil {
			c.g.log().Debug("ws_close failed, the canister will notice by itself",
				zap.Stringer("canister_id", next.canister), zap.Error(err))
		}
	}
}

// next takes the next call. If there is none, the worker is counted out under the same lock: otherwise a call that is added in
// between would be left with no worker.
func (c *closer) next() (next closeCall, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 || c.g.ctx.Err() != nil {
		c.waiting = nil
		c.countOut()
		return closeCall{}, false
	}
	next = c.waiting[0]
	c.waiting = c.waiting[1:]
	return next, true
}

// crashed counts out a worker that has panicked.
func (c *closer) crashed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.countOut()
}

// countOut counts out a worker. The caller holds mu.
func (c *closer) countOut() {
	c.workers--
	if c.workers == 0 && len(c.waiting) == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

// wait returns when every queued ws_close is done, or ctx ends; then it returns how many are not.
func (c *closer) wait(ctx context.Context) int {
	c.mu.Lock()
	if c.workers == 0 && len(c.waiting) == 0 {
		c.mu.Unlock()
		return 0
	}
	if c.idle == nil {
		c.idle = make(chan struct{})
	}
	idle := c.idle
	c.mu.Unlock()
	select {
	case <-idle:
		return 0
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting) + c.workers
}

// sendClose calls ws_close until it has any outcome. An Err of the canister is fine: the client is gone.
func (g *Gateway) sendClose(ctx context.Context, call closeCall) error {
	ctx, cancel := context.WithTimeout(ctx, closeEffort)
	defer cancel()
	body, _, err := g.up.SignCall(call.canister, methodClose, verify.AppendCloseArg(nil, call.key))
	if err != nil {
		return err
	}
	for failures, refusals := 0, 0; ; {
		a, err := g.up.Call(ctx, call.canister, body, nil, upstream.Stages{})
		pending, again := a != nil && a.Status == 202, refusedForNow(a)
		a.Release()
		if again {
			refusals++
		}
		wait := repostPause
		switch {
		case err == nil && !pending && (!again || refusals >= closeRefusals):
			return nil // whether it was accepted or refused, there is nothing more to do
		case err == nil && pending:
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !upstream.IsTransient(err):
			return err
		default:
			failures++
			wait = pause.Backoff(failures, submitBackoffMin, submitBackoffMax)
		}
		if err := pause.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// refusedForNow reports whether a is a refusal of a call, without proof, that may pass: the canister is stopped for an
// upgrade, say.
func refusedForNow(a *upstream.Answer) bool {
	if a == nil || a.Status == 202 {
		return false
	}
	reply, err := verify.ParseCallReply(a.Body)
	return err == nil && reply.Rejected && diagnose(reply.RejectCode, reply.ErrorCode, reply.RejectMessage).passing
}
