// Command chat serves a chat page over IC WebSockets, all in this process: a
// local network with a chat canister, and a Caddy with the icws handler that
// serves the page beside it.
//
//	go run ./examples/chat
//
// The page is bundled by npm on the first run, so Node.js is needed. Browsers
// warn about the certificate until Caddy's root certificate is trusted; its path
// is printed. With -canister a compiled canister takes the place of the built-in
// one, with any Candid interface that the page speaks.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/canisters/ic0"
	"github.com/icws-gateway/caddy-icws/examples/chat/room"
	"github.com/icws-gateway/caddy-icws/examples/internal/bundle"
	"github.com/icws-gateway/caddy-icws/examples/internal/site"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

func main() {
	var o options
	flag.IntVar(&o.port, "port", 8443, "port of https://localhost; 0 finds a free one")
	flag.StringVar(&o.web, "web", "examples/chat/web", "directory of the page")
	flag.StringVar(&o.canister, "canister", "", "a compiled canister to run instead of the built-in one")
	flag.DurationVar(&o.latency, "latency", time.Second, "time that the network takes for an update; mainnet takes 1 to 2 s")
	flag.BoolVar(&o.login, "ii", false, "offer a login: runs an Internet Identity on the local network, which asks for a name")
	flag.StringVar(&o.data, "data", "", "directory for keys and certificates (default: one that is removed at the end)")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "chat: unexpected argument %q: there are flags only, see -help\n", flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second interrupt does not wait for the drain
	if err := run(ctx, o, func(url, rootCert string) {
		fmt.Printf("The chat is at %s (open it twice).\n", url)
		fmt.Printf("Trust %s to be spared the browser's warning. Ctrl-C ends.\n", rootCert)
	}); err != nil {
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(1)
	}
}

type options struct {
	port     int
	web      string
	canister string
	login    bool
	latency  time.Duration
	block    time.Duration // between blocks of the network; zero: a tenth of latency
	data     string
}

// run serves until ctx ends. ready is told the address of the page and the path
// of the root certificate once both can be used.
func run(ctx context.Context, o options, ready func(url, rootCert string)) (err error) {
	if o.port, err = site.ClaimPort(o.port); err != nil {
		return err
	}
	dist, err := bundle.Page(ctx, o.web, "chat.js", "../../client/src/*")
	if err != nil {
		return err
	}
	if o.data == "" {
		if o.data, err = os.MkdirTemp("", "icws-chat-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.data)) }()
	}

	network, err := localnet.New(localnet.Options{Latency: o.latency, Block: o.block})
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
	boundary, err := network.Start("127.0.0.1:0")
	if err != nil {
		return err
	}
	told := pageConfig{Canister: id.String()}
	if o.login {
		var stop func() error
		if told.IdentityProvider, stop, err = serveIdentity(network); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}

	rootCert, err := site.Run(ctx, site.Options{Dir: o.data, Port: o.port, LogLevel: "WARN", Caddyfile: caddyfile(
		o.port, told, boundary, network.RootKey(), dist)})
	if err != nil {
		return err
	}
	ready(fmt.Sprintf("https://localhost:%d", o.port), rootCert)
	<-ctx.Done()
	return site.Stop()
}

// pageConfig is what the page is told in config.json.
type pageConfig struct {
	Canister string `json:"canister"`
	// IdentityProvider is the page of Internet Identity that opens for a login. Without it nobody can log in.
	IdentityProvider string `json:"identityProvider,omitempty"`
}

// caddyfile returns the site: icws, the network's API for the page's own agent
// (on mainnet the page would talk to icp-api.io), and the files. The policy
// allows the page what it needs and nothing else.
func caddyfile(port int, told pageConfig, boundary string, rootKey []byte, dist string) string {
	config, err := json.Marshal(told)
	if err != nil { // it holds texts
		panic(err)
	}
	return fmt.Sprintf(`
https://localhost:%d {
	bind 127.0.0.1
	handle /ws {
		icws %s {
			network %s
			root_key %x
			drain_timeout 2s
		}
	}
	handle /api/* {
		reverse_proxy %s
	}
	handle /config.json {
		header Content-Type application/json
		respond `+"`%s`"+`
	}
	handle {
		header Content-Security-Policy "default-src 'self'; connect-src 'self' wss:; frame-ancestors 'none'; base-uri 'none'"
		header X-Content-Type-Options nosniff
		encode
		root * %q
		file_server
	}
}
`, port, told.Canister, boundary, rootKey, boundary, config, dist)
}

// load is the canister to install.
func (o *options) load() (localnet.Canister, error) {
	if o.canister == "" {
		return localnet.NewCDK(localnet.CDKOptions{App: room.Room{}}), nil
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
