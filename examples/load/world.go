package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/examples/internal/quiet"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/examples/pipe"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// A world is an embedded network with one canister, and a gateway in front of it that listens on loopback.
type world struct {
	network  *localnet.Network
	cdk      *localnet.CDK
	canister verify.Principal
	nodes    []string // URLs of the boundary nodes
	gateway  *relay.Gateway
	server   *http.Server
	served   chan error
	url      string
	dial     func(ctx context.Context, network, address string) (net.Conn, error) // nil: TCP
	shared   *verify.Authority                                                    // of all clients
}

// worldOptions shape a world.
type worldOptions struct {
	latency time.Duration
	seed    uint64
	nodes   int // boundary nodes
	cdk     localnet.CDKOptions
	// sendBuffer bounds what the kernel keeps of each connection of the gateway; 0 leaves it alone. A kernel that
	// takes megabytes for a client that does not read hides it for long.
	sendBuffer int
	// memory does without sockets: requests of the gateway and connections of the clients stay inside the process, so that
	// all of it can run in a testing/synctest bubble. sendBuffer is then without meaning: every write waits for its reader.
	memory bool
}

func newWorld(o worldOptions) (w *world, err error) {
	w = &world{served: make(chan error, 1)}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.network, err = localnet.New(localnet.Options{Latency: o.latency, Seed: o.seed}); err != nil {
		return w, err
	}
	w.cdk = localnet.NewCDK(o.cdk)
	w.canister = w.network.Install(w.cdk)
	cfg := relay.Config{
		RootKey: w.network.RootKey(),
		// The default protects the boundary nodes of others; these are ours.
		UpstreamRate: 20000, UpstreamCallRate: 20000,
		OutboxFrames: relay.DefaultOutboxFrames,
	}
	if o.memory {
		cfg.Transport = w.network.RoundTripper()
	}
	for i := range max(o.nodes, 1) {
		address := fmt.Sprintf("http://node%d.test", i)
		if !o.memory {
			if address, err = w.network.Start("127.0.0.1:0"); err != nil {
				return w, err
			}
		}
		u, err := url.Parse(address)
		if err != nil {
			return w, err
		}
		w.nodes = append(w.nodes, address)
		cfg.Hosts = append(cfg.Hosts, u)
	}
	if cfg.Identity, err = identity.NewRandomEd25519Identity(); err != nil {
		return w, err
	}
	if w.gateway, err = relay.New(cfg); err != nil {
		return w, err
	}
	if w.shared, err = verify.NewAuthority(cfg.RootKey); err != nil {
		return w, err
	}
	var l net.Listener
	if o.memory {
		p := pipe.Listen()
		l, w.dial = p, p.Dial
	} else if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return w, err
	}
	w.serve(l, o.sendBuffer)
	return w, nil
}

// serve serves the gateway as the simplest of web servers does.
func (w *world) serve(l net.Listener, sendBuffer int) {
	policy := &relay.Policy{Canisters: map[verify.Principal]struct{}{w.canister: {}}}
	upgrader := relay.Upgrader()
	w.server = &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if t, ok := c.(*net.TCPConn); ok && sendBuffer > 0 {
				_ = t.SetWriteBuffer(sendBuffer)
			}
			return ctx
		},
		Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			from, err := netip.ParseAddrPort(r.RemoteAddr)
			if err != nil {
				http.Error(rw, err.Error(), http.StatusInternalServerError)
				return
			}
			ticket, err := w.gateway.Reserve(policy, from.Addr())
			if err != nil {
				http.Error(rw, err.Error(), http.StatusServiceUnavailable)
				return
			}
			ws, err := upgrader.Upgrade(rw, r, nil)
			if err != nil {
				ticket.Release()
				return
			}
			ticket.Serve(context.WithoutCancel(r.Context()), ws)
		}),
	}
	w.url = "ws://" + l.Addr().String()
	go func() { w.served <- w.server.Serve(l) }()
}

// target is for clients of this world.
func (w *world) target() target {
	return target{url: w.url, options: client.Options{Canister: w.canister, Authority: w.shared, NetDial: w.dial}}
}

// why is what fails of the gateway's polls and calls, "" while nothing does.
func (w *world) why() string { return quiet.Trouble(w.gateway.Snapshot()) }

// drain ends the sessions that are left, as a server does that stops.
func (w *world) drain(limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	w.gateway.Drain(ctx, relay.Draining)
}

// close ends everything. It works on a world that is half made.
func (w *world) close() error {
	var errs []error
	if w.gateway != nil {
		errs = append(errs, w.gateway.Close())
	}
	if w.server != nil {
		errs = append(errs, w.server.Close())
		if err := <-w.served; !errors.Is(err, http.ErrServerClosed) {
			errs = append(errs, err)
		}
	}
	if w.network != nil {
		errs = append(errs, w.network.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stopping the embedded gateway: %w", err)
	}
	return nil
}
