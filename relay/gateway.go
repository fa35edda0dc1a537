package relay

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
	"github.com/icws-gateway/caddy-icws/verify"
)

// Gateway relays between clients and canisters. Make one with [New]. All methods are safe for concurrent use.
//
// It has no goroutine and makes no request until the first session, and has none left after [Gateway.Drain] or
// [Gateway.Close].
type Gateway struct {
	cfg    Config
	logger atomic.Pointer[zap.Logger]
	up     *upstream.Network
	opens  *openLog
	closer *closer
	turns  *turns
	memory *memory
	peers  *Peers

	traffic traffic
	history history

	outboxes     outboxes
	maxDeparting int

	started    time.Time
	scans      atomic.Int64              // searches for orphans under way
	sharedSeen atomic.Pointer[time.Time] // when another live instance with this identity was last proven

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	// wg counts every goroutine of the gateway. One that runs may start others; whoever else starts one holds mu and has
	// seen that closed is not set, so that none begins while Close waits for the last.
	wg sync.WaitGroup

	mu        sync.Mutex
	sessions  map[*session]struct{}
	places    int                // sessions with a connection, and reservations
	perIP     map[netip.Addr]int // the same by limitAddr
	canisters map[verify.Principal]*canister
	departing *list.List // of *session: without a connection, what they sent is under way; oldest first
	refusing  *closing   // set while draining: what new sessions are told
	closed    bool       // Close has begun
	sweeping  bool       // the sweeper runs
	nextID    uint64

	uncertified sync.Once // see noticeUncertified
}

// ErrDraining is returned by [Gateway.Reserve] once a gateway is shutting down.
var ErrDraining = errors.New("gateway is draining, connect again")

// LimitError is returned by [Gateway.Reserve] when a limit is reached.
type LimitError struct {
	// Limit is the name of the knob, for example "max_sessions_per_ip".
	Limit string
	// Value is what it is set to.
	Value int
	// RetryAfter is when it makes sense to try again.
	RetryAfter time.Duration
}

// Error names the limit.
func (e *LimitError) Error() string {
	return fmt.Sprintf("%s (%d) is reached, try again later", e.Limit, e.Value)
}

// limitRetry is what clients are told to wait when a limit is reached.
const limitRetry = 5 * time.Second

// New makes a gateway of cfg, with defaults for what is not set. It talks to nobody.
func New(cfg Config) (*Gateway, error) {
	cfg.SetDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	g := &Gateway{
		cfg:       cfg,
		opens:     newOpenLog(),
		memory:    newMemory(),
		peers:     cfg.Peers,
		started:   time.Now(),
		sessions:  make(map[*session]struct{}),
		perIP:     make(map[netip.Addr]int),
		canisters: make(map[verify.Principal]*canister),
		departing: list.New(),

		maxDeparting: maxDeparting,
	}
	g.outboxes.limit = outboxMemory
	g.SetLogger(cfg.Logger)
	g.ctx, g.cancel = context.WithCancel(context.Background())
	up, err := upstream.New(g.ctx, upstream.Options{
		Hosts:     cfg.Hosts,
		RootKey:   cfg.RootKey,
		Identity:  cfg.Identity,
		Rate:      cfg.UpstreamRate,
		CallRate:  cfg.UpstreamCallRate,
		Timeout:   cfg.UpstreamTimeout,
		Transport: cfg.Transport,
		Recorder:  cfg.Metrics,
		Log:       g.log,
		Spawn:     g.spawn,
	})
	if err != nil {
		g.cancel()
		return nil, err
	}
	g.up = up
	g.closer = newCloser(g)
	g.turns = newTurns(g.closer.add)
	return g, nil
}

// Principal returns the gateway principal: what clients put into ws_open, and what names the gateway's queue in each
// canister.
func (g *Gateway) Principal() verify.Principal { return g.up.Principal() }

// SetLogger replaces the logger, for example by that of a new configuration. nil means none. Of many lines with the same message
// in a second some are left out.
func (g *Gateway) SetLogger(l *zap.Logger) {
	if l == nil {
		l = zap.NewNop()
	}
	g.logger.Store(Sampled(l))
}

func (g *Gateway) log() *zap.Logger { return g.logger.Load() }

// spawn runs f in a goroutine that Close waits for. A panic in f is logged and ends f alone; recovered, if not nil,
// then runs so that what depended on f can be ended.
func (g *Gateway) spawn(what string, f func(), recovered func()) {
	g.wg.Go(func() {
		defer func() {
			if r := recover(); r != nil {
				g.log().Error("recovered from a panic", zap.String("in", what), zap.Any("panic", r), zap.Stack("stack"))
				if recovered != nil {
					recovered()
				}
			}
		}()
		f()
	})
}

