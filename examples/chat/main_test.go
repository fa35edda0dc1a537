package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/examples/chat/room"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// childVariable makes the test binary run the program itself.
const childVariable = "ICWS_CHAT_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// address is what the program says when it is ready.
type address struct{ url, rootCert string }

// tls trusts the site's certificate authority.
func (a address) tls(t *testing.T) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(a.rootCert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("no certificate in %s", a.rootCert)
	}
	return &tls.Config{RootCAs: roots}
}

// open opens a session with the canister of the chat.
func open(t *testing.T, at address) *client.Client {
	t.Helper()
	config := at.tls(t)
	resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}).Get(at.url + "/api/v2/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	status, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	rootKey, err := verify.ParseStatusReply(status)
	if err != nil {
		t.Fatal(err)
	}
	canister, err := verify.ParsePrincipal("bkyz2-fmaaa-aaaaa-qaaaq-cai")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, strings.Replace(at.url, "https", "wss", 1)+"/ws", client.Options{Canister: canister, RootKey: rootKey, TLS: config})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// bundled is a directory like web after npm has been there, without needing npm.
func bundled(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "dist"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"package.json", "dist/chat.js", "dist/index.html"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte("the file "+file), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The page, what it is told of the canister, the network's interface, and sessions all come from one origin.
func TestChat(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan address, 1), make(chan error, 1)
	go func() {
		ended <- run(ctx, options{web: bundled(t), latency: 20 * time.Millisecond}, func(url, rootCert string) { ready <- address{url, rootCert} })
	}()
	var at address
	select {
	case at = <-ready:
	case err := <-ended:
		cancel()
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: at.tls(t)}
	get := func(path string) (string, http.Header) {
		t.Helper()
		resp, err := (&http.Client{Transport: transport}).Get(at.url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d, %v", path, resp.StatusCode, err)
		}
		return string(body), resp.Header
	}
	if page, header := get("/"); page != "the file dist/index.html" || header.Get("Content-Security-Policy") == "" {
		t.Errorf("page %q, header %v", page, header)
	}
	if told, header := get("/config.json"); told != `{"canister":"bkyz2-fmaaa-aaaaa-qaaaq-cai"}` || header.Get("Content-Type") != "application/json" {
		t.Errorf("told %q, header %v", told, header)
	}
	if _, header := get("/api/v2/status"); header.Get("Content-Type") != "application/cbor" {
		t.Errorf("the network's interface: header %v", header)
	}

	c := open(t, at)
	defer c.Close()
	limit, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if err := c.Send(limit, (&room.Message{Name: "Ada", Text: "hello"}).Encode()); err != nil {
		t.Fatal(err)
	}
	for heard := ""; heard != "hello"; {
		m, err := c.Receive(limit)
		if err != nil {
			t.Fatal(err)
		}
		said, err := room.Decode(m.Payload)
		if err != nil || said.Online != 1 {
			t.Fatalf("%+v, %v", said, err)
		}
		heard = said.Text
	}
	transport.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(at.rootCert); !os.IsNotExist(err) {
		t.Errorf("keys and certificates are left behind: %v", err)
	}
}

// Interrupted, the program ends when every page has been told to come back, and with exit code 0.
func TestInterrupt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Log("interrupts cannot be sent to a child process on Windows")
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(exe, "-port", "0", "-web", bundled(t), "-latency", "10ms")
	cmd.Env = append(os.Environ(), childVariable+"=1", "TMPDIR="+dir, "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer watchdog.Stop()
	var at address
	for lines := bufio.NewScanner(stdout); at.rootCert == "" && lines.Scan(); {
		if url, _, ok := strings.Cut(lines.Text(), " (open it twice)."); ok {
			at.url = strings.TrimPrefix(url, "The chat is at ")
		}
		if file, _, ok := strings.Cut(lines.Text(), " to be spared"); ok {
			at.rootCert = strings.TrimPrefix(file, "Trust ")
		}
	}
	sessions := make([]*client.Client, 10)
	for i := range sessions {
		sessions[i] = open(t, at)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v\n%s", err, &stderr)
	}
	for _, c := range sessions {
		<-c.Done()
		var end *client.CloseError
		if !errors.As(c.Err(), &end) || end.Code != websocket.CloseGoingAway || end.Text != relay.Draining.Text() {
			t.Errorf("a session ended with %v, want code 1001 and %q: no settings have changed", c.Err(), relay.Draining.Text())
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// Caddy would share the port with whoever listens there, and half of the pages would come from there.
func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = run(t.Context(), options{port: l.Addr().(*net.TCPAddr).Port, web: bundled(t)}, func(string, string) { t.Error("ready") })
	if err == nil || !strings.Contains(err.Error(), "is taken") || !strings.Contains(err.Error(), "-port") {
		t.Errorf("ended with %v", err)
	}
}

func TestMisuse(t *testing.T) {
	for name, tt := range map[string]struct {
		options options
		want    string
	}{
		"no page":      {options{web: t.TempDir()}, "run this in the root of the repository, or set -web"},
		"no such port": {options{port: 70000, web: bundled(t)}, "there is no port 70000"},
		"no canister":  {options{web: bundled(t), canister: "does/not/exist.wasm"}, "does/not/exist.wasm"},
		"no wasm":      {options{web: bundled(t), canister: "main_test.go"}, "main_test.go"},
		"no time":      {options{web: bundled(t), latency: -time.Second}, "latency is negative"},
	} {
		err := run(t.Context(), tt.options, func(string, string) { t.Errorf("%s: ready", name) })
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: ended with %v, want %q", name, err, tt.want)
		}
	}
}
