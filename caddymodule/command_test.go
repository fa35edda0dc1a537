package caddymodule

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/verify"
)

func TestPrincipalCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := filepath.Join(dir, "key_pair")
	if err := os.WriteFile(key, unhex(t, ringV2), 0o600); err != nil {
		t.Fatal(err)
	}
	id, err := loadIdentityFile(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	fromFile := id.Sender().Encode() + "\n"

	// A file, directly and from a configuration with a placeholder.
	if out, errs, code := command(t, dir, nil, "icws", "principal", "--file", key); code != 0 || out != fromFile {
		t.Errorf("file: code %d, %q %q", code, out, errs)
	}
	config := filepath.Join(dir, "Caddyfile")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(fmt.Sprintf("http://localhost:1 {\n\ticws %s {\n\t\tidentity file {env.ICWS_TEST_KEY}\n\t}\n}", testCanister))
	if out, errs, code := command(t, dir, []string{"ICWS_TEST_KEY=" + key}, "icws", "principal", "--config", config); code != 0 || out != fromFile {
		t.Errorf("configuration with a file: code %d, %q %q", code, out, errs)
	}

	// Storage of the configuration: nothing there, then created, then the same again; both handlers, each once.
	write(fmt.Sprintf("{\n\tstorage file_system %s\n}\nhttp://localhost:1 {\n\ticws /a %s\n\ticws /b %s\n\ticws /c %s {\n\t\tidentity other\n\t}\n}",
		filepath.Join(dir, "storage"), testCanister, testCanister, testCanister))
	if out, errs, code := command(t, dir, nil, "icws", "principal", "-c", config); code != 1 || out != "" || !strings.Contains(errs, "does not exist yet") {
		t.Errorf("missing identity: code %d, %q %q", code, out, errs)
	}
	if _, err := os.Stat(filepath.Join(dir, "storage")); err == nil {
		t.Error("asking for the principal wrote to the storage")
	}
	created, errs, code := command(t, dir, nil, "icws", "principal", "-c", config, "--create")
	if code != 0 || strings.Count(created, "\n") != 2 {
		t.Fatalf("creating: code %d, %q %q", code, created, errs)
	}
	if out, errs, code := command(t, dir, nil, "icws", "principal", "-c", config); code != 0 || out != created {
		t.Errorf("again: code %d, %q, want %q; %q", code, out, created, errs)
	}
	for name, args := range map[string][]string{
		"no handler":   {"-c", filepath.Join(dir, "empty")},
		"missing file": {"--file", filepath.Join(dir, "missing")},
		"name":         {"--identity", "../x"},
		"argument":     {"surplus"},
	} {
		if err := os.WriteFile(filepath.Join(dir, "empty"), []byte("http://localhost:1 {\n\trespond hi\n}"), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append([]string{"icws", "principal"}, args...)
		if name == "no handler" {
			args = append(args, "--adapter", "caddyfile")
		}
		if out, errs, code := command(t, dir, nil, args...); code != 1 || out != "" || errs == "" {
			t.Errorf("%s: code %d, %q %q", name, code, out, errs)
		}
	}
}

func TestProbeAndStatusCommands(t *testing.T) {
	t.Parallel()
	w, port := newWorld(t, 1), freeport.ForTest(t)
	acking := w.net.Install(localnet.NewCDK(localnet.CDKOptions{AckInterval: 2 * time.Second, KeepAliveTimeout: 1900 * time.Millisecond}))
	caddy := runCaddy(t, "", w.site(port, 0, "canister "+acking.String(), "origin https://app.example.com", "drain_timeout 1s"))
	url := fmt.Sprintf("ws://127.0.0.1:%d/ws", port)
	canister, key := w.canisters[0].String(), hex.EncodeToString(w.net.RootKey())
	address := strings.TrimPrefix(caddy.admin, "http://")

	out, errs, code := command(t, t.TempDir(), nil, "icws", "probe", url, "--canister", canister, "--network", w.url, "--origin", "https://app.example.com", "--timeout", hung.String())
	if code != 0 {
		t.Fatalf("probe: code %d\n%s%s", code, out, errs)
	}
	for _, want := range []string{"ok    root key", "ok    query", "ok    state", "ok    node", "ok    interface", "ok    name", "ok    connection", "ok    upgrade", "ok    handshake", "ok    ws_open", "ok    frame", "ok    certified", "ok    session"} {
		if !strings.Contains(out, want) {
			t.Errorf("the report lacks %q:\n%s", want, out)
		}
	}
	out, errs, code = command(t, t.TempDir(), nil, "icws", "probe", url, "--canister", acking.String(), "--root-key", key, "--acks", hung.String(), "--timeout", hung.String())
	if code != 0 || !strings.Contains(out, "ok    acks") {
		t.Errorf("probe with acks: code %d\n%s%s", code, out, errs)
	}
	if out, errs, code = command(t, t.TempDir(), nil, "icws", "probe", url, "--canister", canister, "--network", w.url, "--root-key", "fetch", "--origin", "https://app.example.com", "--timeout", hung.String()); code != 0 {
		t.Errorf("probe that fetches: code %d\n%s%s", code, out, errs)
	}
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/down" {
			rw.WriteHeader(http.StatusBadGateway)
			return
		}
		http.Redirect(rw, r, "https://example.com/ws", http.StatusPermanentRedirect)
	}))
	defer front.Close()
	redirect := strings.Replace(front.URL, "http:", "ws:", 1) + "/ws"
	tls := strings.Replace(url, "ws:", "wss:", 1)
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"origin":         {[]string{url, "--canister", canister, "--root-key", key, "--origin", "https://evil.example"}, "origin is not on the gateway's list"},
		"canister":       {[]string{url, "--canister", "be2us-64aaa-aaaaa-qaabq-cai", "--root-key", key}, "is the canister on its list"},
		"wrong network":  {[]string{url, "--canister", canister, "--root-key", hex.EncodeToString(verify.MainnetRootKey())}, "not certified by this network"},
		"path":           {[]string{strings.Replace(url, "/ws", "/nowhere", 1), "--canister", canister, "--root-key", key}, "no gateway answers at this path"},
		"port":           {[]string{fmt.Sprintf("ws://127.0.0.1:%d/ws", freeport.ForTest(t)), "--canister", canister, "--root-key", key}, "is Caddy running"},
		"not tls":        {[]string{tls, "--canister", canister, "--root-key", key}, "does not speak TLS"},
		"url":            {[]string{"https://example.com", "--canister", canister}, "it starts with wss://"},
		"no canister":    {[]string{url}, "add --canister"},
		"dead network":   {[]string{url, "--canister", canister, "--network", fmt.Sprintf("http://127.0.0.1:%d", freeport.ForTest(t))}, "is http://127.0.0.1"},
		"fetch of whom":  {[]string{url, "--canister", canister, "--root-key", "fetch"}, "needs --network"},
		"fetch mainnet":  {[]string{url, "--canister", canister, "--network", "mainnet", "--root-key", "fetch"}, "is refused for mainnet"},
		"timeout":        {[]string{url, "--canister", canister, "--root-key", key, "--timeout", "0"}, "--timeout (0s) must be positive"},
		"negative acks":  {[]string{url, "--canister", canister, "--root-key", key, "--acks", "-1s"}, "--acks (-1s) must be positive"},
		"authority":      {[]string{tls, "--canister", canister, "--root-key", key, "--ca", "missing.crt"}, "--ca names the file"},
		"redirect":       {[]string{redirect, "--canister", canister, "--root-key", key}, "redirects to"},
		"bad gateway":    {[]string{strings.Replace(redirect, "/ws", "/down", 1), "--canister", canister, "--root-key", key}, "does not reach the gateway"},
		"acks too early": {[]string{url, "--canister", canister, "--root-key", key, "--acks", "300ms"}, "--acks 6m"},
	} {
		out, errs, code := command(t, t.TempDir(), nil, append([]string{"icws", "probe"}, test.args...)...)
		if code != 1 || !strings.Contains(errs, test.want) {
			t.Errorf("%s: code %d, want %q in\n%s%s", name, code, test.want, out, errs)
		}
	}

	out, errs, code = command(t, t.TempDir(), nil, "icws", "status", "--address", address)
	if code != 0 || !strings.Contains(out, ": ready") || !strings.Contains(out, "HOST") {
		t.Errorf("status: code %d\n%s%s", code, out, errs)
	}
	c := w.open(t, url, 0)
	echo(t, c, "x")
	out, errs, code = command(t, t.TempDir(), nil, "icws", "status", "--address", address, "--once")
	if code != 0 || !strings.Contains(out, canister) || !strings.Contains(out, "1 session, 2 canisters\n") {
		t.Errorf("status with a session: code %d\n%s%s", code, out, errs)
	}
	out, errs, code = command(t, t.TempDir(), nil, "icws", "status", "--address", address, "--json")
	var v view
	if err := json.Unmarshal([]byte(out), &v); code != 0 || err != nil || !v.Ready || len(v.Gateways) != 1 || len(v.Canisters) == 0 || len(v.Closes) < statusCloses {
		t.Errorf("status as JSON: code %d, %v\n%s%s", code, err, out, errs)
	}
	// The live view, as on a terminal, until somebody who has seen it twice interrupts it.
	ctx, interrupt := context.WithTimeout(t.Context(), hung)
	defer interrupt()
	screen := &screen{views: 2, done: interrupt}
	if code, err := watchStatus(ctx, screen, address, 100*time.Millisecond); code != 0 || err != nil {
		t.Errorf("live view: code %d, %v", code, err)
	}
	if screen.views > 0 || !strings.Contains(screen.text.String(), canister) {
		t.Errorf("%d views are missing: %q", screen.views, screen.text.String())
	}
	if status, _ := call(t, "POST", caddy.admin+"/icws/drain", nil); status != 202 {
		t.Errorf("drain: %d", status)
	}
	if out, errs, code = command(t, t.TempDir(), nil, "icws", "status", "--address", address); code != exitNotReady || !strings.Contains(out, "NOT READY") {
		t.Errorf("status while draining: code %d\n%s%s", code, out, errs)
	}
	if _, errs, code = command(t, t.TempDir(), nil, "icws", "status", "--address", fmt.Sprintf("127.0.0.1:%d", freeport.ForTest(t))); code != 1 || !strings.Contains(errs, "is Caddy running") {
		t.Errorf("status without a server: code %d\n%s", code, errs)
	}
	if code, err := watchStatus(t.Context(), io.Discard, fmt.Sprintf("127.0.0.1:%d", freeport.ForTest(t)), time.Second); code != exitFailed || err == nil {
		t.Errorf("live view without a server: code %d, %v", code, err)
	}
	if out, errs, code = command(t, t.TempDir(), nil, "icws", "status", "--address", caddy.admin+"/", "--once"); code != exitNotReady {
		t.Errorf("status of a URL: code %d\n%s%s", code, out, errs)
	}
	if _, errs, code = command(t, t.TempDir(), nil, "icws", "status", "--address", "localhost"); code != 1 || !strings.Contains(errs, "write it like") {
		t.Errorf("status without a port: code %d\n%s", code, errs)
	}
	if _, errs, code = command(t, t.TempDir(), nil, "icws", "stauts"); code != 1 || !strings.Contains(errs, "there are principal, probe and status") {
		t.Errorf("mistyped command: code %d\n%s", code, errs)
	}
	if out, _, code := command(t, t.TempDir(), nil, "icws"); code != 0 || !strings.Contains(out, "probe") {
		t.Errorf("no command: code %d\n%s", code, out)
	}
	if out, _, code := command(t, t.TempDir(), nil, "icws", "--help"); code != 0 || !strings.Contains(out, "probe") || !strings.Contains(out, "status") || !strings.Contains(out, "principal") {
		t.Errorf("help: code %d\n%s", code, out)
	}
}

