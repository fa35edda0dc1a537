package relay_test

import (
	"fmt"
	"testing"
	"time"

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
