package caddymodule

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/examples/caddylog"
	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/verify"
)

const testCanister = "bkyz2-fmaaa-aaaaa-qaaaq-cai"

// deadNetwork is a network that nobody answers for: tests of what happens before a canister is involved use it.
func deadNetwork() string {
	return "network http://" + deadAddress + "\n\t\troot_key fetch\n\t\tdrain_timeout 100ms"
}

// load runs a Caddyfile in this process, in place of what ran before. Global options that a test always wants are put
// in front: no admin endpoint, nothing persisted, storage of its own.
func load(t testing.TB, caddyfile string) error {
	t.Helper()
	raw, err := adapt("{\n\tadmin off\n\tpersist_config off\n\tskip_install_trust\n\tgrace_period 2s\n}\n" + caddyfile)
	if err != nil {
		t.Fatalf("adapting: %v\n%s", err, caddyfile)
	}
	stopAtEnd(t)
	return caddy.Load(raw, true)
}

func mustLoad(t testing.TB, caddyfile string) {
	t.Helper()
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
}

// running tells whether Caddy runs in this process. Tests that run it do so one after the other.
var running bool

// stopAtEnd ends what a test is about to run in this process, at the end of the test. One that has failed shows the log.
func stopAtEnd(t testing.TB) {
	t.Helper()
	caddylog.Watch(t)
	running = true
	t.Cleanup(func() {
		if !running {
			return
		}
		running = false
		caddylog.Show(t)
		// An empty configuration without an admin endpoint takes the present one down.
		if err := caddy.Load([]byte(`{"admin":{"disabled":true,"config":{"persist":false}}}`), true); err != nil {
			t.Error(err)
		}
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
		waitDrained(t)
	})
}

// waitDrained waits until no gateway is left.
func waitDrained(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hung)
	defer cancel()
	if err := WaitDrained(ctx); err != nil {
		t.Errorf("a gateway has not ended: %v", err)
	}
}

// dial opens a WebSocket and returns the answer too.
func dial(t testing.TB, url string, header http.Header) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	d := websocket.Dialer{HandshakeTimeout: hung}
	ws, resp, err := d.Dial(url, header)
	if err == nil {
		t.Cleanup(func() { ws.Close() })
	}
	return ws, resp, err
}

// greeted reads the gateway's first frame and returns the principal it names.
func greeted(t testing.TB, ws *websocket.Conn) verify.Principal {
	t.Helper()
	if err := ws.SetReadDeadline(time.Now().Add(hung)); err != nil {
		t.Fatal(err)
	}
	kind, frame, err := ws.ReadMessage()
	if err != nil {
		t.Fatalf("reading the handshake: %v", err)
	}
	if kind != websocket.BinaryMessage {
		t.Fatalf("handshake in a frame of type %d", kind)
	}
	p, err := verify.ParseHandshake(frame)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// responds makes sure that the connection is alive in both directions: a ping comes back.
func responds(t testing.TB, ws *websocket.Conn) {
	t.Helper()
	got := make(chan string, 1)
	ws.SetPongHandler(func(data string) error {
		select {
		case got <- data:
		default:
		}
		return nil
	})
	if err := ws.WriteControl(websocket.PingMessage, []byte("alive?"), time.Now().Add(hung)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _, _ = ws.ReadMessage() }()
	select {
	case data := <-got:
		if data != "alive?" {
			t.Fatalf("pong %q", data)
		}
	case <-time.After(hung):
		t.Fatal("no pong")
	}
}

// get makes a plain request and returns status, body and header.
func get(t testing.TB, url string) (int, string, http.Header) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}