// screen collects the live view and calls done after a number of views.
type screen struct {
	text  strings.Builder
	views int
	done  func()
}

func (s *screen) Write(p []byte) (int, error) {
	if strings.HasPrefix(string(p), "\x1b[H\x1b[2J") {
		if s.views--; s.views == 0 {
			s.done()
		}
	}
	return s.text.Write(p)
}

// TestStatusEndpoints looks at endpoints that are no Caddy's: each view uses up a connection for as long as it takes and no
// longer, an interrupt ends even a view that hangs, and what cannot be read is an error.
func TestStatusEndpoints(t *testing.T) {
	t.Parallel()
	var open atomic.Int64
	endpoint := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/icws/status" {
			fmt.Fprint(w, `{"ready":true}`)
		}
	}))
	endpoint.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	endpoint.Start()
	defer endpoint.Close()
	for range 20 {
		v, err := fetchView(t.Context(), endpoint.Listener.Addr().String())
		if err != nil || !v.Ready {
			t.Fatalf("%+v, %v", v, err)
		}
	}
	eventually(t, "the end of all connections", func() bool { return open.Load() == 0 })

	stuck := make(chan struct{})
	ctx, interrupt := context.WithCancel(t.Context())
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		interrupt()
		<-stuck
	}))
	defer hanging.Close()
	defer close(stuck)
	// What was not interrupted would be another error, after adminTimeout.
	if _, err := adminGet(ctx, hanging.Listener.Addr().String(), "/"); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted request to an endpoint that hangs: %v", err)
	}
	if code, err := watchStatus(ctx, io.Discard, hanging.Listener.Addr().String(), time.Second); code != 0 || err != nil {
		t.Errorf("interrupted view of an endpoint that hangs: code %d, %v", code, err)
	}

	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }))
	defer other.Close()
	if _, err := fetchView(t.Context(), other.Listener.Addr().String()); err == nil || !strings.Contains(err.Error(), "is it the admin endpoint") {
		t.Errorf("another server: %v", err)
	}
}

