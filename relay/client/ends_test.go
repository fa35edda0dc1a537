package client_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/relay/client"
)

func TestCanisterCloses(t *testing.T) {
	f := newForger(t)
	for reason, want := range map[byte]client.CloseError{
		closedByApplication: {Code: 4001, Text: "ClosedByApplication", Local: true},
		keepAliveTimeout:    {Code: 4000, Text: "Received close message from canister", Local: true},
	} {
		ended := make(chan [2]any, 1)
		url := f.serve(t, func(t *testing.T, f *forger, ws *websocket.Conn) {
			key := f.open(t, ws)
			f.send(ws, message{key: key, nonce: 8, sequence: 2, content: []byte("before")})
			f.send(ws, message{key: key, nonce: 9, sequence: 3, service: true, content: closePayload(reason)})
			f.send(ws, message{key: key, nonce: 10, sequence: 4, content: []byte("after")})
			code, text := wait(ws)
			ended <- [2]any{code, text}
		})
		ctx := timeout(t)
		c, err := client.Dial(ctx, url, f.options())
		if err != nil {
			t.Fatal(err)
		}
		<-c.Done()
		if m, err := c.Receive(ctx); err != nil || string(m.Payload) != "before" {
			t.Errorf("before the end: %q, %v", m.Payload, err)
		}
		_, err = c.Receive(ctx)
		var end *client.CloseError
		if !errors.As(err, &end) || end.Code != want.Code || end.Text != want.Text || !end.Local {
			t.Errorf("reason %d: %v", reason, err)
		}
		if got := <-ended; got != [2]any{want.Code, want.Text} {
			t.Errorf("the gateway was told %v", got)
		}
	}
}

func TestGatewayCloses(t *testing.T) {
	f := newForger(t)
	shut := func(ws *websocket.Conn, code int, text string) {
		_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, text), time.Now().Add(patience))
		wait(ws)
	}
	tests := []struct {
		name   string
		run    script
		opened bool
		code   int
		text   string
	}{
		{name: "before the handshake", code: 1013, text: "full",
			run: func(_ *testing.T, _ *forger, ws *websocket.Conn) { shut(ws, 1013, "full") }},
		{name: "instead of an answer", code: 1008, text: "canister not allowed",
			run: func(t *testing.T, f *forger, ws *websocket.Conn) {
				f.greet(t, ws)
				shut(ws, 1008, "canister not allowed")
			}},
		{name: "when open", opened: true, code: 1001, text: "restart",
			run: func(t *testing.T, f *forger, ws *websocket.Conn) {
				f.open(t, ws)
				shut(ws, 1001, "restart")
			}},
		{name: "without a frame", opened: true, code: 1006,
			run: func(t *testing.T, f *forger, ws *websocket.Conn) { f.open(t, ws) }},
		{name: "without a status", opened: true, code: 1005,
			run: func(t *testing.T, f *forger, ws *websocket.Conn) {
				f.open(t, ws)
				_ = ws.WriteControl(websocket.CloseMessage, nil, time.Now().Add(patience))
				wait(ws)
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx := timeout(t)
			c, err := client.Dial(ctx, f.serve(t, tt.run), f.options())
			if tt.opened {
				if err != nil {
					t.Fatal(err)
				}
				_, err = c.Receive(ctx)
			}
			var end *client.CloseError
			if !errors.As(err, &end) || end.Code != tt.code || end.Text != tt.text || end.Local {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestOpenTimeouts(t *testing.T) {
	f := newForger(t)
	for name, tt := range map[string]struct {
		run    script
		cancel bool
		want   error
	}{
		"no handshake": {want: client.ErrOpenTimeout,
			run: func(_ *testing.T, _ *forger, ws *websocket.Conn) { wait(ws) }},
		"no answer": {want: client.ErrOpenTimeout,
			run: func(t *testing.T, f *forger, ws *websocket.Conn) {
				f.greet(t, ws)
				if code, text := wait(ws); code != 4000 || text != "Open connection timeout" {
					t.Errorf("the gateway was told %d %s", code, text)
				}
			}},
		"caller gives up": {cancel: true, want: context.Canceled,
			run: func(t *testing.T, f *forger, ws *websocket.Conn) { f.greet(t, ws); wait(ws) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				o := f.options()
				o.OpenTimeout = time.Minute
				want := time.Minute
				if tt.cancel {
					want = 20 * time.Second
					time.AfterFunc(want, cancel)
				}
				_, err := client.Dial(ctx, f.serveInMemory(t, &o, tt.run), o)
				if took := time.Since(began); !errors.Is(err, tt.want) || took != want {
					t.Errorf("got %v after %s, want %v after %s", err, took, tt.want, want)
				}
			})
		})
	}
}

func TestAckTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newForger(t)
		told := make(chan [2]any, 1)
		o := f.options()
		o.AckTimeout = 20 * time.Second
		url := f.serveInMemory(t, &o, func(t *testing.T, f *forger, ws *websocket.Conn) {
			key := f.open(t, ws)
			if _, err := f.message(ws); err != nil {
				t.Error(err)
			}
			time.Sleep(15 * time.Second)
			f.send(ws, message{key: key, nonce: 8, sequence: 2, service: true, content: ackPayload(1)})
			code, text := wait(ws)
			told <- [2]any{code, text}
		})
		c, err := client.Dial(t.Context(), url, o)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second) // the timer does not run before the first message
		if c.Err() != nil {
			t.Fatalf("closed while idle: %v", c.Err())
		}
		sent := time.Now()
		if err := c.Send(t.Context(), []byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Receive(t.Context()); !errors.Is(err, client.ErrAckTimeout) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(sent); took != 35*time.Second {
			t.Errorf("timed out after %s, want 20 s after the acknowledgement of 15 s", took)
		}
		if got := <-told; got != [2]any{4000, "Ack message timeout"} {
			t.Errorf("the gateway was told %v", got)
		}
	})
}

func TestCloseAndAbort(t *testing.T) {
	f := newForger(t)
	told := make(chan [2]any, 1)
	url := f.serve(t, func(t *testing.T, f *forger, ws *websocket.Conn) {
		f.open(t, ws)
		code, text := wait(ws)
		told <- [2]any{code, text}
	})
	ctx := timeout(t)
	var ends []*client.CloseError
	o := f.options()
	o.OnClose = func(e *client.CloseError) { ends = append(ends, e) }
	c, err := client.Dial(ctx, url, o)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	c.Close()
	if got := <-told; got != [2]any{1000, ""} {
		t.Errorf("the gateway was told %v", got)
	}
	if err := c.Send(ctx, nil); !errors.Is(err, client.ErrClosed) {
		t.Errorf("Send: %v", err)
	}
	if len(ends) != 1 || ends[0].Code != client.CodeNormal || !ends[0].Local {
		t.Errorf("OnClose: %v", ends)
	}
	if c, err = client.Dial(ctx, url, f.options()); err != nil {
		t.Fatal(err)
	}
	c.Abort()
	if got := <-told; got[0] == client.CodeNormal {
		t.Errorf("the gateway was told %v", got)
	}
	if _, err := c.Receive(ctx); !errors.Is(err, client.ErrClosed) {
		t.Errorf("Receive: %v", err)
	}
}
