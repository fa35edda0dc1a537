package relay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// notebook is an application that only remembers what arrives.
type notebook struct {
	localnet.NoCallbacks
	mu    sync.Mutex
	lines []string
}

func (n *notebook) OnMessage(_ *localnet.AppContext, _ verify.Principal, payload []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, string(payload))
	return nil
}

func (n *notebook) read() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.lines...)
}

// What a client sent before it closed, or before its connection broke, still reaches the canister, in order, and the
// canister is told of the end after that.
func TestMessagesSentBeforeTheEndArrive(t *testing.T) {
	t.Parallel()
	for _, latency := range []time.Duration{0, 2 * time.Second} {
		for _, broken := range []bool{false, true} {
			t.Run(fmt.Sprintf("latency=%s,broken=%v", latency, broken), func(t *testing.T) {
				app := &notebook{}
				inBubble(t, rigOptions{network: localnet.Options{Latency: latency}, cdk: localnet.CDKOptions{App: app}}, func(t *testing.T, r *rig) {
					c := r.open()
					const n = 5
					for i := range n {
						if err := c.Send(t.Context(), fmt.Append(nil, i)); err != nil {
							t.Fatal(err)
						}
					}
					if broken {
						synctest.Wait() // the last frame has left the pipe
						c.Abort()
					} else {
						c.Close()
					}
					time.Sleep(time.Minute)
					if got := app.read(); fmt.Sprint(got) != "[0 1 2 3 4]" {
						t.Errorf("the canister got %v, want all 5 messages in order", got)
					}
					if n := len(r.cdk.Clients()); n != 0 {
						t.Errorf("the canister still has %d clients", n)
					}
				})
			})
		}
	}
}

// A drain waits for the outcome of a ws_open that is under way, so that its client can be closed at the canister.
func TestDrainWhileOpening(t *testing.T) {
	inBubble(t, rigOptions{network: localnet.Options{Latency: 2 * time.Second}}, func(t *testing.T, r *rig) {
		raw := r.openingRaw(r.options())
		go raw.Read(context.Background())
		time.Sleep(time.Second) // the network has it, and has not executed it
		began := time.Now()
		r.gateway.Drain(t.Context(), relay.Draining)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("the drain took %s, longer than drain_timeout", took)
		}
		time.Sleep(10 * time.Second)
		if n := len(r.cdk.Clients()); n != 0 {
			t.Errorf("the drain left %d clients at the canister", n)
		}
	})
}

// Once a drain has begun nobody new comes in, whoever is there stays until it goes on.
func TestNobodyOpensAfterTheBeginningOfADrain(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		c := r.open()
		finish := r.gateway.StartDrain(relay.Draining)
		var refused *client.UpgradeError
		if _, err := client.Dial(t.Context(), r.url, r.options()); !errors.As(err, &refused) || refused.Status != 503 {
			t.Errorf("an opening ends with %v, want 503", err)
		}
		r.echo(c, "still here")
		if !finish(t.Context()) {
			t.Error("the canister was not told")
		}
		if ce := closeOf(t, c); ce.Code != 1001 {
			t.Errorf("who was there is closed with %d %q", ce.Code, ce.Text)
		}
	})
}

// loseOneReply makes the network execute the first call of method, lose the reply, and refuse it from then on.
func (r *rig) loseOneReply(method string) {
	var calls atomic.Int64
	r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
		if q.Method == method {
			if calls.Add(1) == 1 {
				f.DropReply = true
			} else {
				f.Status = 429
			}
		}
		return f
	})
}

func twoHosts(c *relay.Config) {
	c.Hosts = []*url.URL{{Scheme: "http", Host: "a.test"}, {Scheme: "http", Host: "b.test"}}
}

// Of the hosts that a request was tried on, one may have passed it on although the last one said no. Then the outcome is
// unknown, and nothing may follow.
func TestRefusalAfterALostReply(t *testing.T) {
	inBubble(t, rigOptions{config: twoHosts}, func(t *testing.T, r *rig) {
		c := r.open()
		r.loseOneReply("ws_message")
		if err := c.Send(t.Context(), []byte("hi")); err != nil {
			t.Fatal(err)
		}
		if ce := closeOf(t, c); ce.Code != 1012 || !strings.Contains(ce.Text, "outcome") {
			t.Errorf("closed with %d %q, want 1012 and the unknown outcome", ce.Code, ce.Text)
		}
	})
}

func (stubborn) OnOpen(*localnet.AppContext, verify.Principal) error {
	return errors.New("no room for anybody")
}

