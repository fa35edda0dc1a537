package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
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
