package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// A rig says what is set up for a measurement: a network with canisters in this process, a server in another.
type rig struct {
	plain     bool // ws:// in place of wss://
	sessions  int  // at most
	canisters int
	latency   time.Duration
	seed      uint64
	burst     int     // messages to each client for one of a client; 0: an echo
	polls     float64 // upstream_rate
	programs  programs
}

// A subject is a server that is measured, and how its clients reach it.
type subject struct {
	target  target
	change  func(*session, *client.Options)                        // of each session; nil: nothing
	network func(payload) (time.Duration, bool)                    // how long the network had a message
	use     func() use                                             // of the server's process
	asked   func() uint64                                          // requests to the network so far; nil: there is none
	live    func(context.Context) (float64, error)                 // bytes after a collection; nil: it does not tell
	profile func(ctx context.Context, kind string) ([]byte, error) // one of Go's profiles; nil: it has none
	reload  func(context.Context) error                            // nil: it has nothing to reload
	restart func(context.Context) (string, error)                  // returns the new URL
	close   func() error
}

// site is the gateway's. Limits that protect others are out of the way, since the network is our own, but for upstream_rate: a
// thousand canisters that are polled every 100 ms are more than a small machine answers.
const site = `%s://localhost:{port} {
	bind 127.0.0.1
	%s
	respond /version {version}
	icws /ws {
		canister any
		network %s
		root_key %s
		upstream_rate %g
		upstream_call_rate 20000
		max_sessions %d
		max_sessions_per_ip %[6]d
		max_sessions_per_canister %[6]d
		max_canisters %d
		drain_timeout %ds
	}
}`

// gateway sets up a Caddy with the gateway.
func (r rig) gateway(ctx context.Context) (s *subject, err error) {
	app := func() localnet.App { return localnet.Echo{} }
	if r.burst > 0 {
		app = func() localnet.App { return pageWriter{burst: r.burst} }
	}
	b, err := newLab(localnet.Options{Latency: r.latency, Seed: r.seed}, r.canisters, r.burst, app)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "icws-load")
	if err != nil {
		return nil, errors.Join(err, b.network.Close())
	}
	var c *caddyServer
	closeAll := func() error {
		err := b.network.Close()
		if c != nil {
			return errors.Join(c.close(), err)
		}
		return errors.Join(os.RemoveAll(dir), err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeAll())
		}
	}()
	if b.url, err = b.network.Start("127.0.0.1:0"); err != nil {
		return nil, err
	}
	scheme, tlsLine, socket := "http", "", "ws"
	options := client.Options{Authority: b.authority, NetDial: dialLoopback}
	if !r.plain {
		trusted, err := newCertificate(dir)
		if err != nil {
			return nil, err
		}
		scheme, tlsLine, socket = "https", fmt.Sprintf("tls %q %q", trusted.cert, trusted.key), "wss"
		options.TLS = trusted.trust
	}
	text := fmt.Sprintf(site, scheme, tlsLine, b.url, hex.EncodeToString(b.network.RootKey()), r.polls, r.sessions+100, r.canisters+10, 1+r.sessions/2000)
	if c, err = newCaddyServer(r.programs.caddy, text, dir); err != nil {
		return nil, err
	}
	if err := c.start(ctx); err != nil {
		return nil, err
	}
	url := fmt.Sprintf("%s://localhost:%d/ws", socket, c.port)
	return &subject{
		target: target{url: url, options: options}, change: b.spread, network: b.took,
		use: func() use { return c.child.use() }, asked: b.requests.Load,
		live:    c.live,
		profile: c.profile,
		reload:  c.reload,
		restart: func(ctx context.Context) (string, error) { return url, c.restart(ctx) },
		close:   closeAll,
	}, nil
}

// bare sets up the server that the gateway is compared with, with frames of the given lengths.
func (r rig) bare(ctx context.Context, up, down int) (*subject, error) {
	dir, err := os.MkdirTemp("", "icws-load")
	if err != nil {
		return nil, err
	}
	args := []string{"-size", strconv.Itoa(down), fmt.Sprintf("-all=%t", r.burst > 0)}
	socket, options := "ws", client.Options{NetDial: dialLoopback}
	if !r.plain {
		trusted, err := newCertificate(dir)
		if err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
		args = append(args, "-cert", trusted.cert, "-key", trusted.key)
		socket, options.TLS = "wss", trusted.trust
	}
	var c *child
	start := func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, caddyPatience)
		defer cancel()
		var err error
		if c, err = startChild(r.programs.bare, nil, args...); err != nil {
			return "", err
		}
		address, err := c.firstLine(ctx)
		if err != nil {
			return "", err
		}
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s://localhost:%s/", socket, port), nil
	}
	closeAll := func() error {
		if c != nil {
			c.kill()
		}
		return os.RemoveAll(dir)
	}
	url, err := start(ctx)
	if err != nil {
		return nil, errors.Join(err, closeAll())
	}
	return &subject{
		target:  target{url: url, options: options, dial: dialBare(up, r.burst)},
		network: func(payload) (time.Duration, bool) { return 0, true }, // there is none
		use:     func() use { return c.use() },
		restart: func(ctx context.Context) (string, error) {
			c.kill()
			return start(ctx)
		},
		close: closeAll,
	}, nil
}

// dialLoopback connects to a port of this machine. A name would be tried with IPv6 first, where nobody listens.
func dialLoopback(ctx context.Context, network, address string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
}
