package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard" // what the caddy command has

	_ "github.com/icws-gateway/caddy-icws/caddymodule" // and the icws handler
	"github.com/icws-gateway/caddy-icws/verify"
)

// site is what Caddy serves.
type site struct {
	dir      string // Caddy's storage
	port     int
	canister verify.Principal
	network  string // URL of the local network
	rootKey  []byte // of the local network, DER
}

// caddyfile is the configuration. The site block is all that a site on mainnet needs too, without network and root_key.
const caddyfile = `{
	admin off
	persist_config off
	skip_install_trust
	auto_https disable_redirects
	storage file_system {dir}
	grace_period 3s
	log {
		level ERROR
	}
}
https://localhost:{port} {
	bind 127.0.0.1
	icws /ws {canister} {
		network {network}
		root_key {root_key}
		drain_timeout 5s
	}
	respond / "IC WebSocket gateway for {canister} at wss://localhost:{port}/ws"
}
`

// config fills in the configuration.
func (s *site) config() []byte {
	return []byte(strings.NewReplacer(
		"{dir}", s.dir,
		"{port}", fmt.Sprint(s.port),
		"{canister}", s.canister.String(),
		"{network}", s.network,
		"{root_key}", hex.EncodeToString(s.rootKey),
	).Replace(caddyfile))
}

// start runs Caddy in this process, as the caddy command does with this Caddyfile.
func (s *site) start() error {
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt(s.config(), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return fmt.Errorf("adapting the Caddyfile: %w", err)
	}
	for _, w := range warnings {
		fmt.Fprintln(os.Stderr, "caddy:", w)
	}
	if err := caddy.Load(config, true); err != nil {
		return fmt.Errorf("starting caddy: %w", err)
	}
	return nil
}

// url is where sessions are opened.
func (s *site) url() string { return fmt.Sprintf("wss://localhost:%d/ws", s.port) }

// authority is the file with the root certificate of Caddy's internal certificate authority.
func (s *site) authority() string {
	return filepath.Join(s.dir, "pki", "authorities", "local", "root.crt")
}

// tls makes a TLS configuration that trusts Caddy's internal certificate authority and nothing else.
func (s *site) tls() (*tls.Config, error) {
	pem, err := os.ReadFile(s.authority())
	if err != nil {
		return nil, fmt.Errorf("reading the root certificate of Caddy's internal authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", s.authority())
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// explain prints what runs and how to talk to it.
func (s *site) explain() {
	fmt.Printf(`An Internet Computer, a canister and Caddy are running in this process.

  local network  %s
  canister       %s   (answers record{text = "..."} with "...-pong")
  gateway        %s
  certificates   by Caddy's internal authority; its root: %s

From the JavaScript SDK (ic-websocket-js 0.5.0):

  new IcWebSocket("%s", undefined, {
    canisterId: "%s", canisterActor, identity: generateRandomIdentity(),
    networkUrl: "%s",
  })

In Node start it with NODE_EXTRA_CA_CERTS=%s; in a browser open
https://localhost:%d/ first and accept the certificate. Interrupt (Ctrl-C) to end.

`, s.network, s.canister, s.url(), s.authority(), s.url(), s.canister, s.network, s.authority(), s.port)
}
