package relay_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/identity"
	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// readClose reads until the connection ends and returns the close frame, nil if there was none.
func readClose(t *testing.T, c *client.Raw) *websocket.CloseError {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		_, _, err := c.Read(ctx)
		var ce *websocket.CloseError
		switch {
		case errors.As(err, &ce):
			return ce
		case err != nil:
			t.Fatalf("connection ended with %v, want a close frame", err)
		}
	}
}

// Each of these ends its own session, with a code and a text that say why, and nothing else happens.
func TestHostileClients(t *testing.T) {
	t.Parallel()
	write := func(t *testing.T, c *client.Raw, kind int, frames ...[]byte) {
		t.Helper()
		for _, f := range frames {
			if err := c.Write(t.Context(), kind, f); err != nil {
				t.Fatal(err)
			}
		}
	}
	must := func(frame []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return frame
	}
	other, _ := verify.PrincipalFromBytes([]byte{1, 2, 3})
	openWith := func(expiry func(now time.Time) time.Time) func(*testing.T, *client.Raw) {
		return func(t *testing.T, c *client.Raw) {
			write(t, c, websocket.BinaryMessage, must(c.Composer().Open(c.Gateway(), expiry(time.Now()))))
		}
	}
	for _, tc := range []struct {
		name    string
		options func(*client.Options)
		act     func(*testing.T, *client.Raw)
		code    int
		text    string // must be part of the close text
	}{
		{"text", nil, func(t *testing.T, c *client.Raw) { write(t, c, websocket.TextMessage, []byte("hello")) }, 1003, "text frames"},
		{"garbage", nil, func(t *testing.T, c *client.Raw) { write(t, c, websocket.BinaryMessage, []byte("garbage")) }, 1002, "envelope"},
		{"empty frame", nil, func(t *testing.T, c *client.Raw) { write(t, c, websocket.BinaryMessage, nil) }, 1002, "envelope"},
		{"candid bomb", nil, func(t *testing.T, c *client.Raw) {
			write(t, c, websocket.BinaryMessage, must(c.Composer().Call("ws_open", []byte("DIDL\x01\x6c\x01\x00\x00\x01\x00"), time.Time{})))
		}, 1002, "ws_open"},
		{"cbor ten thousand deep", nil, func(t *testing.T, c *client.Raw) {
			write(t, c, websocket.BinaryMessage, append([]byte("\xd9\xd9\xf7\xa1\x68envelope"), bytes.Repeat([]byte{0x81}, 10000)...))
		}, 1002, "envelope"},
		{"another method first", nil, func(t *testing.T, c *client.Raw) {
			write(t, c, websocket.BinaryMessage, must(c.Composer().Message(1, false, []byte("hi"), time.Time{})))
		}, 1002, "first envelope must call ws_open"},
		{"any other method", nil, func(t *testing.T, c *client.Raw) {
			write(t, c, websocket.BinaryMessage, must(c.Composer().Call("transfer", []byte("DIDL\x00\x00"), time.Time{})))
		}, 1002, "ws_open"},
		{"another gateway", nil, func(t *testing.T, c *client.Raw) {
			write(t, c, websocket.BinaryMessage, must(c.Composer().Open(other, time.Time{})))
		}, 1008, "another gateway principal"},
		{"expired", nil, openWith(func(now time.Time) time.Time { return now.Add(-10 * time.Minute) }), 1008, "expired 10 min ago"},
		{"too far ahead", nil, openWith(func(now time.Time) time.Time { return now.Add(14*time.Minute + 5*time.Second) }), 1008, "expiry 14 min ahead of IC time, check the clock"},
		{"beyond the end of time", nil, openWith(func(time.Time) time.Time { return time.Unix(1<<33, 0) }), 1008, "expiry"},
		{"broken signature", nil, func(t *testing.T, c *client.Raw) {
			frame := must(c.Composer().Open(c.Gateway(), time.Time{}))
			// The signature is the last value of the envelope, whose keys are sorted.
			frame[len(frame)-1] ^= 1
			write(t, c, websocket.BinaryMessage, frame)
		}, 1008, "signature"},
		{"canister not allowed", func(o *client.Options) { o.Canister = other }, func(t *testing.T, c *client.Raw) {
			write(t, c, websocket.BinaryMessage, must(c.Composer().Open(c.Gateway(), time.Time{})))
		}, 1008, "not allowed"},
		{"second ws_open", nil, func(t *testing.T, c *client.Raw) {
			write(t, c, websocket.BinaryMessage, must(c.Composer().Open(c.Gateway(), time.Time{})), must(c.Composer().Open(c.Gateway(), time.Time{})))
		}, 1002, "second ws_open"},
		{"more than 2 MiB", nil, func(t *testing.T, c *client.Raw) {
			// A pipe takes nothing that is not read, and the gateway reads no more of it than it has to.
			go c.Write(context.Background(), websocket.BinaryMessage, make([]byte, 3<<20))
		}, 1009, "larger"},
		{"says nothing", nil, func(*testing.T, *client.Raw) {}, 1012, "no valid ws_open within"},
		{"ping and pong, then says nothing", nil, func(t *testing.T, c *client.Raw) {
			go func() { // while it reads, as over a pipe the answer is taken by whoever reads
				for _, kind := range []int{websocket.PingMessage, websocket.PongMessage} {
					if err := c.Conn().WriteControl(kind, []byte("x"), time.Now().Add(time.Second)); err != nil {
						t.Error(err)
					}
				}
			}()
		}, 1012, "no valid ws_open within"},
		{"closes before ws_open", nil, func(t *testing.T, c *client.Raw) {
			err := c.Conn().WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(3210, "bye"), time.Now().Add(time.Second))
			if err != nil {
				t.Fatal(err)
			}
		}, 3210, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
				honest := r.open()
				o := r.options()
				if tc.options != nil {
					tc.options(&o)
				}
				c := r.raw(o)
				tc.act(t, c)
				ce := readClose(t, c)
				if ce.Code != tc.code || !strings.Contains(ce.Text, tc.text) {
					t.Errorf("closed with %d %q, want %d and a text with %q", ce.Code, ce.Text, tc.code, tc.text)
				}
				if len(ce.Text) > 123 {
					t.Errorf("text has %d bytes", len(ce.Text))
				}
				r.echo(honest, "still here")
				for _, e := range r.logs.All() {
					if strings.Contains(e.Message, "panic") {
						t.Errorf("a panic was logged: %v", e.ContextMap())
					}
				}
			})
		})
	}
}

