package relay_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// One of two boundary nodes leaves out the first message of what it is asked for while the canister is upgraded. What the other
// shows of the new queue is taken all the same.
func TestUpgradeWhileAHostLeavesMessagesOut(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprintf("install time known %t", known), func(t *testing.T) {
			var node *skippingNode
			inBubble(t, rigOptions{network: localnet.Options{Nodes: 4, NoInstallTime: !known}, config: func(c *relay.Config) {
				twoNodes(c)
				node = &skippingNode{network: c.Transport, gateway: c.Identity}
				node.honest.Store(true)
				c.Transport = node
			}}, func(t *testing.T, r *rig) {
				for range 5 {
					old := r.open()
					for range 5 {
						r.echo(old, "before")
					}
					must(t, r.network.Upgrade(r.canister))
					node.honest.Store(false)
					var wg sync.WaitGroup
					for range 3 {
						time.Sleep(200 * time.Millisecond)
						wg.Go(func() {
							began := time.Now()
							c, err := client.Dial(context.Background(), r.url, r.options())
							if took := time.Since(began); err != nil || took > 15*time.Second {
								t.Errorf("a new session after the upgrade: %v after %s", err, took)
							}
							if c != nil {
								c.Close()
							}
						})
					}
					wg.Wait()
					if ce := closeOf(t, old); ce.Code != 1012 || !strings.Contains(ce.Text, "forgot") {
						t.Errorf("the old session was told %d %q", ce.Code, ce.Text)
					}
					node.honest.Store(true)
				}
				if node.skipped.Load() == 0 {
					t.Error("the node left nothing out: this shows nothing")
				}
			})
		})
	}
}

// The routing of a canister is late, as when it has moved to another subnet: boundary nodes say for a while that it does not
// exist. Its open sessions live on, up to outage_timeout.
func TestRoutingIsLate(t *testing.T) {
	t.Parallel()
	for _, cause := range []string{"canister_not_found", "subnet_not_found"} {
		for _, hosts := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, two hosts %t", cause, hosts), func(t *testing.T) {
				o := rigOptions{network: localnet.Options{Latency: time.Second}}
				if hosts {
					o.config = twoNodes
				}
				inBubble(t, o, func(t *testing.T, r *rig) {
					a, b := r.open(), r.open()
					late := func(*localnet.Request) localnet.Fault { return localnet.Fault{Status: 400, Cause: cause} }
					for _, lasts := range []time.Duration{500 * time.Millisecond, 5 * time.Second, time.Minute, 110 * time.Second} {
						r.echo(a, "before")
						r.network.SetFaults(late)
						time.Sleep(lasts)
						r.network.SetFaults(nil)
						time.Sleep(10 * time.Second)
						r.echo(a, "after")
						if err := b.Err(); err != nil {
							t.Fatalf("after %s: %v", lasts, err)
						}
					}
					r.network.SetFaults(late)
					began := time.Now()
					if ce := closeOf(t, b); ce.Code != 1011 || !strings.Contains(ce.Text, "does not exist") {
						t.Errorf("told %d %q", ce.Code, ce.Text)
					}
					if took := time.Since(began); took < 2*time.Minute || took > 140*time.Second {
						t.Errorf("told after %s, want about the outage_timeout of 2 minutes", took)
					}
				})
			})
		}
	}
}

// A canister that rejects all polls for a moment has lost nothing, at whatever poll it works again.
func TestRejectionsForAMomentLoseNothing(t *testing.T) {
	t.Parallel()
	for _, hosts := range []bool{false, true} {
		for heal := int64(1); heal <= 30; heal++ {
			t.Run(fmt.Sprintf("two hosts %t, poll %d", hosts, heal), func(t *testing.T) {
				o := rigOptions{}
				if hosts {
					o.config = twoNodes
				}
				inBubble(t, o, func(t *testing.T, r *rig) {
					c := r.open()
					r.echo(c, "before")
					a, _ := localnet.AttackNamed("rejected by the canister")
					m := a.Mount(r.network, r.canister)
					var polls atomic.Int64
					var once sync.Once
					r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
						if q.Endpoint == "query" && polls.Add(1) == heal {
							once.Do(m.Stop)
						}
						return f
					})
					r.cdk.Do(func(ctx *localnet.AppContext) {
						for i := range 40 {
							must(t, ctx.Send(c.Key().Principal, fmt.Append(nil, i)))
						}
					})
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					for i := range 40 {
						if msg, err := c.Receive(ctx); err != nil || string(msg.Payload) != fmt.Sprint(i) {
							t.Fatalf("works again at poll %d: message %d is %q, %v", heal, i, msg.Payload, err)
						}
					}
				})
			})
		}
	}
}

// A host that asks to be left alone is left alone by polls, too, if there is no other; nobody waits for it if there is.
func TestPollsHeedRetryAfter(t *testing.T) {
	t.Parallel()
	for _, two := range []bool{false, true} {
		t.Run(fmt.Sprintf("two hosts %t", two), func(t *testing.T) {
			o := rigOptions{}
			if two {
				o.config = twoNodes
			}
			inBubble(t, o, func(t *testing.T, r *rig) {
				c := r.open()
				r.echo(c, "hi")
				hosts := asked(r, func(q *localnet.Request) (f localnet.Fault) {
					if q.Boundary != "http://honest.test" {
						f.Status, f.RetryAfter = 429, 20*time.Second
					}
					return f
				})
				time.Sleep(time.Minute)
				n := hosts()
				busy := n["http://lying.test"] + n["http://network.test"]
				if busy > 10 {
					t.Errorf("it is asked %d times in a minute", busy)
				}
				if n["http://honest.test"] < 100 && two {
					t.Errorf("the other one is asked %d times", n["http://honest.test"])
				}
				r.network.SetFaults(nil)
				r.echo(c, "again")
			})
		})
	}
}
