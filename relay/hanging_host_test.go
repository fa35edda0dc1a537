package relay_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
)

// One of two hosts begins to hang. What a client sends and what the canister sends by itself is held up for little longer than the
// network takes anyway: a second, or three where the first of two hosts to have a call is asked for its outcome meanwhile.
func TestOneHostHangs(t *testing.T) {
	t.Parallel()
	for name, hangs := range map[string]func(q *localnet.Request, f *localnet.Fault){
		"takes nothing":                  func(_ *localnet.Request, f *localnet.Fault) { f.Delay = time.Hour },
		"answers nothing":                func(_ *localnet.Request, f *localnet.Fault) { f.ReplyDelay = time.Hour },
		"answers nothing, of slow calls": func(_ *localnet.Request, f *localnet.Fault) { f.ReplyDelay = time.Hour },
		"is slow":                        func(_ *localnet.Request, f *localnet.Fault) { f.ReplyDelay = 8 * time.Second },
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
			latency := time.Second
			if strings.HasSuffix(name, "slow calls") {
				latency = 3 * time.Second // another host that is asked meanwhile cannot give the outcome yet, and says 202
			}
			inBubble(t, rigOptions{network: localnet.Options{Latency: latency}, config: twoNodes}, func(t *testing.T, r *rig) {
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

// One of two hosts hangs on what is read beside the messages: the delegation, node keys, the install time. Nobody waits long for
// what the other can give.
func TestOneHostHangsOnCertifiedState(t *testing.T) {
	t.Parallel()
	for name, network := range map[string]localnet.Options{
		"older layout": {},
		"newer layout": {ShardedOnly: true},
		"no other":     {V3Only: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rigOptions{network: network, config: func(c *relay.Config) {
				twoNodes(c)
				c.VerifyEmpty = true // which reads node keys
				c.PollInterval, c.PollIdleInterval = 500*time.Millisecond, 10*time.Second
			}}, func(t *testing.T, r *rig) {
				r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
					f.ReplyDelay = 20 * time.Millisecond
					if q.Endpoint == "read_state" && q.Boundary == "http://lying.test" {
						f.Delay = time.Hour
					}
					return f
				})
				began := time.Now()
				c := r.openWith(r.aware())
				// Where the network has no older layout, that is one host's word, asked for three times.
				most := map[bool]time.Duration{false: 4 * time.Second, true: 15 * time.Second}[network.V3Only]
				if took := time.Since(began); took > most {
					t.Errorf("it took %s to open", took)
				}
				for range 15 {
					began := time.Now()
					r.echo(c, "hi")
					if took := time.Since(began); took > 3*time.Second {
						t.Errorf("an echo took %s", took)
					}
					time.Sleep(time.Minute)
				}
			})
		})
	}
}
