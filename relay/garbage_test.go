package relay_test

import (
	"context"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// One of two hosts answers, and nothing it says holds. It is left alone for as long as if it did not answer.
func TestGarbageHostIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]localnet.Fault{
		"trouble": {Status: 502},
		"html":    {Edit: func([]byte) []byte { return []byte("<html>captive portal</html>") }},
		"nothing": {Edit: func([]byte) []byte { return nil }},
		"corrupt": {Edit: func(body []byte) []byte {
			body[len(body)/2] ^= 1
			return body
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rigOptions{config: twoNodes}, func(t *testing.T, r *rig) {
				c := r.open()
				hosts := asked(r, func(q *localnet.Request) localnet.Fault {
					f := localnet.Fault{}
					if q.Boundary == "http://lying.test" {
						f = bad
					}
					f.ReplyDelay = 20 * time.Millisecond
					return f
				})
				for range 100 { // about 5 minutes
					r.echo(c, "x")
					time.Sleep(2900 * time.Millisecond)
				}
				if n := hosts()["http://lying.test"]; n > 60 {
					t.Errorf("in 5 minutes it was asked %d times", n)
				}
			})
		})
	}
}

// A canister whose every answer is garbage takes no host from the others.
func TestGarbageCanisterIsItsOwnAffair(t *testing.T) {
	inBubble(t, rigOptions{
		config: twoNodes,
		policy: func(p *relay.Policy) { p.AnyCanister = true },
	}, func(t *testing.T, r *rig) {
		garbage := r.network.Install(localnet.NewCDK(localnet.CDKOptions{}))
		garbageOnly := func(q *localnet.Request) (f localnet.Fault) {
			if q.Canister == garbage {
				f.Edit = func([]byte) []byte { return []byte("<html>") }
			}
			f.ReplyDelay = 20 * time.Millisecond
			return f
		}
		r.network.SetFaults(garbageOnly)
		c := r.open()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for ctx.Err() == nil { // clients that come again and again
				o := r.options()
				o.Canister = garbage
				if c, err := client.Dial(ctx, r.url, o); err == nil {
					t.Error("a session with the canister opens")
					c.Close()
				}
			}
		}()
		time.Sleep(10 * time.Second)
		hosts := asked(r, garbageOnly)
		for range 200 {
			r.echo(c, "x")
			for _, h := range r.gateway.Snapshot().Hosts {
				if h.Failures > 1 {
					t.Fatalf("%s has failed %d times: %s", h.Host, h.Failures, h.LastError)
				}
			}
			time.Sleep(300 * time.Millisecond)
		}
		got := hosts()
		if all := got["http://lying.test"] + got["http://honest.test"]; got["http://lying.test"] < all/4 || got["http://honest.test"] < all/4 {
			t.Errorf("asked %v", got)
		}
		cancel()
		<-done
	})
}
