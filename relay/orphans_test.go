package relay_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// What a crash left behind is closed at the canister.
func TestOrphansAreClosed(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprintf("keep=%v", keep), func(t *testing.T) {
			inBubble(t, rigOptions{config: func(c *relay.Config) { c.KeepOrphans = keep }}, func(t *testing.T, r *rig) {
				// The crash: a client of this gateway principal that this run knows nothing of.
				orphan, err := client.NewComposer(client.Options{Canister: r.canister})
				if err != nil {
					t.Fatal(err)
				}
				frame, err := orphan.Open(r.gateway.Principal(), time.Time{})
				if err != nil {
					t.Fatal(err)
				}
				r.submit(frame)
				time.Sleep(time.Second)
				c := r.open()
				r.echo(c, "hi")
				if n := len(r.cdk.Clients()); n != 2 {
					t.Fatalf("canister has %d clients, want the orphan and ours", n)
				}
				time.Sleep(time.Minute)
				want := 1
				if keep {
					want = 2
				}
				if n := len(r.cdk.Clients()); n != want {
					t.Errorf("a minute later the canister has %d clients, want %d", n, want)
				}
				r.echo(c, "still here")
			})
		})
	}
}

// openElsewhere opens a session that this gateway does not see.
func (r *rig) openElsewhere() {
	r.t.Helper()
	other, err := client.NewComposer(client.Options{Canister: r.canister})
	if err != nil {
		r.t.Fatal(err)
	}
	frame, err := other.Open(r.gateway.Principal(), time.Time{})
	if err != nil {
		r.t.Fatal(err)
	}
	r.submit(frame)
}

// sharedIdentityLogged reports whether the gateway has logged that another instance is alive, and fails if it did so twice.
func (r *rig) sharedIdentityLogged() bool {
	r.t.Helper()
	n := r.logs.Filter(func(e observer.LoggedEntry) bool { return strings.Contains(e.Message, "orphans keep") }).Len()
	if n > 1 {
		r.t.Errorf("the other instance was logged %d times", n)
	}
	return n > 0
}

// another is a rig on the same network with a gateway of its own, made of cfg, and a log of its own.
func (r *rig) another(cfg relay.Config) *rig {
	r.t.Helper()
	other := *r
	core, logs := observer.New(zapcore.InfoLevel)
	other.logs, cfg.Logger = logs, zap.New(core)
	var err error
	if other.gateway, err = relay.New(cfg); err != nil {
		r.t.Fatal(err)
	}
	stop := other.serve(true)
	r.t.Cleanup(func() {
		other.gateway.Drain(context.Background(), relay.Draining)
		stop()
	})
	return &other
}

// When a session elsewhere is what a crash left behind, and when it proves that another instance is alive. The rig's
// drain_timeout is 5 s, so a predecessor may go on for 10 s.
func TestOrphanOrOtherInstance(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		opened  []time.Duration // sessions elsewhere, after the start of the gateway
		first   time.Duration   // first session here
		clients int             // that the canister has in the end
		proven  bool
	}{
		{"opened before the start", []time.Duration{0}, time.Second, 1, false},
		{"under way at the start", []time.Duration{8 * time.Second}, time.Second, 1, false},
		{"opened later", []time.Duration{15 * time.Second}, time.Second, 2, true},
		{"opened long after", []time.Duration{30 * time.Minute}, time.Second, 2, true},
		{"opened before the first session here", []time.Duration{2 * time.Minute}, 5 * time.Minute, 2, true},
		{"one of each", []time.Duration{0, 2 * time.Minute}, 3 * time.Minute, 3, true},
		{"too old to tell", []time.Duration{2 * time.Minute}, 10 * time.Minute, 2, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// Without acks the canister removes nobody by itself.
			inBubble(t, rigOptions{cdk: localnet.CDKOptions{NoAcks: true}}, func(t *testing.T, r *rig) {
				began := time.Now()
				events := map[time.Duration]func(){tc.first: func() { r.open() }}
				for _, after := range tc.opened {
					events[after] = r.openElsewhere
				}
				for _, after := range slices.Sorted(maps.Keys(events)) {
					time.Sleep(time.Until(began.Add(after)))
					events[after]()
				}
				time.Sleep(2 * time.Minute)
				if n := len(r.cdk.Clients()); n != tc.clients {
					t.Errorf("the canister has %d clients, want %d", n, tc.clients)
				}
				if got := r.sharedIdentityLogged(); got != tc.proven {
					t.Errorf("another instance was seen: %v, want %v", got, tc.proven)
				}
			})
		})
	}
}