// Reserve takes a place for one session, before its HTTP upgrade, so that a refusal can still be an HTTP answer. ip is
// the client's address, the zero Addr if it has none, as on a Unix socket. The error is ErrDraining or a *LimitError. Every
// ticket must end in Release or Serve.
func (g *Gateway) Reserve(p *Policy, ip netip.Addr) (*Ticket, error) {
	ip = ip.Unmap()
	counted := limitAddr(ip)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.refusing != nil:
		return nil, ErrDraining
	case p.MaxSessions > 0 && g.places >= p.MaxSessions:
		return nil, &LimitError{Limit: "max_sessions", Value: p.MaxSessions, RetryAfter: limitRetry}
	case p.MaxSessionsPerIP > 0 && g.perIP[counted] >= p.MaxSessionsPerIP:
		return nil, &LimitError{Limit: "max_sessions_per_ip", Value: p.MaxSessionsPerIP, RetryAfter: limitRetry}
	}
	g.places++
	g.perIP[counted]++
	return &Ticket{g: g, policy: p, ip: ip}, nil
}

// limitAddr is the address that limits count: of IPv6 the /64, which one site commonly has for itself.
func limitAddr(ip netip.Addr) netip.Addr {
	ip = ip.WithZone("")
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return ip
}

// vacate gives back the place of a client at ip.
func (g *Gateway) vacate(ip netip.Addr) {
	counted := limitAddr(ip)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.places--
	if g.perIP[counted]--; g.perIP[counted] <= 0 {
		delete(g.perIP, counted)
	}
}

// Ticket is a place in a gateway for one session.
type Ticket struct {
	g      *Gateway
	policy *Policy
	ip     netip.Addr
	// sharded says that the client reads the newer layout of certificates, see Heed.
	sharded bool
	used    atomic.Bool
	s       *session // set by Serve
}

// Release gives the place back: the upgrade failed. After Serve or Release it does nothing.
func (t *Ticket) Release() {
	if t.used.CompareAndSwap(false, true) {
		t.g.vacate(t.ip)
	}
}

// End ends the session that Serve began, politely and with reason, for a connection that is about to be taken away. It
// must not be called before Serve has returned. It never blocks.
func (t *Ticket) End(reason CloseReason) {
	if t.s != nil {
		t.s.end(newClosing(reason, ""))
	}
}

// canister returns the entry of id, made and started if needed. The error is the closing for a session that cannot
// have one.
func (g *Gateway) canister(id verify.Principal) (*canister, *closing) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refusing != nil {
		return nil, g.refusing
	}
	if c := g.canisters[id]; c != nil {
		return c, nil
	}
	limit, why := g.cfg.MaxCanisters, "gateway polls as many canisters as it may, try again later"
	if n := g.up.Capacity(); n < limit {
		limit, why = n, "gateway polls as many canisters as its upstream_rate allows, try again later"
	}
	if len(g.canisters) >= limit && !g.displace() {
		return nil, newClosing(OverCapacity, why)
	}
	if len(g.canisters) == 0 {
		g.peers.join(g)
	}
	c := newCanister(g, id)
	g.canisters[id] = c
	if g.cfg.Discover {
		g.up.Discover(g.someCanister)
	}
	g.spawn("poller", c.run, c.crashed)
	return c, nil
}

// displace ends the polling of the canister that has been without sessions for the longest, and reports whether there was one. The
// caller holds mu.
func (g *Gateway) displace() bool {
	for {
		var longest *canister
		var since time.Time
		for _, c := range g.canisters {
			if emptied, lingers := c.lingering(); lingers && (longest == nil || emptied.Before(since)) {
				longest, since = c, emptied
			}
		}
		switch {
		case longest == nil:
			return false
		case longest.retire(): // no session has come meanwhile
			delete(g.canisters, longest.id)
			longest.stop()
			return true
		}
	}
}

// someCanister returns a canister that is being polled, at random.
func (g *Gateway) someCanister() (id verify.Principal, found bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id := range g.canisters {
		return id, true
	}
	return verify.Principal{}, false
}

// forget drops c once it has ended, and reports whether it had no sessions; if it has, it must go on.
func (g *Gateway) forget(c *canister) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !c.retire() {
		return false
	}
	if g.canisters[c.id] == c { // it may have been displaced
		delete(g.canisters, c.id)
	}
	return true
}

// Close ends everything now: connections are dropped without a closing handshake and canisters are not told. It
// returns when no goroutine is left. See [Gateway.Drain] for the polite end.
func (g *Gateway) Close() error {
	g.mu.Lock()
	if g.refusing == nil {
		g.refusing = newClosing(Draining, "")
	}
	g.closed = true
	all := g.snapshotSessions()
	g.mu.Unlock()
	g.cancel()
	for _, s := range all {
		s.abort(newClosing(Draining, ""))
	}
	g.wg.Wait()
	g.peers.leave(g)
	g.up.Close()
	return nil
}

// snapshotSessions lists the sessions. The caller holds mu.
func (g *Gateway) snapshotSessions() []*session { return g.appendSessions(nil) }

// appendSessions appends the sessions to all. The caller holds mu.
func (g *Gateway) appendSessions(all []*session) []*session {
	all = slices.Grow(all, len(g.sessions))
	for s := range g.sessions {
		all = append(all, s)
	}
	return all
}

// noticeUncertified says once what it means that a network has only the asynchronous call.
func (g *Gateway) noticeUncertified() {
	g.uncertified.Do(func() {
		g.log().Warn("this network only accepts calls and does not certify their outcome (version 2 of the call endpoint): "+
			"messages of a client are submitted in the order of acceptance, and refusals by the canister cannot be reported",
			zap.String("endpoint", "/api/v2/canister/<id>/call"))
	})
}
