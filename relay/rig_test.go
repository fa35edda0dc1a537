package relay_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aviate-labs/agent-go/identity"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/examples/pipe"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// rig is a network, a gateway and a WebSocket server in front of it, for one test.
type rig struct {
	t        testing.TB
	network  *localnet.Network
	gateway  *relay.Gateway
	cdk      *localnet.CDK
	canister verify.Principal
	policy   *relay.Policy
	logs     *observer.ObservedLogs
	url      string
	dial     func(ctx context.Context, network, addr string) (net.Conn, error)

	authority *verify.Authority
}

// rigOptions shape a rig; the zero value is an echo canister on a network whose updates take no time.
type rigOptions struct {
	network  localnet.Options
	cdk      localnet.CDKOptions
	config   func(*relay.Config)
	policy   func(*relay.Policy)
	hosts    int  // boundary nodes over loopback sockets; 0 = in process
	pipes    bool // clients connect through in-memory pipes, for synctest bubbles
	logLevel zapcore.Level
}

func newRig(t testing.TB, o rigOptions) *rig {
	t.Helper()
	network, err := localnet.New(o.network)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, network: network, cdk: localnet.NewCDK(o.cdk)}
	r.canister = network.Install(r.cdk)
	id, err := identity.NewRandomEd25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(o.logLevel)
	r.logs = logs
	cfg := relay.Config{
		RootKey:      network.RootKey(),
		Identity:     id,
		UpstreamRate: 1e6, UpstreamCallRate: 1e6,
		DrainTimeout: 5 * time.Second,
		Logger:       zap.New(core),
	}
	if o.pipes {
		// Polls are most of the work, above all in hours of silence. How often there are some by default is tested where it matters.
		cfg.PollInterval, cfg.PollIdleInterval = 2*relay.DefaultPollInterval, 4*relay.DefaultPollIdleInterval
	} else {
		// The clock is the real one, and the machine may be busy.
		cfg.PollInterval, cfg.PingInterval, cfg.PongTimeout = 10*time.Millisecond, 10*time.Minute, 5*time.Minute
	}
	if o.hosts == 0 {
		cfg.Transport = network.RoundTripper()
		cfg.Hosts = []*url.URL{{Scheme: "http", Host: "network.test"}}
	}
	for range o.hosts {
		base, err := network.Start("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(base)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Hosts = append(cfg.Hosts, u)
	}
	if o.config != nil {
		o.config(&cfg)
	}
	if r.gateway, err = relay.New(cfg); err != nil {
		t.Fatal(err)
	}
	// What the gateway has verified need not be computed again for the clients.
	if r.authority = r.gateway.Authority(); r.authority == nil {
		if r.authority, err = verify.NewAuthority(network.RootKey()); err != nil {
			t.Fatal(err)
		}
	}
	r.policy = &relay.Policy{Canisters: map[verify.Principal]struct{}{r.canister: {}}}
	if o.policy != nil {
		o.policy(r.policy)
	}
	stop := r.serve(o.pipes)
	t.Cleanup(func() {
		r.gateway.Drain(context.Background(), relay.Draining)
		stop()
		network.Close()
	})
	return r
}

// inBubble runs a test with a rig whose clock is the bubble's. It runs beside other such tests, so it can be called once in a test.
func inBubble(t *testing.T, o rigOptions, f func(t *testing.T, r *rig)) {
	t.Helper()
	t.Parallel()
	inBubbleAlone(t, o, f)
}

// inBubbleAlone is inBubble for a test that looks at something of the whole process. No other test runs meanwhile.
func inBubbleAlone(t *testing.T, o rigOptions, f func(t *testing.T, r *rig)) {
	t.Helper()
	o.pipes = true
	synctest.Test(t, func(t *testing.T) { f(t, newRig(t, o)) })
}

// serve starts the WebSocket server.
func (r *rig) serve(pipes bool) (stop func()) {
	srv := &http.Server{Handler: r}
	var l net.Listener
	if pipes {
		p := pipe.Listen()
		l, r.dial, r.url = p, p.Dial, "ws://gateway.test/"
	} else {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			r.t.Fatal(err)
		}
		l, r.url = tcp, "ws://"+tcp.Addr().String()+"/"
	}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(l) }()
	return func() { srv.Close(); <-done }
}

// ServeHTTP upgrades as a handler does that uses package relay.
func (r *rig) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	addr, _ := netip.ParseAddrPort(req.RemoteAddr)
	ticket, err := r.gateway.Reserve(r.policy, addr.Addr())
	var limit *relay.LimitError
	switch {
	case errors.As(err, &limit):
		http.Error(w, limit.Error(), http.StatusTooManyRequests)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	ws, err := relay.Upgrader().Upgrade(w, req, nil)
	if err != nil {
		ticket.Release()
		return
	}
	ticket.Heed(req.URL)
	ticket.Serve(req.Context(), ws)
}

// options are those of a client of this rig.
func (r *rig) options() client.Options {
	return client.Options{Canister: r.canister, Authority: r.authority, NetDial: r.dial, AckTimeout: -1}
}

// open opens a session and ends it with the test.
func (r *rig) open() *client.Client {
	r.t.Helper()
	c, err := client.Dial(context.Background(), r.url, r.options())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

// raw connects without opening a session.
func (r *rig) raw(o client.Options) *client.Raw {
	r.t.Helper()
	c, err := client.DialRaw(context.Background(), r.url, o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

// openingRaw connects a raw session and sends its ws_open, whose answer has not been read.
func (r *rig) openingRaw(o client.Options) *client.Raw {
	r.t.Helper()
	c := r.raw(o)
	frame, err := c.Composer().Open(c.Gateway(), time.Time{})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := c.Write(context.Background(), websocket.BinaryMessage, frame); err != nil {
		r.t.Fatal(err)
	}
	return c
}

// echo sends text and waits for it to come back.
func (r *rig) echo(c *client.Client, text string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if err := c.Send(ctx, []byte(text)); err != nil {
		r.t.Fatalf("sending %q: %v", text, err)
	}
	m, err := c.Receive(ctx)
	if err != nil {
		r.t.Fatalf("waiting for %q: %v", text, err)
	}
	if string(m.Payload) != text {
		r.t.Fatalf("got %q, want %q", m.Payload, text)
	}
}

// waitFor waits until f holds.
func (r *rig) waitFor(what string, f func() bool) {
	r.t.Helper()
	for end := time.Now().Add(10 * time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// logged reports whether a log line holds text in its message or fields.
func (r *rig) logged(text string) bool {
	for _, e := range r.logs.All() {
		if strings.Contains(e.Message, text) {
			return true
		}
		for _, v := range e.ContextMap() {
			if s, ok := v.(string); ok && strings.Contains(s, text) {
				return true
			}
		}
	}
	return false
}

// closeOf waits for the end of the session and returns how it ended.
func closeOf(t testing.TB, c *client.Client) *client.CloseError {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(10 * time.Minute):
		t.Fatal("the session does not end")
	}
	var ce *client.CloseError
	if !errors.As(c.Err(), &ce) {
		t.Fatalf("the session ended with %v, want a close", c.Err())
	}
	return ce
}

// sized is how much of something a test does: all of it with the build tag long, what shows the same in less time without, and what
// takes part in every race with the race detector.
func sized(all, usual, race int) int {
	switch {
	case raceDetector:
		return race
	case longRun:
		return all
	}
	return usual
}
