package caddymodule

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/gorilla/websocket"
)

// opening tells how a request asks for a WebSocket.
type opening int

const (
	openingNone    opening = iota // not at all: the next handler's business
	openingUpgrade                // HTTP/1.1 Upgrade, RFC 6455
	openingConnect                // extended CONNECT over HTTP/2 (RFC 8441) or HTTP/3 (RFC 9220)
)

// openingOf classifies a request. A request that names the protocol but gets the rest wrong is still an opening, so that
// its sender learns what is wrong instead of receiving some other handler's page.
func openingOf(r *http.Request) opening {
	switch {
	case r.Method == http.MethodConnect && r.ProtoMajor == 2 && r.Header.Get(":protocol") == "websocket",
		r.Method == http.MethodConnect && r.ProtoMajor == 3 && r.Proto == "websocket":
		return openingConnect
	case r.ProtoMajor == 1 && websocket.IsWebSocketUpgrade(r):
		return openingUpgrade
	}
	return openingNone
}

// checkOpening refuses openings that break RFC 6455 with the status the RFC asks for.
func checkOpening(w http.ResponseWriter, r *http.Request, kind opening) error {
	if kind == openingUpgrade && r.Method != http.MethodGet {
		return caddyhttp.Error(http.StatusMethodNotAllowed, errors.New("a WebSocket is opened with GET"))
	}
	if kind == openingUpgrade && r.ContentLength != 0 {
		// A body would be read as the first frames, and Caddy would leave its read deadline on the connection.
		return caddyhttp.Error(http.StatusBadRequest, errors.New("a WebSocket opening has no body"))
	}
	if !strings.EqualFold(strings.TrimSpace(r.Header.Get("Sec-Websocket-Version")), "13") {
		w.Header()["Sec-WebSocket-Version"] = []string{"13"}
		return caddyhttp.Error(http.StatusUpgradeRequired, errors.New("only version 13 of the WebSocket protocol is supported"))
	}
	return nil
}

// upgrade answers an HTTP/1.1 opening and returns the connection, which belongs to the caller from then on.
func upgrade(upgrader *websocket.Upgrader, w http.ResponseWriter, r *http.Request, subprotocol string) (*websocket.Conn, error) {
	hijacker, err := findHijacker(w)
	if err != nil {
		return nil, caddyhttp.Error(http.StatusNotImplemented, err)
	}
	header := make(http.Header)
	if subprotocol != "" {
		// gorilla would keep it for the life of the session if it found it under the canonical spelling.
		header["Sec-WebSocket-Protocol"] = []string{subprotocol}
	}
	return runUpgrader(upgrader, &hijackWriter{ResponseWriter: w, hijacker: hijacker, header: header}, r, header)
}

// runUpgrader lets gorilla/websocket check an opening and build the connection. Its refusals become Caddy errors, which
// handle_errors can answer, so gorilla must not write anything itself.
func runUpgrader(upgrader *websocket.Upgrader, w http.ResponseWriter, r *http.Request, header http.Header) (*websocket.Conn, error) {
	up := *upgrader
	var status int
	up.Error = func(_ http.ResponseWriter, _ *http.Request, code int, _ error) { status = code }
	up.CheckOrigin = func(*http.Request) bool { return true } // the origin knob has decided
	ws, err := up.Upgrade(w, r, header)
	switch {
	case err == nil:
		return ws, nil
	case status == 0:
		// The connection was taken over before it failed: there is nobody left to answer.
		return nil, &brokenUpgradeError{err}
	}
	return nil, caddyhttp.Error(status, fmt.Errorf("opening the WebSocket: %w", err))
}

// brokenUpgradeError reports that the client's connection broke while it was being taken over.
type brokenUpgradeError struct{ err error }

func (e *brokenUpgradeError) Error() string { return "opening the WebSocket: " + e.err.Error() }
func (e *brokenUpgradeError) Unwrap() error { return e.err }

// hijackWriter lets gorilla/websocket, which asserts http.Hijacker on the value it is given, take over a connection that
// sits below any number of Caddy's response writers.
type hijackWriter struct {
	http.ResponseWriter
	hijacker http.Hijacker
	header   http.Header // the same map that gorilla sends after Hijack returns
}

// Hijack takes the connection over, tells the response writers about it, and collects the headers they want to send.
func (h *hijackWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, brw, err := h.hijacker.Hijack()
	if err != nil {
		return nil, nil, err
	}
	// The status reaches access logs and metrics, and `header` handlers apply what they deferred. It comes after the
	// hijack, and gorilla sends the head itself, because net/http would turn "Connection: Upgrade" into "close" on a
	// server that a reload has just begun to shut down. net/http notes the late call in Caddy's debug log only.
	h.ResponseWriter.WriteHeader(http.StatusSwitchingProtocols)
	for name, values := range h.ResponseWriter.Header() {
		if !headOnly[http.CanonicalHeaderKey(name)] {
			h.header[name] = values
		}
	}
	if n := brw.Reader.Buffered(); n > 0 {
		// A client that cannot wait has sent frames already (RFC 6455 forbids it, proxies do it): they come first.
		early, _ := brw.Reader.Peek(n)
		conn = &earlyConn{Conn: conn, early: bytes.Clone(early)}
		brw.Reader.Reset(conn)
	}
	return conn, brw, nil
}

// headOnly are the headers of the switching answer that are gorilla's alone, and those that make no sense in it.
var headOnly = map[string]bool{
	"Connection": true, "Upgrade": true, "Sec-Websocket-Accept": true, "Sec-Websocket-Extensions": true,
	"Sec-Websocket-Protocol": true, "Content-Length": true, "Content-Type": true, "Transfer-Encoding": true, "Trailer": true,
}

// findHijacker walks down the response writers to the one that owns the connection, as http.ResponseController does. It
// steps over Caddy's response recorders: they would stay reachable from the connection for the life of the session and
// with them the whole request, to count bytes for an access log line that has long been written.
func findHijacker(w http.ResponseWriter) (http.Hijacker, error) {
	for {
		wrapper, wrapped := w.(interface{ Unwrap() http.ResponseWriter })
		_, recorder := w.(caddyhttp.ResponseRecorder)
		if hijacker, ok := w.(http.Hijacker); ok && (!recorder || !wrapped) {
			return hijacker, nil
		}
		if !wrapped {
			return nil, fmt.Errorf("taking over the connection: %T offers no way to do it: place icws before the handler that wraps responses", w)
		}
		w = wrapper.Unwrap()
	}
}

// earlyConn returns what the HTTP server had already read of a connection before the connection itself.
type earlyConn struct {
	net.Conn
	early []byte
}

// Read reads the early bytes first.
func (c *earlyConn) Read(p []byte) (int, error) {
	if len(c.early) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.early)
	if c.early = c.early[n:]; len(c.early) == 0 {
		c.early = nil
	}
	return n, nil
}
