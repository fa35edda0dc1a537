package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// options for a session with f.
func (f *forger) options() client.Options {
	return client.Options{Canister: f.canister, RootKey: f.rootKey, CloseTimeout: patience}
}

// patience bounds what a test waits for that comes at once, however busy the machine is.
const patience = 5 * time.Minute

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func TestSession(t *testing.T) {
	f := newForger(t)
	type seen struct {
		m    verify.WebsocketMessage
		code int
		text string
	}
	got := make(chan seen, 8)
	url := f.serve(t, func(t *testing.T, f *forger, ws *websocket.Conn) {
		key := f.open(t, ws)
		for i := range 3 { // echo, with an acknowledgement in the middle
			m, err := f.message(ws)
			if err != nil {
				t.Errorf("message %d: %v", i, err)
				return
			}
			got <- seen{m: *m}
			if m.Service {
				continue
			}
			f.send(ws, message{key: key, nonce: m.Sequence*10 + 7, sequence: 2 * m.Sequence, content: m.Content})
			if i == 0 {
				f.send(ws, message{key: key, nonce: 18, sequence: 3, service: true, content: ackPayload(1)})
			} else {
				f.send(ws, message{key: key, nonce: 40, sequence: 7, service: true, content: ackPayload(1)})
			}
		}
		code, text := wait(ws)
		got <- seen{code: code, text: text}
	})
	ctx, began := timeout(t), time.Now()
	c, err := client.Dial(ctx, url, f.options())
	if err != nil {
		t.Fatal(err)
	}
	if c.Gateway() != f.gateway {
		t.Errorf("gateway: %v", c.Gateway())
	}
	if err := c.Send(ctx, []byte("first")); err != nil {
		t.Fatal(err)
	}
	m, err := c.Receive(ctx)
	if err != nil || string(m.Payload) != "first" || m.Sequence != 2 || m.Nonce != 17 {
		t.Fatalf("echo: %+v, %v", m, err)
	}
	if m.Certified.Before(began) || m.Received.Before(m.Certified) || m.Received.After(time.Now()) || !m.Timestamp.Equal(m.Certified) {
		t.Errorf("times: received %v, certified %v, queued %v", m.Received, m.Certified, m.Timestamp)
	}
	first, alive := <-got, <-got
	if first.m.Sequence != 1 || first.m.Service || first.m.Client != c.Key() {
		t.Errorf("first message: %+v", first.m)
	}
	if s, err := verify.DecodeServiceMessage(alive.m.Content); err != nil || s.Kind != verify.ServiceKeepAlive || s.LastIncoming != 3 || alive.m.Sequence != 2 || !alive.m.Service {
		t.Errorf("answer to the acknowledgement: %+v, %+v, %v", alive.m, s, err)
	}
	if c.Sent() != 2 {
		t.Errorf("sent: %d", c.Sent())
	}
	if err := c.Send(ctx, []byte("second")); err != nil {
		t.Fatal(err)
	}
	<-got
	// The echo carries sequence number 6 where 4 is due.
	if _, err = c.Receive(ctx); !errors.Is(err, client.ErrSequence) {
		t.Fatalf("a gap: %v", err)
	}
	if last := <-got; last.code != client.CodeProtocol || last.text != client.TextReceive {
		t.Errorf("closed with %d %s", last.code, last.text)
	}
	<-c.Done()
	if err := c.Send(ctx, nil); !errors.Is(err, client.ErrSequence) {
		t.Errorf("Send after the end: %v", err)
	}
	if !errors.Is(c.Err(), client.ErrSequence) {
		t.Errorf("Err: %v", c.Err())
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// Every way in which a frame may be wrong ends the session with the SDK's code and text, and nothing of it is delivered.
func TestRefusedFrames(t *testing.T) {
	f := newForger(t)
	tests := []struct {
		name string
		// first answers ws_open; nil for a proper OpenMessage. next comes after that.
		first, next func(key verify.ClientKey) message
		raw         func(ws *websocket.Conn) // sent in place of next
		err         error
		cause       verify.Cause
		text        string
	}{
		{name: "application message first", err: client.ErrService, text: client.TextReceive,
			first: func(k verify.ClientKey) message { return message{key: k, sequence: 1, content: []byte("x")} }},
		{name: "acknowledgement first", err: client.ErrService, text: client.TextService,
			first: func(k verify.ClientKey) message {
				return message{key: k, sequence: 1, service: true, content: ackPayload(0)}
			}},
		{name: "open message for another key", err: client.ErrClientKey, text: client.TextService,
			first: func(k verify.ClientKey) message {
				other := k
				other.Nonce++
				return message{key: k, sequence: 1, service: true, content: openPayload(other)}
			}},
		{name: "sequence from 2", err: client.ErrSequence, text: client.TextReceive,
			first: func(k verify.ClientKey) message {
				return message{key: k, sequence: 2, service: true, content: openPayload(k)}
			}},
		{name: "second open message", err: client.ErrService, text: client.TextService,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 8, sequence: 2, service: true, content: openPayload(k)}
			}},
		{name: "keep-alive from the canister", err: client.ErrService, text: client.TextService,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 8, sequence: 2, service: true, content: service(1, make([]byte, 8)...)}
			}},
		{name: "garbage as service message", err: client.ErrService, cause: verify.CauseMalformed, text: client.TextService,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 8, sequence: 2, service: true, content: []byte("DIDL")}
			}},
		{name: "acknowledgement of an unsent message", err: client.ErrAck, text: client.TextAck,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 8, sequence: 2, service: true, content: ackPayload(1)}
			}},
		{name: "repeated", err: client.ErrSequence, text: client.TextReceive,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 7, sequence: 1, service: true, content: openPayload(k)}
			}},
		{name: "nonce does not rise", err: client.ErrQueue, text: client.TextReceive,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 7, sequence: 2, content: []byte("x")}
			}},
		{name: "another client's", err: client.ErrClientKey, text: client.TextReceive,
			next: func(k verify.ClientKey) message {
				k.Nonce++
				return message{key: k, nonce: 8, sequence: 2, content: []byte("x")}
			}},
		{name: "another gateway's queue", err: client.ErrVerification, cause: verify.CauseKey, text: client.TextReceive,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 8, sequence: 2, content: []byte("x"), gateway: k.Principal}
			}},
		{name: "another canister's certificate", err: client.ErrVerification, cause: verify.CauseCertifiedData, text: client.TextReceive,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 8, sequence: 2, content: []byte("x"), canister: k.Principal}
			}},
		{name: "content altered", err: client.ErrVerification, cause: verify.CauseWitness, text: client.TextReceive,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 8, sequence: 2, content: []byte("x"), tamper: true}
			}},
		{name: "witness not certified", err: client.ErrVerification, cause: verify.CauseCertifiedData, text: client.TextReceive,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 8, sequence: 2, content: []byte("x"), witnessOf: []byte("another")}
			}},
		{name: "another root key", err: client.ErrVerification, cause: verify.CauseSignature, text: client.TextReceive,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 8, sequence: 2, content: []byte("x"), secret: big.NewInt(99)}
			}},
		{name: "six minutes old", err: client.ErrVerification, cause: verify.CauseCertificateOld, text: client.TextReceive,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 8, sequence: 2, content: []byte("x"), certTime: time.Now().Add(-6 * time.Minute)}
			}},
		{name: "six minutes ahead", err: client.ErrVerification, cause: verify.CauseCertificateFuture, text: client.TextReceive,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 8, sequence: 2, content: []byte("x"), certTime: time.Now().Add(6 * time.Minute)}
			}},
		{name: "text frame", err: client.ErrTextFrame, text: client.TextReceive,
			raw: func(ws *websocket.Conn) { _ = ws.WriteMessage(websocket.TextMessage, []byte("hello")) }},
		{name: "empty frame", err: client.ErrVerification, cause: verify.CauseMalformed, text: client.TextReceive,
			raw: func(ws *websocket.Conn) { _ = ws.WriteMessage(websocket.BinaryMessage, nil) }},
		{name: "garbage", err: client.ErrVerification, cause: verify.CauseMalformed, text: client.TextReceive,
			raw: func(ws *websocket.Conn) { _ = ws.WriteMessage(websocket.BinaryMessage, []byte{0xa4, 0x63}) }},
		{name: "empty tree", err: client.ErrVerification, cause: verify.CauseMalformed, text: client.TextReceive,
			raw: func(ws *websocket.Conn) {
				_ = ws.WriteMessage(websocket.BinaryMessage, mustCBOR(map[string]any{"key": "k", "content": []byte("c"), "cert": []byte("c"), "tree": []byte{}}))
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ended := make(chan [2]any, 1)
			url := f.serve(t, func(t *testing.T, f *forger, ws *websocket.Conn) {
				key := f.greet(t, ws)
				first := message{key: key, nonce: 7, sequence: 1, service: true, content: openPayload(key)}
				if tt.first != nil {
					first = tt.first(key)
				}
				f.send(ws, first)
				if tt.next != nil {
					f.send(ws, tt.next(key))
				}
				if tt.raw != nil {
					tt.raw(ws)
				}
				code, text := wait(ws)
				ended <- [2]any{code, text}
			})
			ctx := timeout(t)
			c, err := client.Dial(ctx, url, f.options())
			if tt.first == nil {
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				var m client.Message
				if m, err = c.Receive(ctx); err == nil {
					t.Fatalf("delivered %q", m.Payload)
				}
			}
			var end *client.CloseError
			if !errors.As(err, &end) || !end.Local || end.Code != client.CodeProtocol || end.Text != tt.text || !errors.Is(err, tt.err) {
				t.Errorf("got %v", err)
			}
			if tt.cause != "" && verify.CauseOf(err) != tt.cause {
				t.Errorf("cause %q, want %q: %v", verify.CauseOf(err), tt.cause, err)
			}
			if got := <-ended; got != [2]any{client.CodeProtocol, tt.text} {
				t.Errorf("the gateway was told %v", got)
			}
		})
	}
}

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

