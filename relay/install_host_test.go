package relay_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

// suspect makes the gateway look at the queue from its beginning: a session that the canister has closed says something.
func (r *rig) suspect() {
	gone := r.open()
	r.cdk.Do(func(ctx *localnet.AppContext) { must(r.t, ctx.Close(gone.Key().Principal)) })
	if err := gone.Send(r.t.Context(), []byte("am I there")); err == nil {
		closeOf(r.t, gone)
	}
}

// A queue in stable memory outlives upgrades, also where one of two boundary nodes hides it.
func TestHiddenQueueThatOutlivesAnUpgrade(t *testing.T) {
	inBubble(t, rigOptions{network: localnet.Options{Nodes: 4}, config: twoNodes}, func(t *testing.T, r *rig) {
		c := r.open()
		r.echo(c, "hi")
		time.Sleep(5 * time.Second)
		a, ok := localnet.AttackNamed("every message hidden")
		if !ok {
			t.Fatal("no such attack")
		}
		defer a.Mount(r.network, r.canister, "http://lying.test").Stop()
		for range 5 {
			must(t, r.network.Reinstall(r.canister, stable{r.cdk}))
			r.suspect()
			time.Sleep(time.Minute)
			r.echo(c, "still there")
		}
		if r.logged("began anew") {
			t.Error("the queue was taken for a new one")
		}
	})
}

// The same where the node that shows the queue lags behind the upgrade.
func TestLateQueueThatOutlivesAnUpgrade(t *testing.T) {
	inBubble(t, rigOptions{network: localnet.Options{Nodes: 4}}, func(t *testing.T, r *rig) {
		var lag atomic.Int64
		r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
			if q.Endpoint == "query" {
				f.Lag = int(lag.Load())
			}
			return f
		})
		c := r.open()
		for range 5 {
			for range 10 {
				r.echo(c, "hi")
				time.Sleep(time.Second)
			}
			must(t, r.network.Reinstall(r.canister, stable{r.cdk}))
			gone := r.open() // certifies the queue again
			r.cdk.Do(func(ctx *localnet.AppContext) { must(t, ctx.Close(gone.Key().Principal)) })
			lag.Store(20)
			if err := gone.Send(t.Context(), []byte("am I there")); err == nil {
				closeOf(t, gone)
			}
			time.Sleep(10 * time.Second)
			lag.Store(0)
			time.Sleep(time.Minute)
			r.echo(c, "still there")
		}
		if r.logged("began anew") {
			t.Error("the queue was taken for a new one")
		}
	})
}

// A canister that is upgraded again before anybody has noticed the first time, and again while sessions open anew.
func TestUpgradesInARow(t *testing.T) {
	inBubble(t, rigOptions{network: localnet.Options{Nodes: 4, Latency: time.Second}}, func(t *testing.T, r *rig) {
		for range 5 {
			c := r.open()
			r.echo(c, "hi")
			time.Sleep(3 * time.Second)
			must(t, r.network.Upgrade(r.canister))
			time.Sleep(300 * time.Millisecond)
			must(t, r.network.Upgrade(r.canister))
			last := r.network.Now()
			ce := closeOf(t, c)
			if ce.Text != upgradeText(last) {
				t.Errorf("told %q, want %q", ce.Text, upgradeText(last))
			}
			began := time.Now()
			n := r.open()
			r.echo(n, "new")
			must(t, r.network.Upgrade(r.canister))
			if ce := closeOf(t, n); !strings.HasPrefix(ce.Text, "canister was upgraded at") {
				t.Errorf("told %q", ce.Text)
			}
			t.Log(time.Since(began))
		}
	})
}
