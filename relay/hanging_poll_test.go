package relay_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

// Polls that hang, as those do that reach a slow node, must not hold up what other polls can bring: there are only so many
// that overlap, and all of them may hang at once.
func TestHangingPollsHoldUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{pipes: true})
		c := r.open()
		r.echo(c, "calm")
		var polls atomic.Int64
		r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
			if q.Endpoint == "query" && polls.Add(1) <= 8 {
				f.Delay = 9 * time.Second // less than the gateway waits for an answer
			}
			return f
		})
		time.Sleep(time.Second) // now they hang, as many as may fly
		began := time.Now()
		r.echo(c, "while they hang")
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("the echo took %s", took)
		}
		if n := polls.Load(); n > 60 {
			t.Errorf("%d polls in %s", n, time.Since(began))
		}
	})
}

// When everything hangs, the number of polls under way stays bounded.
func TestHangingPollsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{pipes: true})
		c := r.open()
		r.echo(c, "calm")
		var now, most atomic.Int64
		r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
			if q.Endpoint == "query" {
				n := now.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				time.AfterFunc(9*time.Second, func() { now.Add(-1) })
				f.Delay = 9 * time.Second
			}
			return f
		})
		time.Sleep(30 * time.Second)
		r.network.SetFaults(nil)
		if n := most.Load(); n > 16 {
			t.Errorf("%d polls under way at once", n)
		}
		time.Sleep(10 * time.Second)
		r.echo(c, "calm again")
		if err := c.Err(); err != nil {
			t.Errorf("the session did not survive: %v", err)
		}
	})
}
