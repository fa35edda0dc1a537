// Package site runs a Caddy with the icws handler inside this process, for the
// examples and for tests that want the whole of it: real listeners, real TLS
// from Caddy's internal certificate authority, nothing outside of one directory.
// When Run returns, nothing is being written there.
package site

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	_ "github.com/caddyserver/caddy/v2/modules/standard" // the modules of an ordinary Caddy

	"github.com/icws-gateway/caddy-icws/caddymodule"
	"github.com/icws-gateway/caddy-icws/examples/freeport"
)

// options are what every site here wants: an admin endpoint only where asked
// for, keys and certificates in one directory, no root certificate installed
// into the system, no server on port 80, and nothing in the background that
// writes to the directory.
const options = `{
	admin %s
	persist_config off
	storage file_system %q
	storage_clean_interval off
	skip_install_trust
	auto_https disable_redirects
	grace_period 2s
	log {
		level %s
		output %s
	}
}
`

// Options of a site.
type Options struct {
	// Dir keeps the keys and certificates, and the id of this instance of Caddy. It is created when missing.
	Dir string
	// Caddyfile is the configuration without global options. Its first site must
	// serve https://localhost at Port.
	Caddyfile string
	// Port is where the site listens, on loopback. See ClaimPort.
	Port int
	// Admin is the address of the admin endpoint. Default: none.
	Admin string
	// LogLevel is Caddy's. Default: ERROR.
	LogLevel string
	// LogFile is where Caddy logs to. Default: standard error.
	LogFile string
}

// Run loads the configuration in place of what ran before in this process, and
// waits until the site answers with a certificate that the returned root
// certificate, a PEM file, vouches for. Caddy's state is global: one site runs
// at a time, and XDG_DATA_HOME is set for the whole process. Stop ends it. The
// end of ctx is heeded only once Caddy has its certificate.
func Run(ctx context.Context, o Options) (rootCert string, err error) {
	if o.Admin == "" {
		o.Admin = "off"
	}
	if o.LogLevel == "" {
		o.LogLevel = "ERROR"
	}
	output := "stderr"
	if o.LogFile != "" {
		output = fmt.Sprintf("file %q", o.LogFile)
	}
	// Caddy keeps the id of the instance, which is part of the gateway's identity, in the data directory of the user
	// whatever the storage is.
	if err := os.Setenv("XDG_DATA_HOME", o.Dir); err != nil {
		return "", err
	}
	adapter := caddyconfig.GetAdapter("caddyfile")
	config, warnings, err := adapter.Adapt([]byte(fmt.Sprintf(options, o.Admin, o.Dir, o.LogLevel, output)+o.Caddyfile), nil)
	if err != nil {
		return "", fmt.Errorf("adapting the Caddyfile: %w", err)
	}
	for _, w := range warnings {
		if !strings.Contains(w.Message, "not formatted") {
			return "", fmt.Errorf("adapting the Caddyfile: %s", w)
		}
	}
	if err := caddy.Load(config, true); err != nil {
		return "", fmt.Errorf("starting Caddy: %w", err)
	}
	rootCert = filepath.Join(o.Dir, "pki", "authorities", "local", "root.crt")
	if err := obtained(); err != nil {
		return "", errors.Join(err, Stop())
	}
	if err := answers(ctx, rootCert, o.Port); err != nil {
		return "", errors.Join(err, Stop())
	}
	return rootCert, nil
}

// Stop drains the sessions and ends the site.
func Stop() error {
	if err := caddy.Stop(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := caddymodule.WaitDrained(ctx); err != nil {
		return fmt.Errorf("draining the sessions: %w", err)
	}
	return nil
}

// obtained waits until Caddy holds the certificate of the site. Caddy obtains it
// in the background and writes it to the storage before it holds it; caddy.Stop
// waits for neither, so who wants to remove the directory waits here, also when
// interrupted. Its own authority takes some milliseconds.
func obtained() error {
	for range 6000 {
		if len(caddytls.AllMatchingCertificates("localhost")) > 0 {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("waiting for the site's certificate: there is none after a minute")
}

// answers waits until TLS handshakes with the site succeed, several in a row. Another
// process that came to listen on the same port at the same moment, unseen by
// ClaimPort, shows by a certificate of another authority.
func answers(ctx context.Context, rootCert string, port int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	pem, err := os.ReadFile(rootCert)
	if err != nil {
		return fmt.Errorf("reading the root certificate: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s holds no certificate", rootCert)
	}
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: "localhost"}}
	for row := 0; row < 20; { // the system chooses for each: one in a million looks well by chance
		conn, err := dialer.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
			row++
			continue
		}
		if stranger := new(x509.UnknownAuthorityError); errors.As(err, stranger) {
			return fmt.Errorf("port %d is shared with another process (%w): stop that, or choose another port with -port", port, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the site's certificate: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// ClaimPort returns port if nothing listens there on loopback. For 0 it returns
// a free port, which stays reserved until the process ends. Caddy shares ports
// with other processes where the system lets it, and two sites on one port would
// answer each other's clients at random. The error says what to do with the flag
// -port.
func ClaimPort(port int) (int, error) {
	if port < 0 || port > 65535 {
		return 0, fmt.Errorf("there is no port %d: choose one up to 65535 with -port, or 0 for one that is free", port)
	}
	if port == 0 {
		port, _, err := freeport.Hold()
		return port, err
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	switch {
	case errors.Is(err, os.ErrPermission):
		return 0, fmt.Errorf("port %d may not be used (%w): choose one from 1024 with -port", port, err)
	case err != nil:
		return 0, fmt.Errorf("port %d is taken (%w): stop what listens there, or choose another with -port", port, err)
	}
	return port, l.Close()
}
