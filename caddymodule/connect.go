package caddymodule

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/gorilla/websocket"
)

// connect answers an extended CONNECT (RFC 8441, RFC 9220) and returns the WebSocket on its stream. The stream ends when
// the handler returns, so the caller must wait for streamConn.wait before it does.
//
// gorilla/websocket knows HTTP/1.1 only. It is shown the request as it would look there, a connection made of the stream's
// two directions, and its answer is dropped: the real one is status 200 on the stream.
func connect(upgrader *websocket.Upgrader, w http.ResponseWriter, r *http.Request, subprotocol string) (*websocket.Conn, *streamConn, error) {
	if !canFlush(w) {
		// Browsers fall back to HTTP/1.1.
		return nil, nil, caddyhttp.Error(http.StatusNotImplemented, fmt.Errorf("%T holds back what is written: place icws before the handler that wraps responses", w))
	}
	var key [16]byte
	if _, err := rand.Read(key[:]); err != nil {
		return nil, nil, err
	}
	shown := &http.Request{
		Method: http.MethodGet, URL: r.URL, Host: r.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Connection":            {"Upgrade"},
			"Upgrade":               {"websocket"},
			"Sec-Websocket-Version": {"13"},
			"Sec-Websocket-Key":     {base64.StdEncoding.EncodeToString(key[:])},
		},
	}
	conn := newStreamConn(bareWriter(w), r)
	ws, err := runUpgrader(upgrader, &streamWriter{ResponseWriter: w, conn: conn, subprotocol: subprotocol}, shown, nil)
	if err != nil {
		return nil, nil, err
	}
	return ws, conn, nil
}

// canFlush reports whether what is written to w can be sent at once, as http.ResponseController would find out.
func canFlush(w http.ResponseWriter) bool {
	for {
		switch f := w.(type) {
		case interface{ FlushError() error }, http.Flusher:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = f.Unwrap()
		default:
			return false
		}
	}
}

// bareWriter returns the response writer of the HTTP server below all those of handlers. What a session writes is not a
// response to count, encode or time: Caddy's own writer would end it after the server's write timeout, and a handler can
// only shorten that.
func bareWriter(w http.ResponseWriter) http.ResponseWriter {
	for {
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = wrapper.Unwrap()
	}
}

// bareBody is the same for what the client sends: below the server's read timeouts, and what other handlers make of bodies.
// What a session may send is bounded by max_message_size.
func bareBody(r *http.Request) io.ReadCloser {
	if timed, _ := caddyhttp.IdleTimeoutsFromContext(r.Context()); timed != nil {
		return timed.ReadCloser
	}
	return r.Body
}

// streamWriter hands gorilla/websocket the stream as if it were a hijacked connection.
type streamWriter struct {
	http.ResponseWriter
	conn        *streamConn
	subprotocol string
}

// Hijack accepts the stream.
func (s *streamWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	s.Header().Del("Sec-Websocket-Protocol") // it is not for other handlers to choose
	if s.subprotocol != "" {
		s.Header().Set("Sec-Websocket-Protocol", s.subprotocol)
	}
	s.WriteHeader(http.StatusOK)
	if err := http.NewResponseController(s.ResponseWriter).Flush(); err != nil {
		return nil, nil, err
	}
	// The server has set deadlines for a request. A hijacked connection has none either.
	if err := errors.Join(s.conn.control.SetReadDeadline(time.Time{}), s.conn.control.SetWriteDeadline(time.Time{})); err != nil {
		return nil, nil, err
	}
	return s.conn, bufio.NewReadWriter(bufio.NewReaderSize(s.conn, 16), bufio.NewWriterSize(s.conn, 16)), nil
}

