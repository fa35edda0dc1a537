package caddymodule

//lint:file-ignore SA1019 http.Transport refuses the :protocol of an extended CONNECT, golang.org/x/net/http2.Transport does not.

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// stream is the client's end of an extended CONNECT, as a net.Conn for a WebSocket client to run on.
type stream struct {
	io.ReadCloser
	io.Writer
	closing func()
}

func (s *stream) Write(p []byte) (int, error)      { return s.Writer.Write(p) }
func (s *stream) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *stream) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *stream) SetDeadline(time.Time) error      { return nil }
func (s *stream) SetReadDeadline(time.Time) error  { return nil }
func (s *stream) SetWriteDeadline(time.Time) error { return nil }
func (s *stream) Close() error {
	s.closing()
	return s.ReadCloser.Close()
}

// overStream lets the project's WebSocket client, which speaks HTTP/1.1, run over a stream that is already open: the
// upgrade request that it writes is answered here and goes no further.
type overStream struct {
	net.Conn
	mu      sync.Mutex
	answer  io.Reader
	request []byte
	ready   chan struct{}
}

func newOverStream(conn net.Conn) *overStream {
	return &overStream{Conn: conn, ready: make(chan struct{})}
}

func (o *overStream) Write(p []byte) (int, error) {
	o.mu.Lock()
	if o.answer != nil {
		o.mu.Unlock()
		return o.Conn.Write(p)
	}
	defer o.mu.Unlock()
	o.request = append(o.request, p...)
	if !strings.HasSuffix(string(o.request), "\r\n\r\n") {
		return len(p), nil
	}
	var key string
	for line := range strings.Lines(string(o.request)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(name, "Sec-WebSocket-Key") {
			key = strings.TrimSpace(value)
		}
	}
	o.answer = strings.NewReader("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		acceptKey(key) + "\r\n\r\n")
	close(o.ready)
	return len(p), nil
}

func (o *overStream) Read(p []byte) (int, error) {
	<-o.ready
	if n, err := o.answer.Read(p); err == nil {
		return n, nil
	}
	return o.Conn.Read(p)
}

// secureServer runs Caddy over TLS with an internal certificate authority and returns its port and what to trust. Go only
// offers extended CONNECT on HTTP/2 when told so by the environment, which it reads at the start of the process.
func secureServer(t testing.TB, w *world, godebug string, extra ...string) (caddy *process, port int, trust *tls.Config) {
	t.Helper()
	port = freeport.ForTest(t)
	site := strings.Replace(w.site(port, 0, append(extra, "drain_timeout 1s")...), "http://127.0.0.1", "https://localhost", 1)
	site = strings.Replace(site, "{\n", "{\n\ttls internal\n\tlog\n", 1)
	caddy = runCaddy(t, "auto_https disable_redirects", site, "GODEBUG="+godebug)
	return caddy, port, trustInternal(t, filepath.Join(caddy.dir, "data", "caddy"), port)
}

// trustInternal waits until a server has its certificate and returns what to trust. data is Caddy's data directory.
func trustInternal(t testing.TB, data string, port int) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	raw, err := os.ReadFile(filepath.Join(data, "pki", "authorities", "local", "root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool.AppendCertsFromPEM(raw)
	trust := &tls.Config{RootCAs: pool, ServerName: "localhost"}
	eventually(t, "the certificate of localhost", func() bool {
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), trust)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return trust
}

// connectRequest is an extended CONNECT.
func connectRequest(ctx context.Context, port int, body io.Reader, origin string) (*http.Request, error) {
	u := &url.URL{Scheme: "https", Host: fmt.Sprintf("localhost:%d", port), Path: "/ws"}
	r, err := http.NewRequestWithContext(ctx, http.MethodConnect, u.String(), body)
	if err != nil {
		return nil, err
	}
	r.Header = http.Header{"Sec-Websocket-Version": {"13"}}
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
	return r, nil
}

// http2Only is what tests use of a transport for HTTP/2.
type http2Only interface {
	http.RoundTripper
	CloseIdleConnections()
}

// overHTTP2 returns a transport that speaks HTTP/2 only and sends :protocol, which net/http's own refuses to.
func overHTTP2(trust *tls.Config) http2Only {
	return &http2.Transport{TLSClientConfig: trust.Clone()}
}

// dialH2 opens a stream over HTTP/2.
func dialH2(t testing.TB, transport http2Only, port int, origin string, subprotocols ...string) (net.Conn, *http.Response) {
	t.Helper()
	body, writer := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	r, err := connectRequest(ctx, port, body, origin)
	if err != nil {
		t.Fatal(err)
	}
	r.Header[":protocol"] = []string{"websocket"}
	r.Header["Sec-Websocket-Protocol"] = subprotocols
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	return &stream{ReadCloser: resp.Body, Writer: writer, closing: func() { writer.Close(); cancel() }}, resp
}

// sessionOver opens a verified session over a stream.
func sessionOver(t testing.TB, w *world, conn net.Conn) *client.Client {
	t.Helper()
	return w.open(t, "ws://stream/ws", 0, func(o *client.Options) {
		o.NetDial = func(context.Context, string, string) (net.Conn, error) { return newOverStream(conn), nil }
	})
}

// reloadUnrelated changes something in the configuration of a process that has nothing to do with its gateways.
func reloadUnrelated(t testing.TB, p *process) {
	t.Helper()
	resp, err := http.Get(p.admin + "/config/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var config map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&config); err != nil {
		t.Fatal(err)
	}
	config["logging"] = map[string]any{"logs": map[string]any{"default": map[string]any{"level": "DEBUG"}}}
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	load, err := http.NewRequest(http.MethodPost, p.admin+"/load", bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	load.Header = http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"must-revalidate"}} // even if nothing changed
	loaded, err := http.DefaultClient.Do(load)
	if err != nil {
		t.Fatal(err)
	}
	defer loaded.Body.Close()
	if loaded.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(loaded.Body)
		t.Fatalf("reload: %s %s", loaded.Status, body)
	}
}

