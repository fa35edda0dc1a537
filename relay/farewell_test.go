package relay_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/identity"
	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// leaver sends a few messages to whoever says something, and then closes it.
type leaver struct{ localnet.NoCallbacks }

func (leaver) OnMessage(ctx *localnet.AppContext, c verify.Principal, _ []byte) error {
	for i := range 3 {
		if err := ctx.Send(c, fmt.Append(nil, i)); err != nil {
			return err
		}
	}
	return ctx.Close(c)
}

// A message that is under way when the canister closes its client is refused, as the canister does not know the client any
// more. What the canister had sent before it closed arrives all the same, and the client sees that it was closed.
func TestLastMessagesBeforeTheCanisterCloses(t *testing.T) {
	inBubble(t, rigOptions{network: localnet.Options{Latency: time.Second}, cdk: localnet.CDKOptions{App: leaver{}}}, func(t *testing.T, r *rig) {
		c := r.open()
		r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
			if q.Endpoint == "query" {
				f.ReplyDelay = 1500 * time.Millisecond // longer than the second message takes to be refused
			}
			return f
		})
		for range 2 {
			if err := c.Send(t.Context(), []byte("bye")); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 3 {
			if m, err := c.Receive(t.Context()); err != nil || string(m.Payload) != fmt.Sprint(i) {
				t.Fatalf("message %d: %q, %v", i, m.Payload, err)
			}
		}
		if ce := closeOf(t, c); ce.Code != client.CodeByApplication || !ce.Local {
			t.Errorf("closed with %d %q, want the client's own 4001", ce.Code, ce.Text)
		}
	})
}

// After a wrong sequence number the CDK removes the client and says so in a CloseMessage. That arrives, after everything that the
// canister had sent before, although the refusal is known before the next poll is back. No ws_close follows.
func TestFarewellAfterAWrongSequenceNumber(t *testing.T) {
	t.Parallel()
	for _, motoko := range []bool{false, true} {
		for _, delay := range []time.Duration{0, 100 * time.Millisecond, 1500 * time.Millisecond, 8 * time.Second} {
			t.Run(fmt.Sprintf("motoko=%v, queries take %s", motoko, delay), func(t *testing.T) {
				inBubble(t, rigOptions{network: localnet.Options{Latency: time.Second}, cdk: localnet.CDKOptions{Motoko: motoko}}, func(t *testing.T, r *rig) {
					raw := r.openRaw()
					var closes atomic.Int64
					r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
						if q.Method == "ws_close" {
							closes.Add(1)
						}
						if q.Endpoint == "query" {
							f.ReplyDelay = delay
						}
						return f
					})
					for _, sequence := range []uint64{1, 3} {
						frame, err := raw.Composer().Message(sequence, false, []byte("hi"), time.Time{})
						if err != nil {
							t.Fatal(err)
						}
						if err := raw.Write(t.Context(), websocket.BinaryMessage, frame); err != nil {
							t.Fatal(err)
						}
					}
					frames, ce := readToEnd(t, raw)
					if frames != 2 || ce.Code != 1000 {
						t.Errorf("%d frames and %d %q, want the echo, the CloseMessage and 1000", frames, ce.Code, ce.Text)
					}
					time.Sleep(time.Minute)
					if n := closes.Load(); n != 0 {
						t.Errorf("%d ws_close for a client that the canister has removed", n)
					}
				})
			})
		}
	}
}

// The same at any moment between two polls, with a reply that is queued just before.
func TestFarewellAtAnyMoment(t *testing.T) {
	t.Parallel()
	for i := range 15 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			inBubble(t, rigOptions{network: localnet.Options{Latency: 50 * time.Millisecond}}, func(t *testing.T, r *rig) {
				raw := r.openRaw()
				r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
					if q.Endpoint == "query" {
						f.ReplyDelay = 100 * time.Millisecond
					}
					return f
				})
				time.Sleep(time.Second + time.Duration(i)*7*time.Millisecond)
				for _, sequence := range []uint64{1, 3} {
					frame, err := raw.Composer().Message(sequence, false, []byte("hi"), time.Time{})
					if err != nil {
						t.Fatal(err)
					}
					if err := raw.Write(t.Context(), websocket.BinaryMessage, frame); err != nil {
						t.Fatal(err)
					}
				}
				if frames, ce := readToEnd(t, raw); frames != 2 || ce.Code != 1000 {
					t.Errorf("%d frames and %d %q, want the echo, the CloseMessage and 1000", frames, ce.Code, ce.Text)
				}
			})
		})
	}
}

// readToEnd reads until the close frame, and returns how many messages came before it.
func readToEnd(t *testing.T, raw *client.Raw) (frames int, ce *websocket.CloseError) {
	t.Helper()
	for {
		_, _, err := raw.Read(t.Context())
		if errors.As(err, &ce) {
			return frames, ce
		}
		if err != nil {
			t.Fatal(err)
		}
		frames++
	}
}

// Where no CloseMessage comes, as after an upgrade, a session is told within seconds, and when polls fail as well it is not kept
// for good.
func TestFarewellIsBounded(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fault localnet.Fault
		limit time.Duration
	}{
		"polls are fast":  {localnet.Fault{}, 5 * time.Second},
		"polls are slow":  {localnet.Fault{ReplyDelay: 5 * time.Second}, 12 * time.Second},
		"polls fail":      {localnet.Fault{Status: 502}, 20 * time.Second},
		"polls are empty": {localnet.Fault{Lag: 1000}, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
				c := r.open()
				r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
					if q.Endpoint == "query" {
						return tc.fault
					}
					return localnet.Fault{}
				})
				r.network.Upgrade(r.canister)
				began := time.Now() // in the bubble's time
				c.Send(t.Context(), []byte("still there?"))
				if ce := closeOf(t, c); ce.Code != 1012 {
					t.Errorf("closed with %d %q, want 1012", ce.Code, ce.Text)
				}
				if took := time.Since(began); took > tc.limit {
					t.Errorf("the client was told after %s", took)
				}
			})
		})
	}
}

// A client that is slow to read, and that the canister has removed, still gets what waits for it before it is told.
func TestWhatWaitsIsDeliveredAfterARemoval(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		id, err := identity.NewRandomEd25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		o := r.options()
		o.Identity = id
		older := r.openingRaw(o)
		if _, _, err := older.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.cdk.Do(func(ctx *localnet.AppContext) {
			for i := range 5 {
				ctx.Send(older.Composer().Key().Principal, fmt.Append(nil, i))
			}
		})
		newer, err := client.Dial(t.Context(), r.url, o)
		if err != nil {
			t.Fatal(err)
		}
		defer newer.Close()
		time.Sleep(time.Second)
		if frames, ce := readToEnd(t, older); frames != 5 || ce.Code != 1008 {
			t.Errorf("%d frames and %d %q, want 5 and superseded", frames, ce.Code, ce.Text)
		}
	})
}