// streamConn is a net.Conn over the two directions of an HTTP/2 or HTTP/3 stream. One goroutine may read and one may
// write at a time, as with any net.Conn under gorilla/websocket. After wait has returned, the request and its response
// writer are not touched any more.
type streamConn struct {
	w       http.ResponseWriter
	control *http.ResponseController
	body    io.ReadCloser
	local   net.Addr
	remote  net.Addr

	closed  atomic.Bool
	done    chan struct{} // closed by Close
	reading sync.Mutex    // held during a read of body

	writing sync.Mutex // held during a write to w
	started bool       // gorilla's HTTP/1.1 answer has been dropped; guarded by writing

	// On HTTP/2 a deadline that passes ends the stream even if nobody reads or writes, unlike that of a socket. So
	// deadlines are remembered here and in force only during a read or a write.
	setting       sync.Mutex // guards what follows, and the setting of deadlines on the stream
	inRead        bool
	readDeadline  time.Time
	writeDeadline time.Time
}

func newStreamConn(w http.ResponseWriter, r *http.Request) *streamConn {
	c := &streamConn{
		w: w, control: http.NewResponseController(w), body: bareBody(r),
		remote: streamAddr(r.RemoteAddr), done: make(chan struct{}),
	}
	c.local, _ = r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if c.local == nil {
		c.local = streamAddr("")
	}
	return c
}

// Read reads what the client sends.
func (c *streamConn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if err := c.enterRead(true); err != nil {
		return 0, err
	}
	n, err := c.body.Read(p)
	if err == nil {
		_ = c.enterRead(false)
	}
	return n, err
}

// enterRead puts the read deadline in force, or out of it.
func (c *streamConn) enterRead(in bool) error {
	c.setting.Lock()
	defer c.setting.Unlock()
	c.inRead = in
	switch {
	case c.closed.Load():
		return net.ErrClosed
	case c.readDeadline.IsZero():
		return nil
	case in:
		return c.control.SetReadDeadline(c.readDeadline)
	}
	return c.control.SetReadDeadline(time.Time{})
}

// Write sends p to the client at once. The first write is gorilla's answer to the HTTP/1.1 request it was shown.
func (c *streamConn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	if !c.started {
		c.started = true
		return len(p), nil
	}
	c.setting.Lock()
	deadline := c.writeDeadline
	c.setting.Unlock()
	if !deadline.IsZero() {
		if err := c.control.SetWriteDeadline(deadline); err != nil {
			return 0, err
		}
	}
	n, err := c.w.Write(p)
	if err == nil {
		err = c.control.Flush()
	}
	if err == nil && !deadline.IsZero() {
		err = c.control.SetWriteDeadline(time.Time{})
	}
	return n, err
}

// Close ends both directions. A write in flight ends by its deadline.
func (c *streamConn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	err := c.body.Close() // wakes a read in flight
	close(c.done)
	return err
}

// wait blocks until the connection is closed and nobody uses the stream any more.
func (c *streamConn) wait() {
	<-c.done
	c.reading.Lock()
	defer c.reading.Unlock()
	c.writing.Lock()
	defer c.writing.Unlock()
	c.setting.Lock()
	defer c.setting.Unlock()
}

// LocalAddr returns the server's address.
func (c *streamConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the address that the request came from.
func (c *streamConn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines.
func (c *streamConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline bounds the read in flight and those that follow.
func (c *streamConn) SetReadDeadline(t time.Time) error {
	c.setting.Lock()
	defer c.setting.Unlock()
	if c.closed.Load() {
		return net.ErrClosed
	}
	c.readDeadline = t
	if c.inRead {
		return c.control.SetReadDeadline(t)
	}
	return nil
}

// SetWriteDeadline bounds the writes that follow.
func (c *streamConn) SetWriteDeadline(t time.Time) error {
	c.setting.Lock()
	defer c.setting.Unlock()
	if c.closed.Load() {
		return net.ErrClosed
	}
	c.writeDeadline = t
	return nil
}

// streamAddr turns the address of a request into a net.Addr.
func streamAddr(text string) net.Addr {
	if addr, err := netip.ParseAddrPort(text); err == nil {
		return net.TCPAddrFromAddrPort(addr)
	}
	return &net.UnixAddr{Name: text, Net: "unix"}
}
