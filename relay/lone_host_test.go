package relay_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// deadAndLive drops what goes to one of two boundary nodes, and has more shape the rest.
func deadAndLive(more func(*localnet.Request, *localnet.Fault)) localnet.Faults {
	return func(q *localnet.Request) (f localnet.Fault) {
		f.Drop = q.Boundary == "http://lying.test"
		if more != nil {
			more(q, &f)
		}
		return f
	}
}

// Of two boundary nodes one is dead for good, as behind a firewall that admits one name only. There is nobody to confirm what
// the other says without proof, and it must do.
func TestOneLiveHost(t *testing.T) {
	t.Parallel()
	t.Run("messages were deleted", func(t *testing.T) {
		inBubble(t, rigOptions{
			cdk:    localnet.CDKOptions{NoAcks: true, AckInterval: 70 * time.Second},
			config: func(c *relay.Config) { twoNodes(c); c.KeepOrphans, c.OutageTimeout = true, time.Hour },
		}, func(t *testing.T, r *rig) {
			var blind atomic.Bool
			r.network.SetFaults(deadAndLive(func(q *localnet.Request, f *localnet.Fault) {
				f.Drop = f.Drop || blind.Load() && q.Endpoint == "query"
			}))
			c, lost := r.open(), r.open()
			r.echo(c, "before")
			blind.Store(true)
			for range 30 { // what was sent first is deleted meanwhile
				r.cdk.Do(func(ctx *localnet.AppContext) { must(t, ctx.Send(lost.Key().Principal, []byte("x"))) })
				time.Sleep(5 * time.Second)
			}
			blind.Store(false)
			began := time.Now()
			r.echo(c, "after")
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("an echo after that took %s", took)
			}
			if !r.logged("messages are missing") {
				t.Error("no message was missing: this shows nothing")
			}
			if ce := closeOf(t, lost); ce.Code != 1011 || !strings.Contains(ce.Text, "missing") {
				t.Errorf("the client that has lost messages is told %d %q", ce.Code, ce.Text)
			}
		})
	})
	t.Run("a message names two recipients", func(t *testing.T) {
		inBubble(t, rigOptions{config: twoNodes}, func(t *testing.T, r *rig) {
			bad, good := r.open(), r.open()
			r.network.SetFaults(deadAndLive(func(q *localnet.Request, f *localnet.Fault) {
				if q.Endpoint == "query" {
					f.Edit = func(body []byte) []byte { return misrouted(body, bad.Key()) }
				}
			}))
			r.cdk.Do(func(ctx *localnet.AppContext) {
				for _, c := range []*client.Client{bad, good} {
					must(t, ctx.Send(c.Key().Principal, []byte("hi")))
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if m, err := good.Receive(ctx); err != nil || string(m.Payload) != "hi" {
				t.Errorf("the client of the good message got %q, %v", m.Payload, err)
			}
			if ce := closeOf(t, bad); ce.Code != 1011 {
				t.Errorf("the client of the bad message is told %d %q", ce.Code, ce.Text)
			}
		})
	})
	t.Run("messages too large for one page", func(t *testing.T) {
		inBubble(t, rigOptions{config: twoNodes, cdk: localnet.CDKOptions{NoAcks: true}}, func(t *testing.T, r *rig) {
			big, good := r.open(), r.open()
			r.network.SetFaults(deadAndLive(nil))
			r.cdk.Do(func(ctx *localnet.AppContext) {
				for range 3 {
					must(t, ctx.Send(big.Key().Principal, bytes.Repeat([]byte("x"), 1800<<10)))
				}
				must(t, ctx.Send(good.Key().Principal, []byte("hi")))
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if m, err := good.Receive(ctx); err != nil || string(m.Payload) != "hi" {
				t.Errorf("the client of the message behind got %q, %v", m.Payload, err)
			}
			if !r.logged("messages are skipped") {
				t.Error("nothing was skipped: this shows nothing")
			}
		})
	})
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprintf("an upgrade in silence, its time known %t", known), func(t *testing.T) {
			inBubble(t, rigOptions{network: localnet.Options{Nodes: 4, NoInstallTime: !known}, config: twoNodes}, func(t *testing.T, r *rig) {
				c := r.open()
				r.echo(c, "hi")
				r.network.SetFaults(deadAndLive(nil))
				must(t, r.network.Upgrade(r.canister))
				began := time.Now()
				if ce := closeOf(t, c); ce.Code != 1012 || !strings.Contains(ce.Text, "forgot") {
					t.Errorf("told %d %q", ce.Code, ce.Text)
				}
				if took := time.Since(began); took > 75*time.Second {
					t.Errorf("told after %s", took)
				}
			})
		})
	}
	t.Run("no such canister", func(t *testing.T) {
		inBubble(t, rigOptions{config: twoNodes, policy: func(p *relay.Policy) { p.AnyCanister = true }}, func(t *testing.T, r *rig) {
			r.network.SetFaults(deadAndLive(nil))
			o := r.options()
			o.Canister, _ = verify.PrincipalFromBytes([]byte{0x80, 0, 0, 0, 0, 0x10, 0, 99, 1, 1})
			began := time.Now()
			_, err := client.Dial(t.Context(), r.url, o)
			if err == nil || !strings.Contains(err.Error(), "does not exist") {
				t.Errorf("told %v", err)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("told after %s", took)
			}
		})
	})
}
