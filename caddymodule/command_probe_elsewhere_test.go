package caddymodule

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// TestProbeOfNoGateway probes what is no gateway: each has its own remedy, which a report that is kept has on a line of its own.
func TestProbeOfNoGateway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	silent := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		ws, err := relay.Upgrader().Upgrade(rw, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer ws.Close()
		_, _, _ = ws.ReadMessage()
	}))
	defer silent.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	alert := alerting(t)
	for name, test := range map[string]struct{ url, says string }{
		"no handshake":         {strings.Replace(silent.URL, "http:", "ws:", 1) + "/chat", "does not greet as a gateway does: is another program or a proxy at this path"},
		"ws to a TLS port":     {strings.Replace(secure.URL, "https:", "ws:", 1), "this port speaks TLS: probe it with wss://"},
		"ws to a strict one":   {"ws://" + alert, "this port speaks TLS: probe it with wss://"},
		"wss to a plain port":  {strings.Replace(silent.URL, "http:", "wss:", 1) + "/ws?a=b", "Without TLS probe " + strings.Replace(silent.URL, "http:", "ws:", 1) + "/ws?a=b"},
		"an id with a mistake": {"", "look for a typing mistake"},
	} {
		t.Run(name, func(t *testing.T) {
			out, id := new(report), w.canisters[0].String()
			if test.url == "" {
				test.url, id = "ws://127.0.0.1:1/", "bkyz3"+id[5:]
			}
			p := &prober{out: out, url: test.url, canister: id, networks: []string{w.url}, timeout: time.Minute, quiet: time.Minute, greeting: 50 * time.Millisecond}
			err := p.run(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "--canister") {
				t.Errorf("%v, want %q\n%s", err, test.says, out)
			}
			p.remedy(err)
			if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); !strings.HasPrefix(lines[len(lines)-1], "do  ") || !strings.Contains(lines[len(lines)-1], test.says) {
				t.Errorf("the report ends with %q", lines[len(lines)-1])
			}
		})
	}
}

// alerting is the address of a server that answers whatever is not TLS with an alert, as OpenSSL does.
func alerting(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = conn.Write([]byte("\x15\x03\x01\x00\x02\x02\x46"))
				conn.Close()
			}()
		}
	}()
	return l.Addr().String()
}

// TestProbePatience makes sure that a probe without --timeout waits for longer than an SDK, which waits for longer than a gateway.
func TestProbePatience(t *testing.T) {
	t.Parallel()
	if got, err := probeCommand().Flags().GetDuration("timeout"); err != nil || got <= client.DefaultOpenTimeout {
		t.Errorf("%s, %v", got, err)
	}
}
