package relay_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// Where certificates need another delegation, that is read again from time to time. A failure to do so costs nothing, as
// the one there is lasts for weeks; without any, the network is at fault and not the node that gave the messages.
func TestDelegationIsReadAgain(t *testing.T) {
	inBubble(t, rigOptions{network: localnet.Options{ShardedOnly: true}}, func(t *testing.T, r *rig) {
		c, d := r.open(), r.open()
		r.echo(c, "hi")
		r.network.SetFaults(func(q *localnet.Request) localnet.Fault { return localnet.Fault{Drop: q.Endpoint == "read_state"} })
		time.Sleep(15 * time.Minute)
		began := time.Now()
		r.echo(c, "still there")
		r.echo(d, "still there")
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the echoes took %s", took)
		}
		n := 0
		for _, e := range r.logs.All() {
			if strings.Contains(e.Message, "layout they understand") {
				n++
			}
		}
		if n != 1 {
			t.Errorf("the log says %d times that delegations are swapped, want once", n)
		}
	})
}

func TestNoDelegationToBeHad(t *testing.T) {
	inBubble(t, rigOptions{network: localnet.Options{ShardedOnly: true}}, func(t *testing.T, r *rig) {
		r.network.SetFaults(func(q *localnet.Request) localnet.Fault { return localnet.Fault{Drop: q.Endpoint == "read_state"} })
		_, err := client.Dial(t.Context(), r.url, r.options())
		var ce *client.CloseError
		if !errors.As(err, &ce) || ce.Code != 1012 || !strings.Contains(ce.Text, "cannot be reached") {
			t.Errorf("the session was closed with %v, want 1012 and an outage", err)
		}
	})
}