func TestHandshakeRefused(t *testing.T) {
	f := newForger(t)
	for name, frame := range map[string][]byte{
		"empty principal": mustCBOR(map[string]any{"gateway_principal": []byte{}}),
		"text principal":  mustCBOR(map[string]any{"gateway_principal": f.gateway.String()}),
		"not cbor":        []byte("hello"),
		"text frame":      nil,
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan [2]any, 1)
			url := f.serve(t, func(_ *testing.T, _ *forger, ws *websocket.Conn) {
				kind := websocket.BinaryMessage
				if frame == nil {
					kind = websocket.TextMessage
				}
				_ = ws.WriteMessage(kind, frame)
				code, text := wait(ws)
				ended <- [2]any{code, text}
			})
			_, err := client.Dial(timeout(t), url, f.options())
			if !errors.Is(err, client.ErrHandshake) {
				t.Errorf("got %v", err)
			}
			if got := <-ended; got != [2]any{4000, "Handshake message error"} {
				t.Errorf("the gateway was told %v", got)
			}
		})
	}
}

func TestUpgradeRefused(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		http.Error(w, "max_sessions reached", http.StatusServiceUnavailable)
	}))
	defer server.Close()
	defer server.CloseClientConnections()
	_, err := client.Dial(timeout(t), "ws"+strings.TrimPrefix(server.URL, "http"), newForger(t).options())
	var refused *client.UpgradeError
	if !errors.As(err, &refused) || refused.Status != 503 || refused.Header.Get("Retry-After") != "7" || refused.Body != "max_sessions reached" {
		t.Errorf("got %v", err)
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

// A receiver that does not receive stops the reading, not the closing.
func TestFullBuffer(t *testing.T) {
	f := newForger(t)
	url := f.serve(t, func(t *testing.T, f *forger, ws *websocket.Conn) {
		key := f.open(t, ws)
		for i := range uint64(10) {
			f.send(ws, message{key: key, nonce: 8 + i, sequence: 2 + i, content: fmt.Append(nil, i)})
		}
		wait(ws)
	})
	ctx := timeout(t)
	o := f.options()
	o.Buffer = 2
	c, err := client.Dial(ctx, url, o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		m, err := c.Receive(ctx)
		if err != nil || string(m.Payload) != fmt.Sprint(i) {
			t.Fatalf("message %d: %q, %v", i, m.Payload, err)
		}
	}
	c.Close()
}

func TestOnMessageAndTrace(t *testing.T) {
	f := newForger(t)
	ctx := timeout(t)
	sent := make(chan struct{}) // the event of sending is not to be overtaken by that of the answer
	url := f.serve(t, func(t *testing.T, f *forger, ws *websocket.Conn) {
		key := f.open(t, ws)
		if _, err := f.message(ws); err != nil {
			t.Error(err)
		}
		select {
		case <-sent:
		case <-ctx.Done():
		}
		f.send(ws, message{key: key, nonce: 8, sequence: 2, content: bytes.Repeat([]byte("y"), 100_000)})
		wait(ws)
	})
	events := make(chan client.Event, 32)
	messages := make(chan client.Message, 1)
	o := f.options()
	o.Trace = func(e client.Event) { events <- e }
	o.OnMessage = func(m client.Message) { messages <- m }
	c, err := client.Dial(ctx, url, o)
	if err != nil {
		t.Fatal(err)
	}
	err = c.Send(ctx, []byte("x"))
	close(sent)
	if err != nil {
		t.Fatal(err)
	}
	if m := <-messages; len(m.Payload) != 100_000 {
		t.Errorf("got %d bytes", len(m.Payload))
	}
	c.Close()
	close(events)
	var steps []string
	for e := range events {
		steps = append(steps, string(e.Step))
		if e.Step == client.StepFrame && (e.Err != nil || !e.Flat || e.Delegated || e.CertificateTime.IsZero() || e.Bytes == 0) {
			t.Errorf("frame event: %+v", e)
		}
		if e.Step == client.StepHandshake && e.Gateway != f.gateway {
			t.Errorf("handshake event: %+v", e)
		}
	}
	if got, want := strings.Join(steps, " "), "upgraded handshake open_sent frame opened sent frame closed"; got != want {
		t.Errorf("steps: %s", got)
	}
}
