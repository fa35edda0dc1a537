package main

import (
	"context"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/examples/internal/bare"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// A bareClient is a session with a bare server.
type bareClient struct {
	ws    *websocket.Conn
	o     client.Options
	up    int // bytes of a frame to the server
	burst int // payloads of a frame; 0: one
	done  chan struct{}

	write sync.Mutex // one writer at a time

	mu  sync.Mutex // guards end
	end *client.CloseError
}

var barePool sync.Pool

// dialBare returns a function that opens sessions whose frames have up bytes, and for a burst what a canister would make of one
// message. Buffers are those of the gateway's clients.
func dialBare(up, burst int) func(context.Context, string, client.Options) (conn, error) {
	return func(ctx context.Context, url string, o client.Options) (conn, error) {
		dialer := websocket.Dialer{NetDialContext: o.NetDial, TLSClientConfig: o.TLS, ReadBufferSize: 512, WriteBufferSize: 2048, WriteBufferPool: &barePool}
		ws, _, err := dialer.DialContext(ctx, url, nil)
		if err != nil {
			return nil, err
		}
		if _, _, err := ws.ReadMessage(); err != nil { // the greeting
			ws.Close()
			return nil, err
		}
		c := &bareClient{ws: ws, o: o, up: up, burst: burst, done: make(chan struct{})}
		go c.read()
		return c, nil
	}
}

func (c *bareClient) read() {
	defer close(c.done)
	defer c.ws.Close()
	for {
		_, frame, err := c.ws.ReadMessage()
		if err != nil {
			c.decide(&client.CloseError{Code: client.CodeAbnormal, Err: err})
			return
		}
		payload, _, _ := bare.Next(frame) // without one it is foreign
		now := time.Now()
		c.trace(client.StepFrame, len(frame))
		c.o.OnMessage(client.Message{Payload: payload, Timestamp: now, Received: now})
	}
}

func (c *bareClient) trace(step client.Step, bytes int) {
	if c.o.Trace != nil {
		c.o.Trace(client.Event{Step: step, Bytes: bytes})
	}
}

// decide keeps the first reason to end.
func (c *bareClient) decide(end *client.CloseError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil {
		c.end = end
	}
}

// Send implements conn.
func (c *bareClient) Send(_ context.Context, payload []byte) error {
	payloads := [][]byte{payload}
	if c.burst > 0 {
		payloads = nil
		if err := bursts(payload, c.burst, func(m []byte) error {
			payloads = append(payloads, m)
			return nil
		}); err != nil {
			return err
		}
	}
	frame := bare.Append(nil, c.up, payloads...)
	c.trace(client.StepSent, len(frame))
	c.write.Lock()
	defer c.write.Unlock()
	return c.ws.WriteMessage(websocket.BinaryMessage, frame)
}

// Close implements conn.
func (c *bareClient) Close() error {
	c.leave(client.CodeNormal)
	return nil
}

// Abort implements conn.
func (c *bareClient) Abort() { c.leave(client.CodeAbnormal) }

func (c *bareClient) leave(code int) {
	c.decide(&client.CloseError{Code: code, Local: true, Err: client.ErrClosed})
	_ = c.ws.Close() // ends the reading goroutine, whatever it says
	<-c.done
}

// Done implements conn.
func (c *bareClient) Done() <-chan struct{} { return c.done }

// Err implements conn.
func (c *bareClient) Err() error {
	select {
	case <-c.done:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.end
	default:
		return nil
	}
}
