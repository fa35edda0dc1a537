package relay_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

// Version 2 of call brings no outcome, so one of two hosts that claims to have no other could take envelopes and drop them.
func TestOneHostWithTheOldestCallOnly(t *testing.T) {
	t.Parallel()
	for _, latency := range []time.Duration{0, 12 * time.Second} { // longer than a host waits for the outcome
		t.Run(latency.String(), func(t *testing.T) {
			inBubble(t, rigOptions{network: localnet.Options{Latency: latency}, config: twoNodes}, func(t *testing.T, r *rig) {
				r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
					f.ReplyDelay = time.Millisecond
					switch {
					case q.Boundary == "http://honest.test":
						f.ReplyDelay = 350 * time.Millisecond
					case q.Endpoint == "call" && q.Version == "v2":
						f.Status = 202
					case q.Endpoint == "call":
						f.Status = 404
					}
					return f
				})
				c := r.open()
				for i := range 20 {
					r.echo(c, fmt.Sprint(i))
				}
				if r.logged("only accepts calls") {
					t.Error("the word of one host was taken for the network's")
				}
			})
		})
	}
}