func TestHTTP2(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	// Deadlines shorter than what the sessions are idle in between: on HTTP/2 a deadline left behind ends the stream.
	caddy, port, trust := secureServer(t, w, "http2xconnect=1", "origin https://app.example.com", "write_timeout 2s")
	transport := overHTTP2(trust)
	defer transport.CloseIdleConnections()

	var sessions []*client.Client
	for range 3 {
		conn, resp := dialH2(t, transport, port, "https://app.example.com")
		if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
			t.Fatalf("status %s over %s", resp.Status, resp.Proto)
		}
		sessions = append(sessions, sessionOver(t, w, conn))
	}
	for i, c := range sessions {
		echo(t, c, fmt.Sprint("over one connection ", i))
		echo(t, c, strings.Repeat("large ", 20000))
	}
	var list []sessionStatus
	if call(t, "GET", caddy.admin+"/icws/sessions", &list); len(list) != 3 || !list[0].ClientIP.IsLoopback() {
		t.Errorf("sessions %+v", list)
	}

	time.Sleep(2500 * time.Millisecond)
	for i, c := range sessions {
		echo(t, c, fmt.Sprint("after a silence ", i))
	}

	// A reload leaves them alone, although their handlers belong to the configuration before.
	reloadUnrelated(t, caddy)
	for i, c := range sessions {
		echo(t, c, fmt.Sprint("after the reload ", i))
	}

	// The client's close, the loss of a stream, and the operator's close each end one session.
	sessions[0].Close()
	sessions[1].Abort()
	eventually(t, "the end of two sessions", func() bool {
		call(t, "GET", caddy.admin+"/icws/sessions", &list)
		return len(list) == 1
	})
	call(t, "DELETE", fmt.Sprintf("%s/icws/sessions/%s/%d", caddy.admin, list[0].Gateway, list[0].ID), nil)
	<-sessions[2].Done()
	var closed *client.CloseError
	if !errors.As(sessions[2].Err(), &closed) || closed.Code != 1001 {
		t.Errorf("closed with %v", sessions[2].Err())
	}

	// A subprotocol is chosen here, too.
	if _, resp := dialH2(t, transport, port, "", "b@d", "token, other"); resp.StatusCode != http.StatusOK || resp.Header.Get("Sec-Websocket-Protocol") != "token" {
		t.Errorf("subprotocol: %s %v", resp.Status, resp.Header)
	}
	if _, resp := dialH2(t, transport, port, "", "b@d"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("no valid subprotocol: %s", resp.Status)
	}

	// Refusals are answers.
	if _, resp := dialH2(t, transport, port, "https://evil.example"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("another origin: %s", resp.Status)
	}

	// A plain request over the same protocol passes on.
	resp, err := (&http.Client{Transport: transport}).Get(fmt.Sprintf("https://localhost:%d/ws", port))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("plain request: %s", resp.Status)
	}

	// Exit: the drain ends the sessions that the HTTP server waits for.
	conn, _ := dialH2(t, transport, port, "https://app.example.com")
	last := sessionOver(t, w, conn)
	echo(t, last, "before the end")
	caddy.terminate(t)
	<-last.Done()
	if !errors.As(last.Err(), &closed) || closed.Code != 1001 {
		t.Errorf("closed with %v", last.Err())
	}
}

