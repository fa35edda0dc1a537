package caddymodule

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/gorilla/websocket"
	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/verify"
)

const (
	// storageTimeout bounds the loading of an identity, including the wait for the storage's lock.
	storageTimeout = 30 * time.Second
	// drainSlack is what a drain may take beyond drain_timeout before it is cut off.
	drainSlack = 2 * time.Second
)

// gateways holds the gateways in use, by poolKey. It is what lets sessions outlive configurations.
var gateways = caddy.NewUsagePool()

// peers are the gateways of this process: those of old configurations included, which still drain.
var peers relay.Peers

// generation is a part of every pool key. It moves on when an operator drains this instance, so that the next
// configuration gets fresh gateways and not the drained ones.
var generation atomic.Uint64

// live lists every gateway that still has something to do, also those that no configuration holds any more and that are
// draining.
var live registry

// registry is a set of gateways. The zero value is empty and ready.
type registry struct {
	mu  sync.Mutex
	all []*pooled
}

func (r *registry) add(p *pooled) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, p)
}

func (r *registry) remove(p *pooled) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = slices.DeleteFunc(r.all, func(o *pooled) bool { return o == p })
}

func (r *registry) snapshot() []*pooled {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// Snapshots returns the present state of every gateway of this process, for programs that embed Caddy without its admin
// endpoint. Safe for concurrent use.
func Snapshots() []relay.Snapshot {
	var list []relay.Snapshot
	for _, p := range live.snapshot() {
		list = append(list, p.gateway.Snapshot())
	}
	return list
}

// WaitDrained waits until no gateway is left in this process, or until ctx ends and then returns its error. A program that
// embeds Caddy calls it between caddy.Stop and its own end: caddy.Stop only begins the drains, because a reload must not wait
// for them. Caddy's own exit, by a signal or over the admin endpoint, waits without being asked. Safe for concurrent use.
func WaitDrained(ctx context.Context) error {
	for _, p := range live.snapshot() {
		select {
		case <-p.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func init() {
	// The process does not end before the drains do, which run side by side, each bounded by its own drain_timeout.
	caddy.OnExit(func(ctx context.Context) {
		all := live.snapshot()
		for _, p := range all {
			p.drain(relay.Draining)
		}
		began := time.Now()
		for _, p := range all {
			// Never longer than promised, even if something in a gateway hangs.
			limit := time.NewTimer(p.config.DrainTimeout + 2*drainSlack - time.Since(began))
			select {
			case <-p.ended:
			case <-limit.C:
			}
			limit.Stop()
		}
		ctx, cancel := context.WithTimeout(ctx, drainSlack)
		defer cancel()
		farewells.leave(ctx)
	})
}

// pooled is a gateway in the pool, with what belongs to it on Caddy's side.
type pooled struct {
	key       string
	gateway   *relay.Gateway
	principal string
	config    relay.Config
	upgrader  *websocket.Upgrader
	metrics   *gatewayMetrics
	since     time.Time

	draining sync.Once
	begun    chan struct{} // closed when a drain has begun
	ended    chan struct{} // closed when the gateway has nothing left

	mu      sync.Mutex
	holders []*gatewayRef // in the order they came
}

// acquirePooled gets the gateway of a resolved configuration from the pool, or builds it, and makes ref one of its holders.
func acquirePooled(ctx context.Context, cfg relay.Config, ref *gatewayRef) (*pooled, error) {
	key, err := poolKey(&cfg, cfg.Identity.PublicKey())
	if err != nil {
		return nil, err
	}
	if n := generation.Load(); n > 0 {
		key += "-" + strconv.FormatUint(n, 10)
	}
	value, loaded, err := gateways.LoadOrNew(key, func() (caddy.Destructor, error) {
		return newPooled(ctx, key, cfg, ref)
	})
	if err != nil {
		return nil, err
	}
	p := value.(*pooled)
	p.hold(ref)
	if !loaded {
		ref.logger.Info("gateway ready",
			zap.String("gateway_principal", p.principal),
			zap.String("gateway", p.key),
			zap.Bool("after_clean_stop", p.config.CleanStart),
			zap.Stringers("network", cfg.Hosts))
	}
	return p, nil
}

func newPooled(ctx context.Context, key string, cfg relay.Config, ref *gatewayRef) (*pooled, error) {
	p := &pooled{
		key: key, upgrader: relay.Upgrader(), metrics: newGatewayMetrics(&cfg), since: time.Now(),
		begun: make(chan struct{}), ended: make(chan struct{}),
	}
	cfg.Peers = &peers
	cfg.Metrics = p.metrics
	cfg.Tracer = tracer{}
	cfg.Logger = ref.logger
	p.principal = verify.SelfAuthenticating(cfg.Identity.PublicKey()).String()
	cfg.CleanStart = farewells.begin(ctx, p.principal, ref.storage)
	gateway, err := relay.New(cfg)
	if err != nil {
		farewells.end(p.principal, true)
		return nil, err
	}
	p.gateway = gateway
	p.config = cfg
	live.add(p)
	return p, nil
}

// hold makes ref a holder: the gateway logs to the newest holder's configuration.
func (p *pooled) hold(ref *gatewayRef) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holders = append(p.holders, ref)
	p.followHolders()
}

// release takes ref off the holders. The last one starts the drain.
func (p *pooled) release(ref *gatewayRef) error {
	p.mu.Lock()
	p.holders = slices.DeleteFunc(p.holders, func(o *gatewayRef) bool { return o == ref })
	p.followHolders()
	p.mu.Unlock()
	_, err := gateways.Delete(p.key)
	return err
}

// followHolders adjusts what depends on the configurations that hold the gateway: the logger, because the writers of an
// old configuration's logs are closed, and the canisters that metrics name. The caller holds mu.
func (p *pooled) followHolders() {
	logger := caddy.Log().Named("http.handlers.icws")
	canisters := make(map[verify.Principal]struct{})
	for _, ref := range p.holders {
		logger = ref.logger
		for id := range ref.canisters {
			canisters[id] = struct{}{}
		}
	}
	p.gateway.SetLogger(logger.With(zap.String("gateway", p.key))) // each gateway counts its sessions from 1
	if len(p.holders) > 0 {
		p.metrics.setCanisters(canisters)
	}
}

// Destruct drains the gateway in the background: a reload is not held up, and the exit of the process waits for all
// drains at once.
func (p *pooled) Destruct() error {
	reason := relay.Reconfigured
	if caddy.Exiting() || caddy.ActiveContext().Context == nil { // caddy.Stop puts no other configuration in its place
		reason = relay.Draining
	}
	p.drain(reason)
	return nil
}

// drain begins to end all sessions, spread over drain_timeout. It returns at once, with new ones refused; p.ended tells when it is done.
func (p *pooled) drain(reason relay.CloseReason) {
	p.draining.Do(func() {
		close(p.begun)
		finish := p.gateway.StartDrain(reason)
		go func() {
			defer close(p.ended)
			ctx, cancel := context.WithTimeout(context.Background(), p.config.DrainTimeout+drainSlack)
			defer cancel()
			told := finish(ctx)
			_ = p.gateway.Close() // what is left when the time is up
			farewells.end(p.principal, told)
			p.metrics.gateways.retire(p)
		}()
	})
}

// isDraining reports whether a drain has begun.
func (p *pooled) isDraining() bool {
	select {
	case <-p.begun:
		return true
	default:
		return false
	}
}

// Interface guard
var _ caddy.Destructor = (*pooled)(nil)
