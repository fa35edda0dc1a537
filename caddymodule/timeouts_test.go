package caddymodule

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// TestServerTimeouts makes sure that what a server allows for requests is no limit for sessions, whatever they came over.
func TestServerTimeouts(t *testing.T) {
	t.Parallel()
	w, port := newWorld(t, 1), freeport.ForTest(t)
	site := strings.Replace(w.site(port, 0, "drain_timeout 1s", "write_timeout 2s"), "http://127.0.0.1", "https://localhost", 1)
	site = strings.Replace(site, "{\n", "{\n\ttls internal\n\tencode\n\theader >X-Test yes\n\tlog\n", 1)
	caddy := runCaddy(t, "auto_https disable_redirects\n\tmetrics\n\tservers {\n\t\ttimeouts {\n\t\t\tread_header 2s\n\t\t\tread_body 2s\n\t\t\twrite 2s\n\t\t\tidle 2s\n\t\t}\n\t}",
		site, "GODEBUG=http2xconnect=1")
	trust := trustInternal(t, filepath.Join(caddy.dir, "data", "caddy"), port)
	transport := overHTTP2(trust)
	defer transport.CloseIdleConnections()
	conn, resp := dialH2(t, transport, port, "")
	if resp.Header.Get("X-Test") != "yes" {
		t.Errorf("header of the header directive is missing: %v", resp.Header)
	}
	sessions := map[string]*client.Client{
		"HTTP/1.1": w.open(t, fmt.Sprintf("wss://localhost:%d/ws", port), 0, func(o *client.Options) { o.TLS = trust.Clone() }),
		"HTTP/2":   sessionOver(t, w, conn),
		"HTTP/3":   sessionOver(t, w, mustDialH3(t, trust, port)),
	}
	for range 2 {
		time.Sleep(2500 * time.Millisecond)
		for name, c := range sessions {
			if err := c.Err(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			echo(t, c, name+strings.Repeat(" large", 20000))
		}
	}
}

// TestGracePeriod makes sure that a reload ends sessions only where Caddy ends their connections: over HTTP/3 at the end of
// grace_period, and not without a word.
func TestGracePeriod(t *testing.T) {
	t.Parallel()
	w, port := newWorld(t, 1), freeport.ForTest(t)
	site := strings.Replace(w.site(port, 0, "drain_timeout 1s"), "http://127.0.0.1", "https://localhost", 1)
	caddy := runCaddy(t, "auto_https disable_redirects\n\tgrace_period 1s", strings.Replace(site, "{\n", "{\n\ttls internal\n", 1), "GODEBUG=http2xconnect=1")
	trust := trustInternal(t, filepath.Join(caddy.dir, "data", "caddy"), port)
	transport := overHTTP2(trust)
	defer transport.CloseIdleConnections()
	first := w.open(t, fmt.Sprintf("wss://localhost:%d/ws", port), 0, func(o *client.Options) { o.TLS = trust.Clone() })
	conn, _ := dialH2(t, transport, port, "")
	second := sessionOver(t, w, conn)
	third := sessionOver(t, w, mustDialH3(t, trust, port))
	reloadUnrelated(t, caddy)
	echo(t, first, "after the reload")
	echo(t, second, "after the reload")
	select {
	case <-third.Done():
	case <-time.After(hung):
		t.Fatal("the session over HTTP/3 is still there")
	}
	var closed *client.CloseError
	if !errors.As(third.Err(), &closed) || closed.Code != 1001 {
		t.Errorf("closed with %v", third.Err())
	}
	time.Sleep(time.Second) // grace_period is over
	echo(t, first, "after the grace period")
	echo(t, second, "after the grace period")
}