// A canister that cannot take ws_close when it is told first is told again.
func TestCloseIsToldLater(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		c := r.open()
		r.network.OutOfCycles(r.canister, true)
		var calls atomic.Int64
		r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
			if q.Method == "ws_close" {
				calls.Add(1)
			}
			return f
		})
		c.Close()
		// The first one has been refused; how long the pauses are before the next ones is a matter of chance.
		r.waitFor("ws_close", func() bool { return calls.Load() > 0 })
		synctest.Wait()
		r.network.OutOfCycles(r.canister, false)
		time.Sleep(time.Minute)
		if n := len(r.cdk.Clients()); n != 0 {
			t.Errorf("the canister still has %d clients after %d calls", n, calls.Load())
		}
		if calls.Load() < 2 {
			t.Error("the first ws_close was not refused: this shows nothing")
		}
	})
}

// At 2 s an update, a drain tells the canister of hundreds of sessions within drain_timeout.
func TestDrainOfManyOnASlowNetwork(t *testing.T) {
	const n = 500
	inBubble(t, rigOptions{
		network: localnet.Options{Latency: 2 * time.Second},
		config: func(c *relay.Config) {
			c.DrainTimeout, c.UpstreamRate = relay.DefaultDrainTimeout, relay.DefaultUpstreamRate
		},
	}, func(t *testing.T, r *rig) {
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				c := r.openRaw()
				go c.Read(context.Background())
			})
		}
		wg.Wait()
		began := time.Now()
		r.gateway.Drain(t.Context(), relay.Draining)
		took := time.Since(began)
		time.Sleep(10 * time.Second)
		if took > 15*time.Second {
			t.Errorf("the drain took %s", took)
		}
		if left := len(r.cdk.Clients()); left > 0 {
			t.Errorf("the canister was not told of %d of %d", left, n)
		}
	})
}

// ws_close goes out once for a session that the canister has, and not at all for one that it has dropped by itself or
// never had.
func TestCloseIsToldOnce(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		end  func(t *testing.T, r *rig, c *client.Client)
		want int
	}{
		{"client closes", func(_ *testing.T, _ *rig, c *client.Client) { c.Close() }, 1},
		{"client vanishes", func(_ *testing.T, _ *rig, c *client.Client) { c.Abort() }, 1},
		{"client sends and closes", func(t *testing.T, _ *rig, c *client.Client) {
			c.Send(t.Context(), []byte("last words"))
			c.Close()
		}, 1},
		{"client misbehaves", func(t *testing.T, _ *rig, c *client.Client) {
			c.Raw().Write(t.Context(), websocket.TextMessage, []byte("text"))
		}, 1},
		{"operator closes", func(_ *testing.T, r *rig, _ *client.Client) { r.gateway.CloseSession(r.gateway.Sessions()[0].ID) }, 1},
		{"drain", func(t *testing.T, r *rig, _ *client.Client) { r.gateway.Drain(t.Context(), relay.Draining) }, 1},
		{"canister closes", func(_ *testing.T, r *rig, c *client.Client) {
			r.cdk.Do(func(ctx *localnet.AppContext) { ctx.Close(c.Key().Principal) })
		}, 0},
		{"canister forgets", func(t *testing.T, r *rig, c *client.Client) {
			r.network.Upgrade(r.canister)
			c.Send(t.Context(), []byte("still there?"))
		}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, rigOptions{network: localnet.Options{Latency: time.Second}}, func(t *testing.T, r *rig) {
				c := r.open()
				var mu sync.Mutex
				calls := make(map[[32]byte]bool)
				r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
					if q.Method == "ws_close" {
						mu.Lock()
						calls[q.ID] = true
						mu.Unlock()
					}
					return localnet.Fault{}
				})
				tc.end(t, r, c)
				time.Sleep(2 * time.Minute)
				mu.Lock()
				defer mu.Unlock()
				if len(calls) != tc.want {
					t.Errorf("ws_close was called %d times, want %d", len(calls), tc.want)
				}
				if n := len(r.cdk.Clients()); n != 0 {
					t.Errorf("the canister still has %d clients", n)
				}
			})
		})
	}
}

// tattler is an application whose errors name its client's key, late enough to be cut in the middle.
type tattler struct{ localnet.NoCallbacks }

func (tattler) OnMessage(_ *localnet.AppContext, p verify.Principal, payload []byte) error {
	return fmt.Errorf("%s_%s", payload, strings.Repeat("7", 19))
}

// Client nonces appear in no text, wherever a text is cut.
func TestNonceIsNotTold(t *testing.T) {
	t.Parallel()
	for _, n := range []int{10, 70, 80, 85, 90, 95} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inBubble(t, rigOptions{cdk: localnet.CDKOptions{App: tattler{}}}, func(t *testing.T, r *rig) {
				nonce := uint64(7777777777777777777)
				o := r.options()
				o.Nonce = &nonce
				c, err := client.Dial(t.Context(), r.url, o)
				if err != nil {
					t.Fatal(err)
				}
				c.Send(t.Context(), bytes.Repeat([]byte("x"), n))
				if ce := closeOf(t, c); ce.Code != 1011 || strings.Contains(ce.Text, "777") {
					t.Errorf("closed with %d %q", ce.Code, ce.Text)
				}
			})
		})
	}
}
