package caddymodule

import (
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// usage is what the process at admin has on its heap and stacks after a garbage collection.
func usage(t testing.TB, admin string) (heap, stack float64) {
	t.Helper()
	status, body := 0, ""
	for range 2 { // the second collection frees what the first one found finalizers for
		status, body = call(t, http.MethodGet, admin+"/debug/pprof/heap?gc=1&debug=1", nil)
	}
	value := func(name string) float64 {
		found := regexp.MustCompile(`(?m)^# ` + name + ` = (\d+)`).FindStringSubmatch(body)
		if status != http.StatusOK || found == nil {
			t.Fatalf("no %s in the heap profile, status %d", name, status)
		}
		n, err := strconv.ParseFloat(found[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	stacks := regexp.MustCompile(`(?m)^# Stack = (\d+)`).FindStringSubmatch(body)
	if stacks == nil {
		t.Fatal("no stacks in the heap profile")
	}
	stack, err := strconv.ParseFloat(stacks[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return value("HeapAlloc"), stack
}

// BenchmarkIdleSession weighs an open, idle session in the process of the server, by the protocol that it came over. The
// figures that count are heap-B/session and stack-B/session; time is that of opening one.
func BenchmarkIdleSession(b *testing.B) {
	w := newWorld(b, 1)
	plain := freeport.ForTest(b)
	caddyPlain := runCaddy(b, "", w.site(plain, 0, "max_sessions_per_ip 20000", "drain_timeout 1s", "upstream_rate 5000"))
	caddyTLS, port, trust := secureServer(b, w, "http2xconnect=1", "max_sessions_per_ip 20000", "upstream_rate 5000")

	for _, protocol := range []struct {
		name string
		p    *process
		open func(b *testing.B) *client.Client
	}{
		{"http1", caddyPlain, func(b *testing.B) *client.Client {
			return w.open(b, fmt.Sprintf("ws://127.0.0.1:%d/ws", plain), 0)
		}},
		{"http1-tls", caddyTLS, func(b *testing.B) *client.Client {
			return w.open(b, fmt.Sprintf("wss://localhost:%d/ws", port), 0, func(o *client.Options) { o.TLS = trust.Clone() })
		}},
		{"http2", caddyTLS, func(b *testing.B) *client.Client {
			// Browsers use one connection for a site, but sites have one session for a client: a connection each.
			conn, _ := dialH2(b, overHTTP2(trust), port, "")
			return sessionOver(b, w, conn)
		}},
		{"http3", caddyTLS, func(b *testing.B) *client.Client {
			return sessionOver(b, w, mustDialH3(b, trust, port))
		}},
	} {
		b.Run(protocol.name, func(b *testing.B) {
			protocol.open(b) // poller, caches and pools exist from here on
			heap, stack := usage(b, protocol.p.admin)
			n := 0
			for b.Loop() {
				protocol.open(b)
				n++
			}
			b.StopTimer()
			heap2, stack2 := usage(b, protocol.p.admin)
			b.ReportMetric((heap2-heap)/float64(n), "heap-B/session")
			b.ReportMetric((stack2-stack)/float64(n), "stack-B/session")
		})
	}
}

// BenchmarkReloadUnderSession weighs what a configuration leaves behind when one session that it accepted lives on: the
// session, and over TLS the configuration itself. The figure that counts is heap-B/reload.
func BenchmarkReloadUnderSession(b *testing.B) {
	var sites strings.Builder
	for i := range 100 {
		fmt.Fprintf(&sites, "http://site%d.localhost:%d {\n\tencode\n\theader /static/* Cache-Control max-age=3600\n\troot /srv/site%[1]d\n"+
			"\treverse_proxy /api/* 127.0.0.1:9 127.0.0.2:9\n\tfile_server\n}\n", i, 1)
	}
	for _, size := range []struct{ name, sites string }{{"1-site", ""}, {"101-sites", sites.String()}} {
		for _, scheme := range []string{"none", "ws", "wss"} {
			b.Run(size.name+"/"+scheme, func(b *testing.B) {
				w := newWorld(b, 1)
				plain, secure := freeport.ForTest(b), freeport.ForTest(b)
				icws := w.site(plain, 0, "max_sessions_per_ip 20000", "drain_timeout 1s", "upstream_rate 5000")
				over := strings.NewReplacer(fmt.Sprintf("http://127.0.0.1:%d {", plain), fmt.Sprintf("https://localhost:%d {\n\ttls internal", secure)).Replace(icws)
				p := runCaddy(b, "auto_https disable_redirects", icws+over+strings.ReplaceAll(size.sites, ":1 {", fmt.Sprintf(":%d {", plain)))
				trust := trustInternal(b, filepath.Join(p.dir, "data", "caddy"), secure)
				open := func() {
					switch scheme {
					case "ws":
						w.open(b, fmt.Sprintf("ws://127.0.0.1:%d/ws", plain), 0)
					case "wss":
						w.open(b, fmt.Sprintf("wss://localhost:%d/ws", secure), 0, func(o *client.Options) { o.TLS = trust.Clone() })
					}
				}
				for range 3 { // pools and caches exist from here on
					open()
					reloadUnrelated(b, p)
				}
				before, _ := usage(b, p.admin)
				n := 0
				for b.Loop() {
					open()
					reloadUnrelated(b, p)
					n++
				}
				b.StopTimer()
				after, _ := usage(b, p.admin)
				b.ReportMetric((after-before)/float64(n), "heap-B/reload")
			})
		}
	}
}
