package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/verify"
)

const appID = "icws"

func init() {
	caddy.RegisterModule(new(App))
}

// App gives the icws handlers of a configuration a part in its life: it learns when the configuration starts, which is
// when gateways are acquired and identities may be created, and when Caddy is about to exit, which is when sessions begin to
// drain. It has no settings. The handlers load it themselves; it needs no place in a configuration.
type App struct {
	ctx   caddy.Context
	grace atomic.Int64 // Caddy's grace_period; 0 is none

	mu   sync.Mutex
	refs []*gatewayRef
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: appID, New: func() caddy.Module { return new(App) }}
}

// Provision asks to be told when Caddy stops.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx = ctx
	events, err := ctx.App("events")
	if err != nil {
		return err
	}
	return events.(*caddyevents.App).On("stopping", stopping{a})
}

// add registers the gateway of a handler.
func (a *App) add(ref *gatewayRef) *gatewayRef {
	a.mu.Lock()
	defer a.mu.Unlock()
	ref.app, ref.ended = a, make(chan struct{})
	a.refs = append(a.refs, ref)
	return ref
}

func (a *App) all() []*gatewayRef {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.refs[:len(a.refs):len(a.refs)]
}

// Start acquires the gateways. A failure, such as an identity that cannot be stored, fails the configuration, and the
// one before stays in force.
func (a *App) Start() error {
	// The handlers that load this app are a part of the http app, which cannot be asked for before now.
	if app, err := a.ctx.AppIfConfigured("http"); err == nil {
		a.grace.Store(int64(app.(*caddyhttp.App).GracePeriod))
	}
	a.ctx = caddy.Context{} // not needed any more
	for _, ref := range a.all() {
		if _, err := ref.acquire(); err != nil {
			return err
		}
	}
	return nil
}

// Stop does nothing: the handlers give their gateways back when they are cleaned up, which also happens to
// configurations that never started.
func (a *App) Stop() error { return nil }

// stopping begins the drain as soon as Caddy has decided to exit, before it waits for its HTTP servers: they would wait for
// the sessions of HTTP/2 and HTTP/3 clients, and all gateways drain side by side. On a reload the event means nothing yet,
// because the next configuration may hold the same gateways.
type stopping struct{ app *App }

// Handle implements caddyevents.Handler.
func (s stopping) Handle(context.Context, caddy.Event) error {
	if caddy.Exiting() {
		for _, ref := range s.app.all() {
			ref.drain(relay.Draining)
		}
	}
	return nil
}

// gatewayRef is one handler's claim on a pooled gateway.
type gatewayRef struct {
	config    relay.Config // without identity
	source    *identitySource
	storage   certmagic.Storage
	logger    *zap.Logger
	canisters map[verify.Principal]struct{} // those that get a metric label of their own

	app   *App
	ended chan struct{} // closed when the configuration has ended

	// acquired is pooled, to be read without the lock. It stays after the release: requests that the old servers still have
	// when a reload cleans up are served by the gateway if another configuration holds it, and refused by its drain if not.
	acquired atomic.Pointer[pooled]

	mu       sync.Mutex
	pooled   *pooled
	released bool
}

// peek returns the gateway if it has been acquired, else nil. It never waits.
func (g *gatewayRef) peek() *pooled { return g.acquired.Load() }

// errReleased is returned by acquire once the configuration has ended.
var errReleased = errors.New("this configuration has ended, connect again")

// acquire returns the gateway, getting it from the pool the first time. The HTTP app may start before the icws app does,
// so the first request may be the first to ask.
func (g *gatewayRef) acquire() (*pooled, error) {
	if p := g.peek(); p != nil {
		return p, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.released:
		return nil, errReleased
	case g.pooled != nil:
		return g.pooled, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), storageTimeout)
	defer cancel()
	id, err := g.source.load(ctx, g.storage)
	if err != nil {
		return nil, err
	}
	cfg := g.config
	cfg.Identity = id
	p, err := acquirePooled(ctx, cfg, g)
	if err != nil {
		return nil, fmt.Errorf("starting the gateway: %w", err)
	}
	g.pooled = p
	g.acquired.Store(p)
	return p, nil
}

// drain begins to end the sessions of the gateway, if it was acquired.
func (g *gatewayRef) drain(reason relay.CloseReason) {
	g.mu.Lock()
	p := g.pooled
	g.mu.Unlock()
	if p != nil {
		p.drain(reason)
	}
}

// outlast returns when a session over HTTP/3 has ended, or need not be looked after any more. When a configuration ends, its
// HTTP/3 server cuts what is still open after grace_period, unlike those of HTTP/1.1 and HTTP/2. Such sessions have to go,
// so they are told to, spread over that time.
func (g *gatewayRef) outlast(ticket *relay.Ticket, stream *streamConn) {
	select {
	case <-stream.done:
		return
	case <-g.ended:
	}
	grace := time.Duration(g.app.grace.Load())
	if grace <= 0 {
		return
	}
	timer := time.NewTimer(rand.N(grace*2/3 + 1))
	defer timer.Stop()
	select {
	case <-stream.done:
	case <-timer.C:
		ticket.End(relay.Reconfigured)
	}
}

// release gives the gateway back. It is safe to call on a claim that was never acquired, and more than once.
func (g *gatewayRef) release() error {
	g.mu.Lock()
	p, done := g.pooled, g.released
	g.released = true
	g.mu.Unlock()
	if !done && g.ended != nil {
		close(g.ended)
	}
	if p == nil || done {
		return nil
	}
	return p.release(g)
}

// Interface guards
var (
	_ caddy.App         = (*App)(nil)
	_ caddy.Provisioner = (*App)(nil)
)