// TestUpgradeBehindHandlers opens sessions behind everything that wraps response writers in Caddy.
func TestUpgradeBehindHandlers(t *testing.T) {
	for name, before := range map[string]string{
		"nothing":         "",
		"header":          "header X-Test yes",
		"deferred header": "header >X-Test yes",
		"encode":          "encode gzip zstd",
		"log":             "log {\n\t\toutput discard\n\t}",
		"everything":      "header >X-Test yes\n\tencode gzip zstd\n\tlog {\n\t\toutput discard\n\t}\n\ttemplates\n\tintercept {\n\t\t@teapot status 418\n\t\treplace_status @teapot 200\n\t}",
	} {
		t.Run(name, func(t *testing.T) {
			port := freeport.ForTest(t)
			mustLoad(t, fmt.Sprintf("http://127.0.0.1:%d {\n\t%s\n\troute {\n\t\ticws /ws %s {\n\t\t%s\n\t\t}\n\t\trespond \"page\"\n\t}\n}", port, before, testCanister, deadNetwork()))
			ws, resp, err := dial(t, fmt.Sprintf("ws://127.0.0.1:%d/ws", port), nil)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(before, "X-Test") && resp.Header.Get("X-Test") != "yes" {
				t.Errorf("header of the header directive is missing: %v", resp.Header)
			}
			if greeted(t, ws) == (verify.Principal{}) {
				t.Error("no principal")
			}
			responds(t, ws)
			if status, body, _ := get(t, fmt.Sprintf("http://127.0.0.1:%d/ws", port)); status != 200 || body != "page" {
				t.Errorf("plain request: %d %q", status, body)
			}
		})
	}
}

// TestAccessLog makes sure that the access log shows the upgrade and the refusal, and one line each.
func TestAccessLog(t *testing.T) {
	port, file := freeport.ForTest(t), filepath.Join(t.TempDir(), "access.log")
	mustLoad(t, fmt.Sprintf("http://127.0.0.1:%d {\n\tlog {\n\t\toutput file %s\n\t\tformat json\n\t}\n\ticws %s {\n\t\t%s\n\t\torigin https://a.io\n\t}\n}", port, file, testCanister, deadNetwork()))
	url := fmt.Sprintf("ws://127.0.0.1:%d/", port)
	ws, _, err := dial(t, url, http.Header{"Origin": {"https://a.io"}})
	if err != nil {
		t.Fatal(err)
	}
	greeted(t, ws)
	if _, _, err := dial(t, url, http.Header{"Origin": {"https://b.io"}}); err == nil {
		t.Fatal("not refused")
	}
	eventually(t, "two lines in the access log", func() bool {
		raw, _ := os.ReadFile(file)
		return bytes.Count(raw, []byte("\n")) == 2 && bytes.Count(raw, []byte(`"status":101`)) == 1 && bytes.Count(raw, []byte(`"status":403`)) == 1
	})
}

// opaqueWriter is a response writer of a handler that neither passes connections on nor lets anybody look below it.
type opaqueWriter struct {
	header http.Header
	status int
}

func (w *opaqueWriter) Header() http.Header         { return w.header }
func (w *opaqueWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *opaqueWriter) WriteHeader(status int)      { w.status = status }

// TestNotImplemented makes sure that an opening which cannot be served is answered, with 501, and not half upgraded.
func TestNotImplemented(t *testing.T) {
	upgraded := &http.Request{Method: "GET", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}}
	connected := &http.Request{Method: "CONNECT", ProtoMajor: 2, Header: http.Header{":protocol": {"websocket"}, "Sec-Websocket-Version": {"13"}}, Body: http.NoBody}
	for name, open := range map[string]func(w http.ResponseWriter) error{
		"upgrade": func(w http.ResponseWriter) error {
			_, err := upgrade(relay.Upgrader(), w, upgraded, "")
			return err
		},
		"connect": func(w http.ResponseWriter) error {
			_, _, err := connect(relay.Upgrader(), w, connected, "")
			return err
		},
	} {
		w := &opaqueWriter{header: http.Header{}}
		err := open(w)
		var status caddyhttp.HandlerError
		if !errors.As(err, &status) || status.StatusCode != http.StatusNotImplemented || w.status != 0 {
			t.Errorf("%s: %v, wrote status %d", name, err, w.status)
		}
	}
	if openingOf(upgraded) != openingUpgrade || openingOf(connected) != openingConnect {
		t.Error("not recognized as openings")
	}
}

