package relay_test

import (
	"fmt"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// ackInterval is that of the CDKs.
const ackInterval = 5 * time.Minute

// instance is another gateway on the network of r, with an identity of its own.
func (r *rig) instance(config ...func(*relay.Config)) *rig {
	r.t.Helper()
	id, err := identity.NewRandomEd25519Identity()
	if err != nil {
		r.t.Fatal(err)
	}
	cfg := relay.Config{
		RootKey: r.network.RootKey(), Identity: id, UpstreamRate: 1e6, DrainTimeout: 5 * time.Second,
		Transport: r.network.RoundTripper(), Hosts: []*url.URL{{Scheme: "http", Host: "network.test"}},
	}
	for _, f := range config {
		f(&cfg)
	}
	return r.another(cfg)
}

// dialNow opens a session at r, and ends it with the test.
func (r *rig) dialNow(o client.Options) *client.Client {
	r.t.Helper()
	d := r.dialAs(o)
	if <-d.done; d.err != nil {
		r.t.Fatal(d.err)
	}
	return d.c
}

// closedAfter returns how long after since the session ends, and wants it to end as forgotten, with an invitation to reconnect.
func closedAfter(t *testing.T, c *client.Client, since time.Time) time.Duration {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(time.Hour):
		t.Fatal("a session that the canister has removed is open after an hour")
	}
	if ce := closeOf(t, c); ce.Code != relay.Forgotten.Code() {
		t.Errorf("closed with %d %q, want %d", ce.Code, ce.Text, relay.Forgotten.Code())
	}
	return time.Since(since)
}

// wantOpen checks that the sessions are open, and that the canister has them.
func (r *rig) wantOpen(sessions ...*client.Client) {
	r.t.Helper()
	known := r.known()
	for i, c := range sessions {
		if c.Err() != nil || !slices.Contains(known, c.Key()) {
			r.t.Errorf("session %d: %v; the canister knows it: %v", i, c.Err(), slices.Contains(known, c.Key()))
		}
	}
}

// A session whose principal opened another one at another instance is told with the next acks, whether it has sent anything or not,
// and whether it has been acked before or not.
func TestRemovedByAnotherInstance(t *testing.T) {
	t.Parallel()
	for _, sends := range []bool{false, true} {
		for _, age := range []time.Duration{time.Second, ackInterval + time.Minute} {
			t.Run(fmt.Sprintf("sends=%v,age=%s", sends, age), func(t *testing.T) {
				flavours(t, func(t *testing.T, r *rig) {
					other := r.instance(pollSlowly)
					listener, o := r.open(), r.person()
					first := r.dialNow(o)
					if sends {
						r.echo(first, "hi")
					}
					time.Sleep(age)
					second := other.dialNow(o)
					took := closedAfter(t, first, time.Now())
					if took > ackInterval+65*time.Second {
						t.Errorf("the first session was told after %s, want an ack interval", took)
					}
					time.Sleep(2 * ackInterval)
					r.wantOpen(listener, second)
				})
			})
		}
	}
}

// An instance that has no other session there sees no acks at all. Once it has seen three rounds it knows when the next one is due.
// Before that it waits until the canister drops its queue, which takes up to two intervals and the time for a look.
func TestOnlySessionRemovedByAnotherInstance(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ age, told time.Duration }{
		"rounds seen": {3*ackInterval + time.Minute, ackInterval + 35*time.Second},
		"never acked": {time.Second, 2*ackInterval + 3*time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			flavours(t, func(t *testing.T, r *rig) {
				other := r.instance(pollSlowly)
				o := r.person()
				first := r.dialNow(o)
				time.Sleep(tc.age)
				second := other.dialNow(o)
				if took := closedAfter(t, first, time.Now()); took > tc.told {
					t.Errorf("the first session was told after %s, want %s", took, tc.told)
				}
				time.Sleep(2 * ackInterval)
				r.wantOpen(second)
			})
		})
	}
}

