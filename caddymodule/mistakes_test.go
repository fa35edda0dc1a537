package caddymodule

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
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

// mistake is what somebody does wrong, and what is said of it where.
type mistake struct {
	name string
	page func(t *testing.T) error // how the session of a page ends; nil while it lives
	code int                      // of the close, or the HTTP status before the upgrade; 0 for a session that lives
	text string                   // in the close
	log  logLine                  // as far as it is named here; a warning is given once
	path string                   // that is probed; "" if a probe would do nothing wrong
	id   verify.Principal
	says string // the probe
}

// is reports whether a line is the wanted one.
func (l logLine) is(want logLine) bool {
	told := want.Status == 0 || l.Error != "" && l.ClientIP == cmp.Or(want.ClientIP, "127.0.0.1")
	named := want.Reason == "" || l.Gateway != "" // each gateway counts its sessions from 1
	return told && named && l.Level == want.Level && l.Reason == want.Reason && l.Status == want.Status && l.Canister == want.Canister && l.Clean == want.Clean &&
		strings.Contains(l.Remedy, want.Remedy) && strings.Contains(l.Error, want.Error)
}

// TestMistakes is the table of what people do wrong at a site, with a page or with the process, and of what the page, the log and the
// probe say then. The chat example, which embeds Caddy, has its interrupt in a test of its own.
func TestMistakes(t *testing.T) {
	t.Parallel()
	w, port := newWorld(t, 2), freeport.ForTest(t)
	good, stranger := w.canisters[0], w.canisters[1]
	plain := w.net.Install(bare{})
	site := func(path, settings string) string {
		return fmt.Sprintf("\ticws %s %s %s {\n\t\t%s\n\t\tdrain_timeout 1s\n\t\t%s\n\t}\n", path, good, plain, w.network(), settings)
	}
	nameless, proxied := newSocket(t), newSocket(t)
	global := fmt.Sprintf("servers unix/%s {\n\t\ttrusted_proxies_unix\n\t}", proxied)
	sites := fmt.Sprintf("http://127.0.0.1:%d {\n", port) +
		site("/ws", "") + site("/origin", "origin https://a.io") + site("/ip", "max_sessions_per_ip 1") + site("/all", "max_sessions 1\n\t\tmax_sessions_per_ip 2") +
		site("/small", "max_message_size 16KiB") + site("/shadowed/ws", "") +
		"\thandle /shadowed/* {\n\t\theader Content-Type text/html\n\t\trespond page\n\t}\n}\n" +
		fmt.Sprintf("http://nameless.test {\n\tbind unix/%s\n%s}\n", nameless, site("/ws", "max_sessions_per_ip 1")) +
		fmt.Sprintf("http://proxied.test {\n\tbind unix/%s\n%s}\n", proxied, site("/ws", "max_sessions_per_ip 1"))
	p := runCaddy(t, global, sites)
	data, admin := filepath.Join(p.dir, "data"), strings.TrimPrefix(p.admin, "http://")
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
				t.Cleanup(c.Abort)
			}
			return err
		}
	}
	canister := func(id verify.Principal) func(*client.Options) {
		return func(o *client.Options) { o.Canister = id }
	}
	// twice opens two sessions of one person behind a proxy, through a socket, and returns how the second ended.
	twice := func(host string, s socket) func(t *testing.T) error {
		return func(t *testing.T) error {
			through := func(o *client.Options) {
				o.NetDial, o.Header = s.dialContext, http.Header{"X-Forwarded-For": {"192.0.2.7"}, "Host": {host}}
			}
			if err := open("/ws", through)(t); err != nil {
				t.Fatal(err)
			}
			return open("/ws", through)(t)
		}
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
	for _, test := range []mistake{
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
		{"a limit above that of all sessions", open("/all"), 503, "",
			logLine{Level: "warn", Msg: "max_sessions_per_ip is above max_sessions, which counts: lower one or raise the other"}, "/all", good, "a limit of the gateway is reached"},
		{"a Unix socket", twice("nameless.test", nameless), 0, "",
			logLine{Level: "warn", Msg: "clients of this listener have no address, and max_sessions_per_ip does not count them: if a proxy in front says whose they are, set trusted_proxies_unix in the global option servers"}, "", good, ""},
		{"a Unix socket of a trusted proxy", twice("proxied.test", proxied), 429, "",
			logLine{Level: "warn", Msg: "opening refused: max_sessions_per_ip", Status: 429, Remedy: "raise max_sessions_per_ip", ClientIP: "192.0.2.7"}, "", good, ""},
		{"a key that everybody can read", func(t *testing.T) error {
			key, next := filepath.Join(p.dir, "key_pair"), filepath.Join(p.dir, "next")
			text := fmt.Sprintf("{\n\tadmin %s\n}\nhttp://127.0.0.1:%d {\n%s}\n", admin, port, site("/ws", "identity file "+key))
			if err := errors.Join(os.WriteFile(key, unhex(t, ringV2), 0o600), os.Chmod(key, 0o444), os.WriteFile(next, []byte(text), 0o600)); err != nil {
				t.Fatal(err)
			}
			if _, errs, code := command(t, p.dir, nil, "reload", "--config", next, "--adapter", "caddyfile"); code == 0 || !strings.Contains(errs, "chmod 600 it") {
				t.Errorf("reload: code %d, %s", code, errs)
			}
			return open("/ws")(t) // what ran before goes on
		}, 0, "", logLine{Level: "error", Msg: "request error", Error: "key_pair can be read by every user of this machine (mode -r--r--r--): chmod 600 it, or mount the secret with mode 0400"}, "", good, ""},
		{"an opening during a drain", func(t *testing.T) error {
			if status, body := call(t, "POST", p.admin+"/icws/drain", nil); status != 202 {
				t.Errorf("drain: %d %s", status, body)
			}
			return open("/ws")(t)
		}, 503, "", logLine{Level: "info", Msg: "opening refused: draining", Status: 503, Remedy: "connect again"}, "/ws", good, "it is draining"},
		{"an interrupt", func(t *testing.T) error {
			if out, errs, code := command(t, p.dir, nil, "reload", "--force", "--address", admin); code != 0 {
				t.Fatalf("reload: code %d, %s%s", code, out, errs)
			}
			c := w.open(t, base+"/ws", 0)
			if err := p.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			<-c.Done()
			p.wait(t)
			return c.Err()
		}, 1001, "gateway is shutting down, reconnect", logLine{Level: "info", Msg: "session closed", Reason: "draining", Canister: good.String()}, "", good, ""},
		{"a clean restart", func(t *testing.T) error {
			p = runCaddy(t, global, sites, "XDG_DATA_HOME="+data)
			return open("/ws")(t)
		}, 0, "", logLine{Level: "info", Msg: "gateway ready", Clean: true}, "", good, ""}, // so that nothing is closed again at the canister
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.page(t)
			code, text := 0, ""
			if err != nil {
				code, text = ending(t, err)
			}
			if code != test.code || !strings.Contains(text, test.text) {
				t.Errorf("the page gets %d %q, want %d %q", code, text, test.code, test.text)
			}
			found := 0
			eventually(t, "the line in the log", func() bool {
				found = 0
				for _, l := range p.lines(test.log.Msg) {
					if l.is(test.log) {
						found++
					}
				}
				return found > 0
			})
			if test.log.Level == "warn" && found > 1 {
				t.Errorf("the warning is there %d times", found)
			}
			for _, l := range p.lines("") {
				if l.Level == "error" && strings.HasPrefix(l.Logger, "http.log") { // Caddy's own, of a status from 500
					t.Errorf("a line of the level error: %+v", l)
				}
			}
			p.documented(t)
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
