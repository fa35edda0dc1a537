package relay_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// The SDK waits 60 s for its session to open and then closes without knowing why. Before that, the gateway says what it
// knows: soon if the IC says so itself, later if that may pass. The canister may have been polled before, or not.
func TestOpeningThatCannotWorkIsExplained(t *testing.T) {
	t.Parallel()
	drop := func(endpoint string) localnet.Faults {
		return func(q *localnet.Request) localnet.Fault { return localnet.Fault{Drop: q.Endpoint == endpoint} }
	}
	status := func(status int) localnet.Faults {
		return func(*localnet.Request) localnet.Fault { return localnet.Fault{Status: status} }
	}
	for _, tc := range []struct {
		name   string
		do     func(r *rig)
		within time.Duration
		code   int
		text   string
	}{
		{"stopped", func(r *rig) { r.network.Stop(r.canister) }, 15 * time.Second, 1013, "stopped"},
		{"stopping", func(r *rig) { r.network.Stopping(r.canister) }, 15 * time.Second, 1013, "stopping"},
		{"out of cycles", func(r *rig) { r.network.OutOfCycles(r.canister, true) }, 15 * time.Second, 1013, "cycles"},
		{"no module", func(r *rig) { r.network.Uninstall(r.canister) }, 15 * time.Second, 1013, "module"},
		{"deleted", func(r *rig) { r.network.Delete(r.canister) }, 15 * time.Second, 1011, "does not exist"},
		{"network down", func(r *rig) {
			r.network.SetFaults(func(*localnet.Request) localnet.Fault { return localnet.Fault{Drop: true} })
		}, 58 * time.Second, 1012, "cannot be reached"},
		{"no calls", func(r *rig) { r.network.SetFaults(drop("call")) }, 58 * time.Second, 1012, "cannot be reached"},
		{"no polls", func(r *rig) { r.network.SetFaults(drop("query")) }, 58 * time.Second, 1012, "cannot be reached"},
		{"404 of a proxy", func(r *rig) { r.network.SetFaults(status(404)) }, 58 * time.Second, 1012, "HTTP 404 in place of an answer"},
		{"421 of a proxy", func(r *rig) { r.network.SetFaults(status(421)) }, 58 * time.Second, 1012, "HTTP 421 in place of an answer"},
		{"451 of a proxy", func(r *rig) { r.network.SetFaults(status(451)) }, 58 * time.Second, 1012, "HTTP 451 in place of an answer"},
		{"400 of a proxy", func(r *rig) { r.network.SetFaults(status(400)) }, 58 * time.Second, 1012, "HTTP 400 in place of an answer"},
		{"calls that hang", func(r *rig) {
			r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
				if q.Endpoint == "call" {
					f.Delay = time.Hour
				}
				return f
			})
		}, 58 * time.Second, 1012, ""},
	} {
		for _, polled := range []bool{false, true} {
			name := tc.name
			if polled {
				name += ", polled before"
			}
			t.Run(name, func(t *testing.T) {
				inBubble(t, rigOptions{policy: func(p *relay.Policy) { p.AnyCanister = true }}, func(t *testing.T, r *rig) {
					if polled {
						r.echo(r.open(), "before")
					}
					tc.do(r)
					began := time.Now()
					_, err := client.Dial(t.Context(), r.url, r.options())
					took := time.Since(began)
					var ce *client.CloseError
					if !errors.As(err, &ce) || ce.Local || ce.Code != tc.code || !strings.Contains(ce.Text, tc.text) {
						t.Errorf("after %s: %v, want %d and %q", took, err, tc.code, tc.text)
					} else if took > tc.within {
						t.Errorf("%v only after %s", err, took)
					}
				})
			})
		}
	}
}

// A person who is asked for a passkey or a security key once the connection stands needs time: the usual open_timeout leaves it.
func TestOpeningWaitsForAPerson(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		raw := r.raw(r.options())
		go func() {
			time.Sleep(45 * time.Second)
			frame, err := raw.Composer().Open(raw.Gateway(), time.Time{})
			if err == nil {
				err = raw.Write(t.Context(), websocket.BinaryMessage, frame)
			}
			if err != nil {
				t.Error(err)
			}
		}()
		if _, frame, err := raw.Read(t.Context()); err != nil { // reads all the while, so that pings are answered
			t.Errorf("got %d bytes and %v, want the canister's first message", len(frame), err)
		}
	})
}