// Nobody is passed over whom the canister has.
func TestNobodyIsPassedOverByMistake(t *testing.T) {
	t.Parallel()
	t.Run("a round of many pages", func(t *testing.T) {
		inBubble(t, rigOptions{cdk: localnet.CDKOptions{MaxMessages: 2}}, func(t *testing.T, r *rig) {
			var all []*client.Client
			for range 40 {
				all = append(all, r.open())
			}
			r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
				if q.Endpoint == "query" {
					f.ReplyDelay = 1500 * time.Millisecond
				}
				return f
			})
			time.Sleep(2*ackInterval + time.Minute)
			r.wantOpen(all...)
		})
	})
	t.Run("nodes that are behind", func(t *testing.T) {
		inBubble(t, rigOptions{cdk: localnet.CDKOptions{MaxMessages: 2}, network: localnet.Options{Latency: time.Second, Block: time.Second}}, func(t *testing.T, r *rig) {
			var all []*client.Client
			for range 10 {
				all = append(all, r.open())
			}
			var acked, behind atomic.Bool
			r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
				if q.Endpoint == "query" && acked.Load() && behind.Swap(true) { // the first page comes
					f.Lag = 45
				}
				return f
			})
			time.Sleep(ackInterval - time.Minute)
			for !acked.Load() {
				time.Sleep(10 * time.Millisecond)
				acked.Store(r.cdk.Clients()[0].Outgoing == 2)
			}
			time.Sleep(40 * time.Second)
			r.network.SetFaults(nil)
			time.Sleep(2 * ackInterval)
			r.wantOpen(all...)
		})
	})
	t.Run("opened around a round", func(t *testing.T) {
		flavours(t, func(t *testing.T, r *rig) {
			all := []*client.Client{r.open()}
			time.Sleep(ackInterval - 5*time.Second)
			var dialing []*dialing
			for range 40 {
				time.Sleep(200 * time.Millisecond)
				dialing = append(dialing, r.dialAs(r.person()))
			}
			for _, d := range dialing {
				if <-d.done; d.err != nil {
					t.Fatal(d.err)
				}
				all = append(all, d.c)
			}
			time.Sleep(2*ackInterval + time.Minute)
			r.wantOpen(all...)
		})
	})
	t.Run("a longer interval", func(t *testing.T) {
		inBubble(t, rigOptions{cdk: localnet.CDKOptions{AckInterval: 20 * time.Minute}, config: pollSlowly}, func(t *testing.T, r *rig) {
			c := r.open()
			time.Sleep(2 * time.Hour)
			r.wantOpen(c)
		})
	})
	t.Run("no acks", func(t *testing.T) {
		inBubble(t, rigOptions{cdk: localnet.CDKOptions{NoAcks: true}, config: pollSlowly}, func(t *testing.T, r *rig) {
			c := r.open()
			time.Sleep(2 * time.Hour)
			r.wantOpen(c)
		})
	})
	t.Run("no acks since an upgrade", func(t *testing.T) {
		inBubble(t, rigOptions{config: pollSlowly}, func(t *testing.T, r *rig) {
			old := r.open()
			time.Sleep(2*ackInterval + time.Minute)
			if err := r.network.Reinstall(r.canister, localnet.NewCDK(localnet.CDKOptions{NoAcks: true})); err != nil {
				t.Fatal(err)
			}
			closedAfter(t, old, time.Now())
			c := r.open()
			time.Sleep(time.Hour)
			if c.Err() != nil {
				t.Error(c.Err())
			}
		})
	})
	t.Run("a round that is late", func(t *testing.T) {
		inBubble(t, rigOptions{config: pollSlowly}, func(t *testing.T, r *rig) {
			c := r.open()
			time.Sleep(ackInterval - 5*time.Second)
			r.network.Stop(r.canister)
			time.Sleep(45 * time.Second)
			r.network.StartCanister(r.canister)
			time.Sleep(4 * ackInterval)
			r.wantOpen(c)
		})
	})
	t.Run("an outage at the time of a round", func(t *testing.T) {
		inBubble(t, rigOptions{config: pollSlowly}, func(t *testing.T, r *rig) {
			all := []*client.Client{r.open(), r.open()}
			time.Sleep(3*ackInterval - 20*time.Second)
			r.network.SetFaults(func(*localnet.Request) localnet.Fault { return localnet.Fault{Drop: true} })
			time.Sleep(65 * time.Second)
			r.network.SetFaults(nil)
			time.Sleep(2*ackInterval + time.Minute)
			r.wantOpen(all...)
		})
	})
}

// A session that another instance with the same identity replaces is told at once: the queue they share has the newer one.
func TestReplacedByAnInstanceWithTheSameIdentity(t *testing.T) {
	flavours(t, func(t *testing.T, r *rig) {
		o := r.person()
		first := r.dialNow(o)
		o.Canister = r.canister
		second, err := client.NewComposer(o)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		frame, err := second.Open(r.gateway.Principal(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		r.submit(frame)
		time.Sleep(5 * time.Second)
		select {
		case <-first.Done():
		default:
			t.Fatal("the first session is open, and silent")
		}
		if ce := closeOf(t, first); ce.Code != relay.Superseded.Code() {
			t.Errorf("closed with %d %q", ce.Code, ce.Text)
		}
	})
}
