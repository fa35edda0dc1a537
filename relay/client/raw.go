package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/verify"
)

// Raw is a connection to a gateway that has shown its handshake, before any ws_open. It has no goroutine. Reading is for
// one goroutine at a time, writing for one at a time.
type Raw struct {
	opts     Options
	conn     *websocket.Conn
	composer *Composer
	gateway  verify.Principal
}

// Buffers between the socket and gorilla. Most of what a client writes is below 1 KiB, most of what it reads comes in
// one or two segments; what a session holds while it is idle counts more, because load tests run thousands.
const readBuffer, writeBuffer = 512, 2048

var writePool sync.Pool

// DialRaw opens the WebSocket at url (ws or wss) and reads the handshake. The context covers just that; afterwards the
// connection lives until Close.
//
// Errors: *UpgradeError when the server answered with another status than 101, *CloseError when the WebSocket was closed
// or the handshake was not one, and what the network returns.
func DialRaw(ctx context.Context, url string, o Options) (*Raw, error) {
	o.setDefaults()
	composer, err := NewComposer(o)
	if err != nil {
		return nil, err
	}
	dialer := websocket.Dialer{
		NetDialContext:  o.NetDial,
		TLSClientConfig: o.TLS,
		ReadBufferSize:  readBuffer,
		WriteBufferSize: writeBuffer,
		WriteBufferPool: &writePool,
	}
	if o.NetDial == nil {
		dialer.Proxy = http.ProxyFromEnvironment
	}
	started := time.Now()
	conn, response, err := dialer.DialContext(ctx, o.address(url), o.Header)
	if err != nil {
		if response != nil && errors.Is(err, websocket.ErrBadHandshake) {
			body, _ := io.ReadAll(io.LimitReader(response.Body, 1024))
			return nil, &UpgradeError{Status: response.StatusCode, Header: response.Header, Body: string(bytes.TrimSpace(body))}
		}
		return nil, fmt.Errorf("opening the websocket: %w", err)
	}
	conn.SetReadLimit(o.MaxFrame)
	r := &Raw{opts: o, conn: conn, composer: composer}
	o.trace(Event{Step: StepUpgraded, Took: time.Since(started), TLS: r.TLS()})

	waitCtx, cancel := context.WithTimeoutCause(ctx, o.OpenTimeout, ErrOpenTimeout)
	defer cancel()
	kind, frame, err := r.Read(waitCtx)
	if err != nil {
		conn.Close()
		return nil, r.failed(waitCtx, err)
	}
	if kind == websocket.BinaryMessage {
		r.gateway, err = verify.ParseHandshake(frame)
	} else {
		err = ErrTextFrame
	}
	if err != nil {
		r.refuse(CodeProtocol, TextHandshake)
		return nil, &CloseError{Code: CodeProtocol, Text: TextHandshake, Local: true, Err: fmt.Errorf("%w: %w", ErrHandshake, err)}
	}
	o.trace(Event{Step: StepHandshake, Gateway: r.gateway, Bytes: len(frame), Took: time.Since(started)})
	return r, nil
}

// failed turns a read error into a CloseError, blaming the context if it is over.
func (r *Raw) failed(ctx context.Context, err error) *CloseError {
	if ctx.Err() == nil || errors.As(err, new(*websocket.CloseError)) {
		return closed(err)
	}
	cause := context.Cause(ctx)
	return &CloseError{Code: CodeProtocol, Text: TextOpenTimeout, Local: true, Err: cause}
}

// Gateway returns the principal that the gateway named in its handshake.
func (r *Raw) Gateway() verify.Principal { return r.gateway }

// Composer returns what signs this session's envelopes.
func (r *Raw) Composer() *Composer { return r.composer }

// Conn returns the WebSocket itself.
func (r *Raw) Conn() *websocket.Conn { return r.conn }

// TLS returns the state of the TLS connection, nil if there is none.
func (r *Raw) TLS() *tls.ConnectionState {
	if t, ok := r.conn.NetConn().(*tls.Conn); ok {
		state := t.ConnectionState()
		return &state
	}
	return nil
}

// Write sends one WebSocket message of the given kind as it is. When ctx ends first the connection is of no more use.
func (r *Raw) Write(ctx context.Context, kind int, message []byte) error {
	deadline := time.Now().Add(r.opts.WriteTimeout)
	if limit, ok := ctx.Deadline(); ok && limit.Before(deadline) {
		deadline = limit
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := r.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	if ctx.Done() != nil {
		// The deadline of the transport, because gorilla's own belongs to the writing goroutine.
		stop := context.AfterFunc(ctx, func() { _ = r.conn.NetConn().SetWriteDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	return r.conn.WriteMessage(kind, message)
}

// Read returns the next WebSocket message. The bytes are the caller's. When ctx ends first the connection is of no more
// use. The error for a close frame is gorilla's *websocket.CloseError.
func (r *Raw) Read(ctx context.Context) (kind int, message []byte, err error) {
	stop := context.AfterFunc(ctx, func() { _ = r.conn.NetConn().SetReadDeadline(time.Unix(1, 0)) })
	kind, message, err = r.conn.ReadMessage()
	if !stop() && err == nil {
		err = context.Cause(ctx) // the deadline is set or about to be: nothing can be read after this
	}
	return kind, message, err
}

// Close ends the TCP connection at once, without a close frame.
func (r *Raw) Close() error { return r.conn.Close() }

// CloseWith sends a close frame, waits at most CloseTimeout for the answer and ends the connection. An empty text and
// code 0 make a frame without status.
func (r *Raw) CloseWith(code int, text string) error {
	payload := []byte{}
	if code != 0 {
		payload = websocket.FormatCloseMessage(code, text)
	}
	limit := time.Now().Add(r.opts.CloseTimeout)
	err := r.conn.WriteControl(websocket.CloseMessage, payload, limit)
	if err == nil {
		// Closing a socket with unread data resets it, and the reset can overtake the close frame.
		_ = r.conn.SetReadDeadline(limit)
		for {
			if _, _, err := r.conn.NextReader(); err != nil {
				break
			}
		}
	}
	if e := r.conn.Close(); err == nil && !errors.Is(e, net.ErrClosed) {
		err = e
	}
	return err
}

// refuse is CloseWith for a connection whose caller is told another error.
func (r *Raw) refuse(code int, text string) { _ = r.CloseWith(code, text) }
