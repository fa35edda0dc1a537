package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/caddylog"
	"github.com/icws-gateway/caddy-icws/examples/localnet/candid"
	"github.com/icws-gateway/caddy-icws/examples/localnet/vetkd"
	"github.com/icws-gateway/caddy-icws/examples/private-chat/tap"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// childVariable makes the test binary run the program itself.
const childVariable = "ICWS_PRIVATE_CHAT_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(caddylog.Run(m))
}

// start runs the program until end is called or the test ends.
func start(t *testing.T, o options) (at place, end func()) {
	t.Helper()
	caddylog.Watch(t)
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan place, 1), make(chan error, 1)
	go func() { ended <- run(ctx, o, func(p place) { ready <- p }) }()
	select {
	case at = <-ready:
	case err := <-ended:
		cancel()
		t.Fatal(err)
	}
	stopped := false
	end = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(end)
	return at, end
}

// bundled is a directory like web after npm has been there, without needing npm.
func bundled(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "dist"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"package.json", "dist/private-chat.js", "dist/index.html"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte("the file "+file), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tls trusts the site's certificate authority.
func (p place) tls(t *testing.T) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(p.rootCert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("no certificate in %s", p.rootCert)
	}
	return &tls.Config{RootCAs: roots}
}

// The pane has what really passes: the frames of a session, byte for byte, and the network the same payloads.
func TestSeen(t *testing.T) {
	upstream := make(chan tap.Frame, 10_000)
	at, end := start(t, options{web: bundled(t), latency: 20 * time.Millisecond, seen: func(f tap.Frame) {
		if f.From == tap.ToNetwork || f.From == tap.FromNetwork {
			upstream <- f
		}
	}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	transport := &http.Transport{TLSClientConfig: at.tls(t)}
	get := func(path, accept string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", accept)
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", path, resp.Status)
		}
		return resp
	}
	page := get("/", "text/html")
	if body, err := io.ReadAll(page.Body); err != nil || string(body) != "the file dist/index.html" || page.Header.Get("Content-Security-Policy") == "" {
		t.Errorf("page %q, %v, header %v", body, err, page.Header)
	}
	var config struct{ Canister, RootKey, MasterKey string }
	if err := json.NewDecoder(get("/config.json", "application/json").Body).Decode(&config); err != nil {
		t.Fatal(err)
	}
	if config.MasterKey != hex.EncodeToString(at.masterKey) {
		t.Errorf("the page is told the master key %s", config.MasterKey)
	}
	rootKey, err := hex.DecodeString(config.RootKey)
	if err != nil {
		t.Fatal(err)
	}
	canister, err := verify.ParsePrincipal(config.Canister)
	if err != nil {
		t.Fatal(err)
	}
	pane := bufio.NewReader(get("/seen", "text/event-stream").Body)

	c, err := client.Dial(ctx, strings.Replace(at.url, "https", "wss", 1)+"/ws", client.Options{Canister: canister, RootKey: rootKey, TLS: at.tls(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sent := candid.Encode(candid.Case("open", nil))
	if err := c.Send(ctx, sent); err != nil {
		t.Fatal(err)
	}
	got, err := c.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}

	// The handshake, ws_open, its answer, what was sent, and what came.
	for i, want := range []struct {
		from    tap.Side
		what    string
		payload []byte
	}{
		{tap.FromGateway, "handshake of the gateway " + c.Gateway().String(), nil},
		{tap.FromClient, "ws_open signed by " + c.Key().Principal.String(), nil},
		{tap.FromGateway, "to " + c.Key().Principal.String() + ", message 1, OpenMessage", nil},
		{tap.FromClient, "ws_message signed by " + c.Key().Principal.String() + ", message 1", sent},
		{tap.FromGateway, "to " + c.Key().Principal.String() + ", message 2", got.Payload},
	} {
		var f tap.Frame
		for f.Number == 0 {
			line, err := pane.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				if err := json.Unmarshal([]byte(data), &f); err != nil {
					t.Fatal(err)
				}
			}
		}
		if f.Number != uint64(i+1) || f.Session != 1 || f.From != want.from || f.What != want.what || !bytes.Equal(f.Payload, want.payload) || !bytes.Contains(f.Bytes, f.Payload) {
			t.Errorf("message %d is %+v, want %+v", i+1, f, want)
		}
	}
	for _, want := range []struct {
		from    tap.Side
		payload []byte
	}{{tap.ToNetwork, sent}, {tap.FromNetwork, got.Payload}} {
		for f := (tap.Frame{}); f.From != want.from || !bytes.Contains(f.Bytes, want.payload); {
			select {
			case f = <-upstream:
			case <-ctx.Done():
				t.Fatalf("%s: the payload did not pass", want.from)
			}
		}
	}

	// The pane does not hold up the end, and nothing is left behind.
	transport.CloseIdleConnections()
	end()
	if rest, err := io.ReadAll(pane); err != nil {
		t.Errorf("the pane ends with %v after %q", err, rest)
	}
	if _, err := os.Stat(at.rootCert); !os.IsNotExist(err) {
		t.Errorf("keys and certificates are left behind: %v", err)
	}
}

// The program says where everything is. Interrupted, it ends with exit code 0 and leaves nothing behind, also while a pane is open.
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
	cmd := exec.CommandContext(t.Context(), exe, "-port", "0", "-web", bundled(t), "-latency", "10ms")
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
	var said strings.Builder
	for lines := bufio.NewScanner(stdout); !strings.Contains(said.String(), "Ctrl-C ends") && lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
	}
	find := func(pattern string) string {
		t.Helper()
		found := regexp.MustCompile(pattern).FindStringSubmatch(said.String())
		if found == nil {
			t.Fatalf("%q is not in %q\n%s", pattern, &said, &stderr)
		}
		return found[1]
	}
	url, rootCert := find(`of them: (https://\S+)`), find(`Trust (\S+) to be spared`)
	if master := find(`(?m)^([0-9a-f]+)$`); len(master) != 2*vetkd.PublicKeySize {
		t.Errorf("the master key is printed as %s", master)
	}
	transport := &http.Transport{TLSClientConfig: place{rootCert: rootCert}.tls(t)}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/seen", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v\n%s", err, &stderr)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
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
		err := run(t.Context(), tt.options, func(place) { t.Errorf("%s: ready", name) })
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: ended with %v, want %q", name, err, tt.want)
		}
	}
}