// A proof of another instance holds for an hour. After that, what was left behind is closed.
func TestOtherInstanceIsForgotten(t *testing.T) {
	inBubble(t, rigOptions{cdk: localnet.CDKOptions{NoAcks: true}}, func(t *testing.T, r *rig) {
		r.openElsewhere() // before a crash
		left := r.cdk.Clients()[0].Key.Principal
		time.Sleep(time.Minute)
		r.openElsewhere() // by another instance
		r.open()
		for _, tc := range []struct {
			wait    time.Duration
			clients int
		}{{time.Second, 3}, {55 * time.Minute, 3}, {5 * time.Minute, 2}} {
			time.Sleep(tc.wait)
			r.cdk.Do(func(ctx *localnet.AppContext) { ctx.Send(left, []byte("are you there?")) })
			time.Sleep(time.Minute)
			if n := len(r.cdk.Clients()); n != tc.clients {
				t.Errorf("the canister has %d clients, want %d", n, tc.clients)
			}
		}
	})
}

// A client that was here is no proof, even if the poller has ended and begun anew since.
func TestOwnClientsAreNoOtherInstance(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		time.Sleep(time.Minute)
		c := r.open()
		c.Close()
		time.Sleep(2 * time.Minute) // the poller has ended
		r.echo(r.open(), "again")
		time.Sleep(time.Minute)
		if r.sharedIdentityLogged() {
			t.Error("a client of an earlier poller was taken for that of another instance")
		}
	})
}

// Gateways of one identity leave each other's clients alone, in one process and in two. In one they know each other's
// clients, in two they see proof of each other.
func TestGatewaysShareAnIdentity(t *testing.T) {
	t.Parallel()
	for _, oneProcess := range []bool{true, false} {
		t.Run(fmt.Sprintf("oneProcess=%v", oneProcess), func(t *testing.T) {
			var cfg relay.Config
			inBubble(t, rigOptions{config: func(c *relay.Config) {
				pollSlowly(c)
				if oneProcess {
					c.Peers = new(relay.Peers)
				}
				cfg = *c
			}}, func(t *testing.T, r *rig) {
				second := r.another(cfg)
				time.Sleep(10 * time.Minute)
				a := r.open()
				time.Sleep(time.Minute)
				b := second.open()
				for range 30 {
					time.Sleep(time.Minute)
					r.echo(a, "here")
					second.echo(b, "there")
				}
				if n := len(r.cdk.Clients()); n != 2 {
					t.Errorf("the canister has %d clients, want 2", n)
				}
				// The clients of a gateway that has ended are still known in its process.
				second.gateway.Drain(t.Context(), relay.Reconfigured)
				a.Close()
				time.Sleep(2 * time.Minute) // the poller has ended
				r.echo(r.open(), "again")
				for name, g := range map[string]*rig{"first": r, "second": second} {
					if got := g.sharedIdentityLogged(); got == oneProcess {
						t.Errorf("the %s gateway has seen another instance: %v", name, got)
					}
				}
			})
		})
	}
}

// submit posts the envelope of a client frame straight to the network.
func (r *rig) submit(frame []byte) {
	r.t.Helper()
	env, err := verify.ParseClientFrame(frame)
	if err != nil {
		r.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost,
		"http://network.test/api/v4/canister/"+r.canister.String()+"/call", strings.NewReader("\xd9\xd9\xf7"+string(env.Raw)))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/cbor")
	res, err := r.network.RoundTripper().RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		r.t.Fatalf("the network answered %s", res.Status)
	}
}
