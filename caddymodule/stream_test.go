package caddymodule

//lint:file-ignore SA1019 http.Transport refuses the :protocol of an extended CONNECT, golang.org/x/net/http2.Transport does not.

import (
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"

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

// mustDialH3 opens a stream over an HTTP/3 connection of its own.
func mustDialH3(t testing.TB, trust *tls.Config, port int) net.Conn {
	t.Helper()
	r, err := connectRequest(t.Context(), port, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	r.Proto = "websocket"
	conn, _, err := dialH3(t, &http3.Transport{TLSClientConfig: trust}, port, r)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}