// TestEarlyFrames sends frames together with the opening request, as some proxies do.
func TestEarlyFrames(t *testing.T) {
	port := freeport.ForTest(t)
	mustLoad(t, fmt.Sprintf("http://127.0.0.1:%d {\n\ticws %s {\n\t\t%s\n\t}\n}", port, testCanister, deadNetwork()))
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ping := []byte{0x89, 0x85, 0, 0, 0, 0, 'e', 'a', 'r', 'l', 'y'}
	request := fmt.Sprintf("GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", port)
	if _, err := conn.Write(append([]byte(request), ping...)); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(hung)); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for !bytes.Contains(got, []byte{0x8a, 5, 'e', 'a', 'r', 'l', 'y'}) {
		buf := make([]byte, 4096)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("no pong before %v, got %q", err, got)
		}
		got = append(got, buf[:n]...)
	}
	if !bytes.HasPrefix(got, []byte("HTTP/1.1 101 ")) || !bytes.Contains(got, []byte("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")) {
		t.Errorf("answer %q", got)
	}
}

// TestRefusals checks the status, the headers and the handle_errors route of every refusal.
func TestRefusals(t *testing.T) {
	port := freeport.ForTest(t)
	mustLoad(t, fmt.Sprintf(`http://127.0.0.1:%d {
	icws /ws %s {
		%s
		max_sessions_per_ip 1
		origin https://*.icp0.io
	}
	icws /all %s {
		%s
		max_sessions 1
	}
	handle_errors {
		respond "sorry {err.status_code}" {err.status_code}
	}
}`, port, testCanister, deadNetwork(), testCanister, deadNetwork()))
	base := fmt.Sprintf("ws://127.0.0.1:%d", port)

	ws, _, err := dial(t, base+"/ws", http.Header{"Origin": {"https://app.icp0.io"}})
	if err != nil {
		t.Fatal(err)
	}
	greeted(t, ws)

	for _, test := range []struct {
		name, path string
		header     http.Header
		status     int
		retry      bool
	}{
		{"origin", "/ws", http.Header{"Origin": {"https://evil.example"}}, 403, false},
		{"per address", "/ws", http.Header{"Origin": {"https://app.icp0.io"}}, 429, true},
		{"all sessions", "/all", nil, 503, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, resp, err := dial(t, base+test.path, test.header)
			if err == nil || resp == nil {
				t.Fatalf("not refused: %v", err)
			}
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != test.status || string(body) != fmt.Sprintf("sorry %d", test.status) {
				t.Errorf("status %d, body %q", resp.StatusCode, body)
			}
			if got := resp.Header.Get("Retry-After") != ""; got != test.retry {
				t.Errorf("Retry-After: %q", resp.Header.Get("Retry-After"))
			}
		})
	}

	for _, test := range []struct {
		name, request string
		status        int
		header        string
		body          string
	}{
		{"version", "GET /ws HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 426, "Sec-Websocket-Version", ""},
		{"method", "POST /ws HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 0\r\n", 405, "", ""},
		{"key", "GET /ws HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n", 429, "", ""}, // the place is taken first
		{"body", "GET /ws HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 5\r\n", 400, "", "early"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, header := rawRequest(t, port, test.request+fmt.Sprintf("Host: 127.0.0.1:%d\r\n\r\n", port)+test.body)
			if status != test.status || (test.header != "" && header.Get(test.header) == "") {
				t.Errorf("status %d, header %v", status, header)
			}
		})
	}

	// The place comes back when its client leaves, and a refused opening takes none.
	ws.Close()
	eventually(t, "the place", func() bool {
		_, _, err := dial(t, base+"/ws", http.Header{"Origin": {"https://app.icp0.io"}})
		return err == nil
	})
	status, _ := rawRequest(t, port, "GET /all HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n"+
		fmt.Sprintf("Host: 127.0.0.1:%d\r\n\r\n", port))
	if status != 503 && status != 400 {
		t.Errorf("status %d", status)
	}
}

// rawRequest sends bytes and reads an HTTP answer.
func rawRequest(t testing.TB, port int, request string) (int, http.Header) {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(hung)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, resp.Header
}
