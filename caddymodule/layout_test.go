package caddymodule

import (
	"errors"
	"fmt"
	"testing"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// What a client says in its URL reaches the gateway: on a network that has given up the older layout of certificates, one
// that reads the newer one is served and another is told why not.
func TestNewerLayout(t *testing.T) {
	w := newWorld(t, 1)
	w.net.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
		if q.Version == "v2" && q.Endpoint != "status" {
			f.Status = 410
		}
		return f
	})
	at := newSocket(t)
	mustLoad(t, fmt.Sprintf("http://localhost {\n\tbind unix/%s\n\ticws /ws %s {\n\t\t%s\n\t\tdrain_timeout 100ms\n\t}\n}\n", at, w.canisters[0], w.network()))
	over := func(o *client.Options) { o.NetDial = at.dialContext }
	c := w.open(t, "ws://localhost/ws?room=1", 0, over, func(o *client.Options) { o.AllowSharded = true })
	echo(t, c, "hi")

	o := client.Options{Canister: w.canisters[0], Authority: w.authority}
	over(&o)
	_, err := client.Dial(t.Context(), "ws://localhost/ws", o)
	closed := new(client.CloseError)
	if !errors.As(err, &closed) || closed.Code != 1008 || closed.Text != relay.ClientOutdated.Text() {
		t.Errorf("a client of the older layout: %v", err)
	}
}