// TestStatusView checks what the view says about trouble.
func TestStatusView(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	raw := fmt.Sprintf(`{"ready": false, "reason": "gateway g reaches none of its boundary nodes",
		"gateways": [{"gateway": "g", "since": "2026-11-23T11:00:00Z", "draining": true, "gateway_principal": "2vxsx-fae", "sessions": 3,
			"hosts": [{"host": "icp-api.io", "healthy": false, "failures": 4, "latency_ns": 12345678, "last_error": "timeout \u001b[31m"}]}],
		"canisters": [{"gateway": "g", "canister_id": %[1]q, "sessions": 3, "nonce": 17, "failures": 2, "failing_since": "2026-11-23T11:59:30Z", "last_error": "IC0508"},
			{"gateway": "other", "canister_id": %[1]q, "ack_overdue": true, "last_poll": "2026-11-23T11:59:59Z"},
			{"gateway": "other", "canister_id": %[1]q, "call_error": "slow down"}],
		"closes": [{"gateway": "g", "id": 12, "at": "2026-11-23T11:59:58Z", "canister_id": %[1]q, "reason": "forgotten", "code": 1012, "text": "reconnect", "duration_ns": 61500000000},
			{"gateway": "other", "id": 3, "at": "2026-11-23T11:58:00Z", "reason": "client_closed", "code": 1000, "text": "", "client_text": "bye\u001b[2J"}]}`, testCanister)
	var v view
	if err := json.Unmarshal([]byte(raw), &v); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := v.render(&out, now); err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(` +`).ReplaceAllString(out.String(), " ")
	for _, want := range []string{
		"CANISTER GATEWAY SESSIONS", "icp-api.io g 4 failures 12.3ms timeout", testCanister + " g 3 17 never never failing since 30s ago (2 polls): IC0508\n", testCanister + " other 0 0 1s ago never sends no acks",
		testCanister + " other 0 0 never never calls fail: slow down\n",
		testCanister + " g 12 1m1.5s 2s ago forgotten (1012): reconnect\n", "no canister other 3 0s 2m0s ago client_closed (1000): bye",
	} {
		if !strings.Contains(rows, want) {
			t.Errorf("the view lacks %q:\n%s", want, out.String())
		}
	}
	for _, want := range []string{"NOT READY: gateway g reaches none", "up 1h0m0s, 3 sessions, 0 canisters, DRAINING\n", "DRAINING", "4 failures", "12.3ms", "timeout",
		"failing since 30s ago (2 polls): IC0508", "sends no acks", "1s ago", "never"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the view lacks %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("a text from the network controls the terminal: %q", out.String())
	}
}