// The ws_open of a client that has gone in the meantime is not submitted any more: the canister would take it for the
// newer session, and drop the one that the same person has by then.
func TestOpenOfAClientThatHasGone(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		var opens atomic.Int64
		var down atomic.Bool
		down.Store(true)
		r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
			if down.Load() {
				return localnet.Fault{Status: 429}
			}
			if q.Method == "ws_open" {
				opens.Add(1)
			}
			return localnet.Fault{}
		})
		raw := r.openingRaw(r.options())
		time.Sleep(10 * time.Second)
		raw.Close()
		time.Sleep(5 * time.Second)
		down.Store(false)
		time.Sleep(4 * time.Minute)
		if n := opens.Load(); n != 0 {
			t.Errorf("ws_open was submitted %d times for a client that had gone", n)
		}
	})
}

// A ws_open whose outcome nobody reports has succeeded when the canister's first message comes. Where none can come, the
// canister is told of the end all the same: it may have the session.
func TestOpenWithoutOutcome(t *testing.T) {
	t.Parallel()
	t.Run("a message comes", func(t *testing.T) {
		inBubble(t, rigOptions{config: twoHosts}, func(t *testing.T, r *rig) {
			r.loseOneReply("ws_open")
			c := r.open()
			r.echo(c, "hi")
			time.Sleep(10 * time.Minute)
			r.echo(c, "still here")
			c.Close()
			time.Sleep(time.Minute)
			if n := len(r.cdk.Clients()); n != 0 {
				t.Errorf("the canister still has %d clients", n)
			}
		})
	})
	t.Run("none can come", func(t *testing.T) {
		inBubble(t, rigOptions{config: twoHosts}, func(t *testing.T, r *rig) {
			r.open() // there is a poller
			r.loseOneReply("ws_open")
			raw := r.openingRaw(r.options())
			raw.Close() // before its first message
			time.Sleep(6 * time.Minute)
			if n := len(r.cdk.Clients()); n != 1 {
				t.Errorf("the canister has %d clients, want the one that is here", n)
			}
		})
	})
}

// One that never got its turn is told that it is not the canister's fault.
func TestOpeningThatNeverGetsItsTurn(t *testing.T) {
	inBubble(t, rigOptions{config: func(c *relay.Config) { c.UpstreamCallRate = 0.01 }}, func(t *testing.T, r *rig) {
		r.open() // takes what there is for now
		_, err := client.Dial(t.Context(), r.url, r.options())
		var ce *client.CloseError
		if !errors.As(err, &ce) || ce.Code != 1013 || !strings.Contains(ce.Text, "more requests than it may") {
			t.Errorf("%v, want 1013 and the limit", err)
		}
	})
}

// stubborn is an application that traps as a client opens.
type stubborn struct{ localnet.NoCallbacks }

// A Motoko canister has the client before its callback traps; the rejection of the call does not undo that.
func TestTrapWhileOpening(t *testing.T) {
	t.Parallel()
	for _, motoko := range []bool{false, true} {
		t.Run(fmt.Sprintf("motoko=%v", motoko), func(t *testing.T) {
			inBubble(t, rigOptions{cdk: localnet.CDKOptions{App: stubborn{}, Motoko: motoko}}, func(t *testing.T, r *rig) {
				raw := r.openingRaw(r.options())
				if ce := readClose(t, raw); ce.Code != 1011 || !strings.Contains(ce.Text, "trapped: no room for anybody") {
					t.Errorf("closed with %d %q", ce.Code, ce.Text)
				}
				time.Sleep(10 * time.Second)
				if n := len(r.cdk.Clients()); n != 0 {
					t.Errorf("the canister still has %d clients", n)
				}
			})
		})
	}
}

// Clients that gave up while their ws_open waited for upstream_rate cost no requests any more. Otherwise, after a restart
// with many clients, all requests would be spent on those who have left, and those who come back would give up as well.
func TestOpeningsThatWaitForTheBudget(t *testing.T) {
	inBubble(t, rigOptions{config: func(c *relay.Config) { c.UpstreamRate, c.UpstreamCallRate = 2, 2 }}, func(t *testing.T, r *rig) {
		var opens, closes atomic.Int64
		r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
			switch q.Method {
			case "ws_open":
				opens.Add(1)
			case "ws_close":
				closes.Add(1)
			}
			return localnet.Fault{}
		})
		const n = 40
		var all []*client.Raw
		for range n {
			raw := r.openingRaw(r.options())
			all = append(all, raw)
		}
		time.Sleep(8 * time.Second)
		for _, raw := range all {
			raw.Close()
		}
		time.Sleep(time.Second)
		before := opens.Load()
		time.Sleep(time.Minute)
		if before == 0 || before > n/2 {
			t.Fatalf("%d of %d were submitted before the clients left: this shows nothing", before, n)
		}
		if more := opens.Load() - before; more > 0 {
			t.Errorf("%d more were submitted after all clients had left", more)
		}
		if got := closes.Load(); got != before {
			t.Errorf("%d sessions were opened, and ws_close was called %d times", before, got)
		}
	})
}