func TestHTTP3(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	caddy, port, trust := secureServer(t, w, "http2xconnect=1", "write_timeout 2s")
	transport := &http3.Transport{TLSClientConfig: trust}
	defer transport.Close()
	r, err := connectRequest(t.Context(), port, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	r.Proto = "websocket"
	r.Header["Sec-Websocket-Protocol"] = []string{"token, other"}
	conn, resp, err := dialH3(t, transport, port, r)
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("Sec-Websocket-Protocol"); got != "token" {
		t.Errorf("subprotocol %q", got)
	}
	c := sessionOver(t, w, conn)
	echo(t, c, "over QUIC")
	time.Sleep(2500 * time.Millisecond)
	echo(t, c, "after a silence")
	reloadUnrelated(t, caddy)
	echo(t, c, "after the reload")
	echo(t, c, strings.Repeat("large ", 20000))
	var list []sessionStatus
	if call(t, "GET", caddy.admin+"/icws/sessions", &list); len(list) != 1 {
		t.Fatalf("sessions %+v", list)
	}
	call(t, "DELETE", fmt.Sprintf("%s/icws/sessions/%s/%d", caddy.admin, list[0].Gateway, list[0].ID), nil)
	<-c.Done()
	var closed *client.CloseError
	if !errors.As(c.Err(), &closed) || closed.Code != 1001 {
		t.Errorf("closed with %v", c.Err())
	}
}

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

// TestNoExtendedConnect makes sure that a server which does not offer extended CONNECT still serves HTTP/1.1 to the same
// clients: that is what browsers fall back to.
func TestNoExtendedConnect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	caddy, port, trust := secureServer(t, w, "http2xconnect=0")
	transport := overHTTP2(trust)
	defer transport.CloseIdleConnections()
	r, err := connectRequest(t.Context(), port, http.NoBody, "")
	if err != nil {
		t.Fatal(err)
	}
	r.Header[":protocol"] = []string{"websocket"}
	if resp, err := transport.RoundTrip(r); err == nil {
		t.Errorf("extended CONNECT although it is not offered: %s", resp.Status)
	}
	c := w.open(t, fmt.Sprintf("wss://localhost:%d/ws", port), 0, func(o *client.Options) { o.TLS = trust.Clone() })
	echo(t, c, "over HTTP/1.1")

	// The probe command over TLS, with and without what to trust.
	args := []string{"icws", "probe", fmt.Sprintf("wss://localhost:%d/ws", port), "--canister", w.canisters[0].String(), "--network", w.url, "--timeout", hung.String()}
	if out, errs, code := command(t, t.TempDir(), nil, args...); code != 1 || !strings.Contains(errs, "--ca") {
		t.Errorf("probe without the authority: code %d\n%s%s", code, out, errs)
	}
	root := filepath.Join(caddy.dir, "data", "caddy", "pki", "authorities", "local", "root.crt")
	if out, errs, code := command(t, t.TempDir(), nil, append(args, "--ca", root)...); code != 0 || !strings.Contains(out, "ok    certificate") || !strings.Contains(out, "TLS 1.3") {
		t.Errorf("probe with the authority: code %d\n%s%s", code, out, errs)
	}
}

// dialH3 opens a stream over HTTP/3.
func dialH3(t testing.TB, transport *http3.Transport, port int, r *http.Request) (net.Conn, *http.Response, error) {
	t.Helper()
	config := transport.TLSClientConfig.Clone()
	config.NextProtos = []string{http3.NextProtoH3}
	conn, err := quic.DialAddr(t.Context(), fmt.Sprintf("127.0.0.1:%d", port), config, &quic.Config{HandshakeIdleTimeout: hung})
	if err != nil {
		return nil, nil, err
	}
	over := transport.NewClientConn(conn)
	select {
	case <-over.ReceivedSettings():
	case <-time.After(hung):
		return nil, nil, errors.New("no settings")
	}
	if !over.Settings().EnableExtendedConnect {
		return nil, nil, errors.New("the server offers no extended CONNECT")
	}
	s, err := over.OpenRequestStream(t.Context())
	if err != nil {
		return nil, nil, err
	}
	if err := s.SendRequestHeader(r); err != nil {
		return nil, nil, err
	}
	resp, err := s.ReadResponse()
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("status %s", resp.Status)
	}
	return &stream{ReadCloser: s, Writer: s, closing: func() { s.CancelRead(0) }}, resp, nil
}

// acceptKey computes Sec-WebSocket-Accept (RFC 6455 section 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
