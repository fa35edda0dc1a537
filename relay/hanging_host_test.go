package relay_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

// One of two hosts begins to hang. What a client sends and what the canister sends by itself is held up for little longer than the
// network takes anyway, which is a second.
func TestOneHostHangs(t *testing.T) {
	for name, hangs := range map[string]func(q *localnet.Request, f *localnet.Fault){
		"takes nothing":   func(_ *localnet.Request, f *localnet.Fault) { f.Delay = time.Hour },
		"answers nothing": func(_ *localnet.Request, f *localnet.Fault) { f.ReplyDelay = time.Hour },
		"is slow":         func(_ *localnet.Request, f *localnet.Fault) { f.ReplyDelay = 8 * time.Second },
		"no queries": func(q *localnet.Request, f *localnet.Fault) {
			if q.Endpoint == "query" {
				f.Delay = time.Hour
			}
		},
		"no calls": func(q *localnet.Request, f *localnet.Fault) {
			if q.Endpoint == "call" {
				f.Delay = time.Hour
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rigOptions{network: localnet.Options{Latency: time.Second}, config: twoNodes}, func(t *testing.T, r *rig) {
				var hang atomic.Bool
				r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
					f.ReplyDelay = 20 * time.Millisecond
					if hang.Load() && q.Boundary == "http://lying.test" {
						hangs(q, &f)
					}
					return f
				})
				c := r.open()
				for i := range 20 {
					r.echo(c, fmt.Sprint(i))
				}
				hang.Store(true)
				var worstPush, worstEcho time.Duration
				slow := 0
				for i := range 100 {
					if i%2 == 0 {
						began := time.Now()
						r.echo(c, "echo")
						took := time.Since(began)
						if worstEcho = max(worstEcho, took); took > 5*time.Second {
							slow++
						}
					}
					began := time.Now()
					r.cdk.Do(func(ctx *localnet.AppContext) { ctx.Send(c.Key().Principal, fmt.Append(nil, i)) })
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					if _, err := c.Receive(ctx); err != nil {
						t.Fatal(err)
					}
					cancel()
					worstPush = max(worstPush, time.Since(began))
					time.Sleep(200 * time.Millisecond)
				}
				// Of a host that hangs on calls alone, the first of them finds out: a replica may take 10 s.
				if first := map[bool]int{true: 1}[name == "no calls"]; worstPush > 2500*time.Millisecond || slow > first || worstEcho > 14*time.Second {
					t.Errorf("a message of the canister waited %s, an echo took %s, and %d of 50 more than 5 s", worstPush, worstEcho, slow)
				}
			})
		})
	}
}
