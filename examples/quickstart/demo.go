package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/icws-gateway/caddy-icws/examples/internal/site"
	"github.com/icws-gateway/caddy-icws/verify"
)

// demo is what runs: a site of Caddy in front of a canister of the local network.
type demo struct {
	port     int
	canister verify.Principal
	network  string        // URL of the local network
	rootKey  []byte        // of the local network, DER
	rootCert string        // file with the root certificate of Caddy's internal certificate authority
	arrived  atomic.Uint64 // sessions that opened and messages that came
}

// caddyfile is the site. One on mainnet needs no bind, network and root_key, and no reverse_proxy, as the page then talks to
// the network itself.
const caddyfile = `
https://localhost:{port} {
	bind 127.0.0.1
	icws /ws {canister} {
		network {network}
		root_key {root_key}
		drain_timeout 5s
	}
	reverse_proxy /api/* {network}
	root {page}
	file_server
	handle_errors 404 {
		respond "Not there yet: npm ci --prefix examples/first && npm run page --prefix examples/first"
	}
}
`

// page is where npm puts the page of examples/first.
const page = "examples/first/dist"

// start runs Caddy in this process, as the caddy command does with this Caddyfile. Its storage is in dir.
func (d *demo) start(ctx context.Context, dir string) (err error) {
	d.rootCert, err = site.Run(ctx, site.Options{Dir: dir, Port: d.port, Caddyfile: strings.NewReplacer(
		"{port}", strconv.Itoa(d.port),
		"{canister}", d.canister.String(),
		"{network}", d.network,
		"{root_key}", hex.EncodeToString(d.rootKey),
		"{page}", page,
	).Replace(caddyfile)})
	return err
}

// url is where sessions are opened.
func (d *demo) url() string { return fmt.Sprintf("wss://localhost:%d/ws", d.port) }

// tls makes a TLS configuration that trusts Caddy's internal certificate authority and nothing else.
func (d *demo) tls() (*tls.Config, error) {
	pem, err := os.ReadFile(d.rootCert)
	if err != nil {
		return nil, fmt.Errorf("reading the root certificate of Caddy's internal authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", d.rootCert)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// explain prints what runs and how to talk to it.
func (d *demo) explain() {
	fmt.Printf(`An Internet Computer, a canister and Caddy are running in this process.

  local network  %s
  canister       %s   (answers record{text = "..."} with "...-pong")
  gateway        %s
  certificates   by Caddy's internal authority; its root: %s

A client of your own, with the JavaScript SDK in Node.js 20 or newer, from another terminal here:

  npm ci --prefix examples/first
  NODE_EXTRA_CA_CERTS=%s node examples/first/first.mjs %s %s %s

The same in a browser, which warns of the certificate once:

  npm run page --prefix examples/first
  https://localhost:%d/?canister=%s

A page that does more: go run ./examples/chat. Interrupt (Ctrl-C) to end.

`, d.network, d.canister, d.url(), d.rootCert, d.rootCert, d.url(), d.canister, d.network, d.port, d.canister)
}
