package relay

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/verify"
)

const (
	methodClose = "ws_close"
	methodPoll  = "ws_get_messages"

	// closeWorkers bounds the ws_close calls under way.
	closeWorkers = 32
	// closeEffort is how long one ws_close is tried. After that the canister finds out by its keep-alive check.
	closeEffort = 45 * time.Second
	// maxCloses bounds the queue of the closer, some 60 bytes an entry.
	maxCloses = 100_000
	// ownExpiry is the ingress expiry of the gateway's own calls: less than the 5 minutes that the IC takes, to leave
	// room for clocks that are fast.
	ownExpiry = 4 * time.Minute
)

// closer tells canisters that clients have gone, in the background, a bounded number at a time.
type closer struct {
	g *Gateway

	mu      sync.Mutex
	waiting []goodbye
	workers int
	idle    chan struct{} // closed when nothing waits and no worker is left; nil if nobody asked
}

type goodbye struct {
	canister verify.Principal
	key      verify.ClientKey
}

func newCloser(g *Gateway) *closer { return &closer{g: g} }

// add queues a ws_close. It never blocks.
func (c *closer) add(canister verify.Principal, key verify.ClientKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.g.ctx.Err() != nil || len(c.waiting) >= maxCloses {
		return
	}
	c.waiting = append(c.waiting, goodbye{canister, key})
	if c.workers < closeWorkers {
		c.workers++
		c.g.spawn("closer", c.work, c.workerDone)
	}
}

func (c *closer) work() {
	for {
		c.mu.Lock()
		if len(c.waiting) == 0 || c.g.ctx.Err() != nil {
			c.waiting = nil
			c.mu.Unlock()
			c.workerDone()
			return
		}
		next := c.waiting[0]
		c.waiting = c.waiting[1:]
		c.mu.Unlock()
		if err := c.g.sendClose(c.g.ctx, next); err != nil {
			c.g.log().Debug("ws_close failed, the canister will notice by itself",
				zap.Stringer("canister_id", next.canister), zap.Error(err))
		}
	}
}

func (c *closer) workerDone() {
	c.mu.Lock()
	defer c.mu.Unlock()
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

// sendClose calls ws_close and sees it through to any outcome. An Err of the canister is fine: the client is gone.
func (g *Gateway) sendClose(ctx context.Context, b goodbye) error {
	ctx, cancel := context.WithTimeout(ctx, closeEffort)
	defer cancel()
	body, _, err := g.sign(&verify.Request{
		Type:     "call",
		Canister: b.canister,
		Method:   methodClose,
		Arg:      verify.AppendCloseArg(nil, b.key),
		Nonce:    randomNonce(),
	})
	if err != nil {
		return err
	}
	for failures := 0; ; {
		a, err := g.up.call(ctx, b.canister, body, nil, nil)
		pause := repostPause
		switch {
		case err == nil && (a == nil || a.status != 202):
			// Whether it was accepted or refused, there is nothing more to do.
			a.release()
			return nil
		case err == nil:
			a.release()
		case ctx.Err() != nil:
			return ctx.Err()
		case !isTransient(err):
			return err
		default:
			failures++
			pause = backoff(failures, submitBackoffMin, submitBackoffMax)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// sign completes r as the gateway's own request.
func (g *Gateway) sign(r *verify.Request) (body []byte, id [32]byte, err error) {
	r.IngressExpiry = time.Now().Add(ownExpiry)
	return r.Sign(g.cfg.Identity)
}

// randomNonce makes the request unique: the IC takes requests that are equal for the same one.
func randomNonce() []byte {
	n := make([]byte, 16)
	rand.Read(n) // never fails (crypto/rand)
	return n
}
