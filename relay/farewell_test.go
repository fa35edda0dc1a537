package relay_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

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
	for _, motoko := range []bool{false, true} {
		for _, delay := range []time.Duration{0, 100 * time.Millisecond, 1500 * time.Millisecond} {
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
					frames := 0
					var ce *websocket.CloseError
					for {
						_, _, err := raw.Read(t.Context())
						if errors.As(err, &ce) {
							break
						}
						if err != nil {
							t.Fatal(err)
						}
						frames++
					}
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
