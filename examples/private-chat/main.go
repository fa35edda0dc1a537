// Command private-chat serves a page on which two people chat in a room that the
// gateway cannot read, beside a pane with everything that passes the gateway. All
// of it is in this process: a local network with the canister, and a Caddy with
// the icws handler, which serves the page too.
//
//	go run ./examples/private-chat
//
// The page is bundled by npm on the first run, so Node.js is needed. Browsers
// warn about the certificate until Caddy's root certificate is trusted; its path
// is printed. With -canister the compiled canister takes the place of the Go
// value.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/canisters/ic0"
	"github.com/icws-gateway/caddy-icws/examples/internal/bundle"
	"github.com/icws-gateway/caddy-icws/examples/internal/site"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/examples/private-chat/room"
	"github.com/icws-gateway/caddy-icws/examples/private-chat/tap"
)

func main() {
	var o options
	flag.IntVar(&o.port, "port", 8443, "port of https://localhost; 0 finds a free one")
	flag.StringVar(&o.web, "web", "examples/private-chat/web", "directory of the page")
	flag.StringVar(&o.canister, "canister", "", "the compiled canister, to run instead of the Go value")
	flag.DurationVar(&o.latency, "latency", time.Second, "time that the network takes for an update; mainnet takes 1 to 2 s")
	flag.StringVar(&o.data, "data", "", "directory for keys and certificates (default: one that is removed at the end)")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "private-chat: unexpected argument %q: there are flags only, see -help\n", flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second interrupt does not wait for the drain
	if err := run(ctx, o, explain); err != nil {
		fmt.Fprintln(os.Stderr, "private-chat:", err)
		os.Exit(1)
	}
}

// options are the flags, and what tests add.
type options struct {
	port     int
	web      string
	canister string
	latency  time.Duration
	data     string

	admin      string          // address of Caddy's admin endpoint; none
	logLevel   string          // of Caddy; WARN
	logFile    string          // in place of standard error
	directives string          // more of the site
	seen       func(tap.Frame) // is called with all that the tap sees
}

// place is where everything is once it can be used.
type place struct {
	url, rootCert string
	masterKey     []byte // of the network, for room.KeyName
}

func explain(p place) {
	fmt.Printf(`Two people in a private room, and what the gateway sees of them: %s
One person in each window:     %[1]s/?person=Ada   %[1]s/?person=Bob
Without encryption, to compare: %[1]s/?encryption=off

The network's master key %s, which the page verifies each room's key against:
%x

Trust %s to be spared the browser's warning. Ctrl-C ends.
`, p.url, room.KeyName, p.masterKey, p.rootCert)
}

// run serves until ctx ends. ready is told where, once it can be used.
func run(ctx context.Context, o options, ready func(place)) (err error) {
	if o.port, err = site.ClaimPort(o.port); err != nil {
		return err
	}
	dist, err := bundle.Page(ctx, o.web, "private-chat.js", "../../client/src/*")
	if err != nil {
		return err
	}
	if o.data == "" {
		if o.data, err = os.MkdirTemp("", "icws-private-chat-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.data)) }()
	}
	if o.logLevel == "" {
		o.logLevel = "WARN"
	}

	network, err := localnet.New(localnet.Options{Latency: o.latency})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, network.Close()) }()
	canister, err := o.load()
	if err != nil {
		return err
	}
	id, err := network.TryInstall(canister)
	if err != nil {
		return fmt.Errorf("installing the canister: %w", err)
	}
	t := tap.New(tapName, o.seen)
	defer t.Close()
	boundary, stop, err := serve(t.Network(network.Handler()))
	if err != nil {
		return err
	}
	defer stop()

	p := place{url: fmt.Sprintf("https://localhost:%d", o.port), masterKey: network.VetKDPublicKey(room.KeyName)}
	p.rootCert, err = site.Run(ctx, site.Options{Dir: o.data, Port: o.port, Admin: o.admin, LogLevel: o.logLevel, LogFile: o.logFile,
		Caddyfile: caddyfile(&o, id.String(), boundary, network.RootKey(), p.masterKey, dist)})
	if err != nil {
		return err
	}
	ready(p)
	<-ctx.Done()
	t.Close() // the panes of open pages would hold up the end
	return site.Stop()
}

// tapName is what the tap is called in the Caddyfile.
const tapName = "private-chat"

// caddyfile returns the site: icws behind the tap, what the tap has seen, what
// the page is told, and its files. The policy allows the page what it needs and
// nothing else.
func caddyfile(o *options, canister, boundary string, rootKey, masterKey []byte, dist string) string {
	return fmt.Sprintf(`
https://localhost:%d {
	bind 127.0.0.1
	%s
	handle /ws {
		route {
			icws_tap %s
			icws %s {
				network %s
				root_key %x
				drain_timeout 2s
			}
		}
	}
	handle /seen {
		icws_tap %[3]s
	}
	handle /config.json {
		header Content-Type application/json
		respond `+"`"+`{"canister":"%[4]s","rootKey":"%[6]x","masterKey":"%x"}`+"`"+`
	}
	handle {
		header Content-Security-Policy "default-src 'self'; connect-src 'self' wss:; frame-ancestors 'none'; base-uri 'none'"
		header X-Content-Type-Options nosniff
		encode
		root * %q
		file_server
	}
}
`, o.port, o.directives, tapName, canister, boundary, rootKey, masterKey, dist)
}

// load is the canister to install.
func (o *options) load() (localnet.Canister, error) {
	if o.canister == "" {
		return room.New(), nil
	}
	wasm, err := os.ReadFile(o.canister)
	if err != nil {
		return nil, err
	}
	c, err := ic0.Load(wasm)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.canister, err)
	}
	c.Print = func(line string) { fmt.Println("canister:", line) }
	return c, nil
}

// serve serves the network, with the tap before it, on a free port of loopback
// until stop.
func serve(h http.Handler) (url string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(l) // ends with ErrServerClosed
	}()
	return "http://" + l.Addr().String(), func() {
		_ = server.Close()
		<-ended
	}, nil
}
