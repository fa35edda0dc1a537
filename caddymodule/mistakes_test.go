package caddymodule

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// ending is how a page's session ended: with an HTTP status before the upgrade, else with a code and a text.
func ending(t testing.TB, err error) (code int, text string) {
	t.Helper()
	var refused *client.UpgradeError
	var closed *client.CloseError
	switch {
	case errors.As(err, &refused):
		return refused.Status, refused.Body
	case errors.As(err, &closed):
		return closed.Code, closed.Text
	}
	t.Fatalf("neither refused nor closed: %v", err)
	return 0, ""
}

// TestMistakes is the table of what people do wrong at a site or with a page, and of what the page, the log and the probe say then.
func TestMistakes(t *testing.T) {
	t.Parallel()
	w, port := newWorld(t, 2), freeport.ForTest(t)
	good, stranger := w.canisters[0], w.canisters[1]
	plain := w.net.Install(bare{})
	site := func(path, settings string) string {
		return fmt.Sprintf("\ticws %s %s %s {\n\t\t%s\n\t\t%s\n\t}\n", path, good, plain, w.network(), settings)
	}
	p := runCaddy(t, "", fmt.Sprintf("http://127.0.0.1:%d {\n", port)+
		site("/ws", "")+site("/origin", "origin https://a.io")+site("/ip", "max_sessions_per_ip 1")+site("/all", "max_sessions 1")+
		site("/small", "max_message_size 16KiB")+site("/shadowed/ws", "")+
		"\thandle /shadowed/* {\n\t\theader Content-Type text/html\n\t\trespond page\n\t}\n}\n")
	base := fmt.Sprintf("ws://127.0.0.1:%d", port)
	w.open(t, base+"/ws", 0) // takes the place that /ip and /all have

	// open opens a session as the page of somebody else would, and returns how it ended.
	open := func(path string, options ...func(*client.Options)) func(t *testing.T) error {
		return func(t *testing.T) error {
			o := client.Options{Canister: good, Authority: w.authority, CloseTimeout: time.Second}
			for _, option := range options {
				option(&o)
			}
			c, err := client.Dial(t.Context(), base+path, o)
			if err == nil {
				c.Abort()
			}
			return err
		}
	}
	canister := func(id verify.Principal) func(*client.Options) {
		return func(o *client.Options) { o.Canister = id }
	}
	send := func(path string, kind int, message func(c *client.Raw) []byte) func(t *testing.T) error {
		return func(t *testing.T) error {
			c, err := client.DialRaw(t.Context(), base+path, client.Options{Canister: good, Authority: w.authority})
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.Write(t.Context(), kind, message(c)); err != nil {
				return err
			}
			_, _, err = c.Read(t.Context())
			var ce *websocket.CloseError
			if errors.As(err, &ce) {
				return &client.CloseError{Code: ce.Code, Text: ce.Text}
			}
			return err
		}
	}
	for _, test := range []struct {
		name string
		page func(t *testing.T) error
		code int    // of the close, or the HTTP status
		text string // in the close
		log  logLine
		path string // that is probed; "" if a probe would do nothing wrong
		id   verify.Principal
		says string // the probe
	}{
		{"a canister that is not named", open("/ws", canister(stranger)), 1008, "canister is not allowed on this gateway",
			logLine{Level: "info", Msg: "session closed", Reason: "canister_not_allowed", Canister: stranger.String()}, "/ws", stranger, "is the canister on its list"},
		{"a canister without the CDK", open("/ws", canister(plain)), 1011, "it does not use the IC WebSocket CDK",
			logLine{Level: "info", Msg: "session closed", Reason: "canister_unusable", Canister: plain.String()}, "/ws", plain, "is it an IC WebSocket canister"},
		{"a page of another origin", open("/origin", func(o *client.Options) { o.Header = http.Header{"Origin": {"https://b.io"}} }), 403, "",
			logLine{Level: "warn", Msg: "opening refused: origin", Status: 403, Remedy: "add its origin"}, "/origin", good, "try --origin"},
		{"one address too often", open("/ip"), 429, "",
			logLine{Level: "warn", Msg: "opening refused: max_sessions_per_ip", Status: 429, Remedy: "trusted_proxies"}, "/ip", good, "a limit of the gateway is reached"},
		{"a gateway that is full", open("/all"), 503, "",
			logLine{Level: "warn", Msg: "opening refused: max_sessions", Status: 503, Remedy: "raise max_sessions"}, "/all", good, "a limit of the gateway is reached"},
		{"a path that something else answers", open("/shadowed/ws"), 200, "page",
			logLine{Level: "warn", Msg: "no request gets to icws, as what stands before it answers all of them: give icws a block of its own, `handle /ws { icws ... }`, and the rest `handle { ... }`"},
			"/shadowed/ws", good, "give icws a block of its own, `handle /shadowed/ws { icws ... }`"},
		{"no envelope", send("/ws", websocket.BinaryMessage, func(*client.Raw) []byte { return []byte("hello") }), 1002, "use an IC WebSocket client",
			logLine{Level: "info", Msg: "session closed", Reason: "not_an_envelope"}, "", good, ""},
		{"a text frame", send("/ws", websocket.TextMessage, func(*client.Raw) []byte { return []byte("hello") }), 1003, "send binary frames",
			logLine{Level: "info", Msg: "session closed", Reason: "text_frame"}, "", good, ""},
		{"a clock that is wrong", send("/ws", websocket.BinaryMessage, func(c *client.Raw) []byte {
			frame, err := c.Composer().Open(c.Gateway(), time.Now().Add(-time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			return frame
		}), 1008, "check the clock", logLine{Level: "info", Msg: "session closed", Reason: "bad_expiry", Canister: good.String()}, "", good, ""},
		{"another gateway's principal", send("/ws", websocket.BinaryMessage, func(c *client.Raw) []byte {
			frame, err := c.Composer().Open(good, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			return frame
		}), 1008, "use the one of the handshake", logLine{Level: "info", Msg: "session closed", Reason: "wrong_gateway", Canister: good.String()}, "", good, ""},
		{"an opening that is too large", send("/ws", websocket.BinaryMessage, func(*client.Raw) []byte { return make([]byte, 20<<10) }), 1009, "larger than the 16 KiB that ws_open may have",
			logLine{Level: "info", Msg: "session closed", Reason: "too_large"}, "", good, ""},
		{"a message that is too large", func(t *testing.T) error {
			c := w.open(t, base+"/small", 0)
			_ = c.Send(t.Context(), make([]byte, 16<<10))
			<-c.Done()
			return c.Err()
		}, 1009, "larger than max_message_size of this gateway (16384 bytes)",
			logLine{Level: "info", Msg: "session closed", Reason: "too_large", Canister: good.String()}, "", good, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, text := ending(t, test.page(t))
			if code != test.code || !strings.Contains(text, test.text) {
				t.Errorf("the page gets %d %q, want %d %q", code, text, test.code, test.text)
			}
			eventually(t, "the line in the log", func() bool {
				for _, l := range p.lines(test.log.Msg) {
					if l.Level == test.log.Level && l.Reason == test.log.Reason && l.Status == test.log.Status && l.Canister == test.log.Canister && strings.Contains(l.Remedy, test.log.Remedy) {
						return true
					}
				}
				return false
			})
			if test.path == "" {
				return
			}
			out := new(report)
			probe := &prober{out: out, url: base + test.path, canister: test.id.String(), networks: []string{w.url}, timeout: time.Minute, quiet: time.Minute}
			if test.path == "/origin" {
				probe.origin = "https://b.io"
			}
			if err := probe.run(t.Context()); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("the probe says %v, want %q\n%s", err, test.says, out)
			}
		})
	}
}

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