// TestStatusFits cuts views to the size of a terminal.
func TestStatusFits(t *testing.T) {
	text := "1234567890\näöü\n3\n4\n5\n"
	for _, test := range []struct {
		width, height int
		want          string
	}{
		{0, 0, text},
		{10, 6, text},
		{9, 6, "123456...\näöü\n3\n4\n5\n"},
		{10, 5, "1234567890\näöü\n3\n... 2 l...\n"},
		{80, 4, "1234567890\näöü\n... 3 lines more, see --once\n"},
		{2, 1, text},
	} {
		if got := cut(text, test.width, test.height); got != test.want {
			t.Errorf("%d x %d: %q, want %q", test.width, test.height, got, test.want)
		}
	}
	// Letters of two columns, and marks of none.
	for line, want := range map[string]string{"漢字漢字漢": "漢字漢字漢", "漢字漢字漢a": "漢字漢...", "a漢字漢字漢": "a漢字漢...", "e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301": "", "🙂🙂🙂🙂🙂🙂": "🙂🙂🙂..."} {
		if want == "" {
			want = line
		}
		if got := clip(line, 10); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
	if got := fit("view\n", new(strings.Builder)); got != "\x1b[H\x1b[2Jview\n" {
		t.Errorf("on what is no terminal: %q", got)
	}
}