// What violates RFC 6455 is the client's fault, and is counted as such.
func TestWebSocketViolations(t *testing.T) {
	t.Parallel()
	for name, frame := range map[string][]byte{
		"reserved bits":       {0xf2, 0x80, 0, 0, 0, 0},
		"unknown opcode":      {0x83, 0x80, 0, 0, 0, 0},
		"frame without mask":  {0x82, 0x00},
		"fragmented ping":     {0x09, 0x80, 0, 0, 0, 0},
		"close with 1005":     {0x88, 0x82, 0, 0, 0, 0, 0x03, 0xed},
		"continuation of air": {0x80, 0x80, 0, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
				c := r.raw(r.options())
				if _, err := c.Conn().NetConn().Write(frame); err != nil {
					t.Fatal(err)
				}
				if ce := readClose(t, c); ce.Code != 1002 {
					t.Errorf("closed with %d %q, want 1002", ce.Code, ce.Text)
				}
				r.waitFor("the end is logged", func() bool { return r.logged("session closed") })
				if !r.logged("out_of_protocol") {
					t.Errorf("logged %v", r.logs.All())
				}
			})
		})
	}
}

// A port scanner's connection, gone before the handshake is read.
func TestConnectionGoneBeforeOpen(t *testing.T) {
	r := newRig(t, rigOptions{})
	for range 20 {
		c := r.raw(r.options())
		c.Conn().NetConn().(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	r.echo(r.open(), "fine")
	r.waitFor("the sessions are gone", func() bool { return r.gateway.Snapshot().Sessions == 1 })
}

// With a victim's principal and nonce known, neither an unsigned, nor a replayed, nor a re-signed ws_open receives
// anything of the victim's, nor disturbs the victim.
func TestTakeover(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		nonce := uint64(0x0102030405060708)
		id, err := identity.NewRandomEd25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		o := r.options()
		o.Identity, o.Nonce = id, &nonce

		// The victim's ws_open, captured on the way.
		victimRaw := r.raw(o)
		captured, err := victimRaw.Composer().Open(victimRaw.Gateway(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if err := victimRaw.Write(t.Context(), websocket.BinaryMessage, captured); err != nil {
			t.Fatal(err)
		}
		if _, _, err := victimRaw.Read(t.Context()); err != nil { // OpenMessage
			t.Fatal(err)
		}

		forgedBy, _ := identity.NewRandomEd25519Identity()
		forger, _ := client.NewComposer(client.Options{Canister: r.canister, Identity: forgedBy, Nonce: &nonce})
		for name, frame := range map[string]func() []byte{
			"replayed": func() []byte { return captured },
			"unsigned": func() []byte {
				f := bytes.Clone(captured)
				f[len(f)-1] ^= 0xff
				return f
			},
			"the victim's sender, signed by another": func() []byte {
				// The envelope of the forger with the victim's principal in its content.
				f, err := forger.Open(victimRaw.Gateway(), time.Time{})
				if err != nil {
					t.Fatal(err)
				}
				return bytes.ReplaceAll(f, forgedBy.Sender().Raw, id.Sender().Raw)
			},
			"the live client key, signed again by the victim": func() []byte {
				f, err := victimRaw.Composer().Open(victimRaw.Gateway(), time.Time{})
				if err != nil {
					t.Fatal(err)
				}
				return f
			},
		} {
			attacker := r.raw(r.options())
			if err := attacker.Write(t.Context(), websocket.BinaryMessage, frame()); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			_, stolen, err := attacker.Read(t.Context())
			var ce *websocket.CloseError
			if !errors.As(err, &ce) || ce.Code != 1008 {
				t.Errorf("%s: got %d bytes and %v, want a close with 1008", name, len(stolen), err)
			}
		}
		// The victim still has its session.
		message, err := victimRaw.Composer().Message(1, false, []byte("mine"), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if err := victimRaw.Write(t.Context(), websocket.BinaryMessage, message); err != nil {
			t.Fatal(err)
		}
		if _, frame, err := victimRaw.Read(t.Context()); err != nil || !bytes.Contains(frame, []byte("mine")) {
			t.Fatalf("the victim got %d bytes and %v, want its message", len(frame), err)
		}
		// Once it has gone, its ws_open is still of no use to anybody.
		victimRaw.CloseWith(1000, "")
		r.waitFor("the canister forgets the victim", func() bool { return len(r.cdk.Clients()) == 0 })
		late := r.raw(r.options())
		if err := late.Write(t.Context(), websocket.BinaryMessage, captured); err != nil {
			t.Fatal(err)
		}
		if ce := readClose(t, late); ce.Code != 1008 || !strings.Contains(ce.Text, "already used") {
			t.Errorf("a replay after the end: %d %q", ce.Code, ce.Text)
		}
	})
}

// A newer session of the same principal ends the older one, as it does in the canister.
func TestSupersede(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		id, err := identity.NewRandomEd25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		dial := func() *client.Client {
			o := r.options()
			o.Identity = id
			c, err := client.Dial(t.Context(), r.url, o)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			return c
		}
		older := dial()
		r.echo(older, "first tab")
		newer := dial()
		if ce := closeOf(t, older); ce.Code != 1008 || !strings.Contains(ce.Text, "newer connection") {
			t.Errorf("the older session was closed with %d %q", ce.Code, ce.Text)
		}
		r.echo(newer, "second tab")
	})
}
