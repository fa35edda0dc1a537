package relay_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// After an upgrade nodes that lag still show the old queue for a while, from its beginning, too. The new sessions live in
// the new one.
func TestUpgradeUnderLag(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, rigOptions{network: localnet.Options{Nodes: 4}}, func(t *testing.T, r *rig) {
				old := r.open()
				for i := range 60 {
					r.echo(old, fmt.Sprint(i))
				}
				var mu sync.Mutex
				rnd := rand.New(rand.NewPCG(seed, 0))
				r.network.Upgrade(r.canister)
				until := time.Now().Add(20 * time.Second)
				r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
					mu.Lock()
					defer mu.Unlock()
					if time.Now().Before(until) && rnd.IntN(2) == 0 {
						f.Lag = rnd.IntN(50)
					}
					return f
				})
				for s := range 4 {
					c := r.open()
					for i := range 10 {
						r.echo(c, fmt.Sprintf("%d of session %d", i, s))
						time.Sleep(300 * time.Millisecond)
					}
					defer func() {
						if err := c.Err(); err != nil {
							t.Errorf("session %d ended: %v", s, err)
						}
					}()
				}
				if ce := closeOf(t, old); ce.Code != 1012 || !strings.Contains(ce.Text, "forgot") {
					t.Errorf("the old session was closed with %d %q", ce.Code, ce.Text)
				}
			})
		})
	}
}

// greeter sends two messages to each client that opens.
type greeter struct{ localnet.Echo }

func (greeter) OnOpen(ctx *localnet.AppContext, c verify.Principal) error {
	for range 2 {
		if err := ctx.Send(c, []byte("welcome")); err != nil {
			return err
		}
	}
	return nil
}

// The new queue may have grown past the old one before anybody looks. Its sessions lose nothing, and those of the old
// queue are told.
func TestNewQueueOvertakesTheOld(t *testing.T) {
	inBubble(t, rigOptions{network: localnet.Options{Nodes: 4}, cdk: localnet.CDKOptions{App: greeter{}}}, func(t *testing.T, r *rig) {
		old := r.open()
		time.Sleep(time.Second)
		r.network.Upgrade(r.canister)
		var blind atomic.Bool
		blind.Store(true)
		r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
			return localnet.Fault{Drop: blind.Load() && q.Endpoint == "query"}
		})
		var wg sync.WaitGroup
		var got atomic.Int64
		for range 5 {
			wg.Go(func() {
				o := r.options()
				o.OnMessage = func(client.Message) { got.Add(1) }
				c, err := client.Dial(t.Context(), r.url, o)
				if err != nil {
					t.Errorf("a new session: %v", err)
					return
				}
				time.Sleep(time.Minute)
				if err := c.Err(); err != nil {
					t.Errorf("a new session ended: %v", err)
				}
				c.Close()
			})
		}
		time.Sleep(time.Second)
		blind.Store(false)
		began := time.Now()
		if ce := closeOf(t, old); ce.Code != 1012 || !strings.Contains(ce.Text, "forgot") {
			t.Errorf("the old session was closed with %d %q", ce.Code, ce.Text)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("the old session was told after %s", took)
		}
		wg.Wait()
		if n := got.Load(); n != 10 {
			t.Errorf("the new sessions got %d messages, want 10", n)
		}
	})
}

// Nodes that lag by almost 50 blocks do not have the newest message. That is no sign of a reset.
func TestLagInSilenceIsNoReset(t *testing.T) {
	inBubble(t, rigOptions{network: localnet.Options{Nodes: 4, RoundInterval: time.Second}}, func(t *testing.T, r *rig) {
		time.Sleep(time.Minute)
		c := r.open()
		time.Sleep(time.Minute) // a history of rounds
		r.echo(c, "hi")
		time.Sleep(5 * time.Second)
		r.network.SetFaults(func(*localnet.Request) localnet.Fault { return localnet.Fault{Lag: 45} })
		time.Sleep(50 * time.Second)
		r.network.SetFaults(nil)
		if r.logged("began anew") {
			t.Error("lag was taken for a reset")
		}
		if err := c.Err(); err != nil {
			t.Fatalf("the session ended: %v", err)
		}
		r.echo(c, "still there")
	})
}
