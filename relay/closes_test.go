package relay_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// otherOutcome is a network one of whose boundary nodes throws every ws_close away, and answers with the certified outcome of an
// earlier request.
type otherOutcome struct {
	network http.RoundTripper
	mu      sync.Mutex
	earlier []byte
}

func (n *otherOutcome) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if env, err := verify.ParseEnvelope(bytes.TrimPrefix(body, []byte("\xd9\xd9\xf7"))); err == nil {
		n.mu.Lock()
		switch {
		case env.MethodName == "ws_open":
			n.earlier = body
		case env.MethodName == "ws_close" && r.URL.Host == "lying.test":
			body = n.earlier
		}
		n.mu.Unlock()
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return n.network.RoundTrip(r)
}

// A ws_close is done when its own outcome is certified.
func TestCloseIsNotDoneByAnotherOutcome(t *testing.T) {
	inBubble(t, rigOptions{config: func(c *relay.Config) {
		twoNodes(c)
		c.Transport = &otherOutcome{network: c.Transport}
	}}, func(t *testing.T, r *rig) {
		var clients []*client.Client
		for range 40 {
			clients = append(clients, r.open())
		}
		for _, c := range clients {
			c.Close()
		}
		time.Sleep(time.Minute)
		if n := len(r.cdk.Clients()); n != 0 {
			t.Errorf("the canister still has %d of 40 clients", n)
		}
	})
}

// HTTP 200 with something else than an outcome, or the word of a host that has the call thrown away, is not an outcome.
func TestCloseIsNotDoneBy200(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]localnet.Fault{
		"a page of a portal": {Status: 200, ContentType: "text/html", Body: []byte("<html>welcome</html>")},
		"nothing":            {Status: 200, Body: []byte{}},
		"accepted":           {Status: 202},
		"refused for good":   {Status: 400, Body: []byte("Invalid signature")},
		"no such canister":   {Status: 400, Cause: "canister_not_found"},
		"no endpoint":        {Status: 404},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rigOptions{config: twoNodes}, func(t *testing.T, r *rig) {
				var clients []*client.Client
				for range 40 {
					clients = append(clients, r.open())
				}
				r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
					if q.Method == "ws_close" && q.Boundary == "http://lying.test" {
						return fault
					}
					return f
				})
				for _, c := range clients {
					c.Close()
				}
				time.Sleep(time.Minute)
				if n := len(r.cdk.Clients()); n != 0 {
					t.Errorf("the canister still has %d of 40 clients", n)
				}
			})
		})
	}
}

// A canister that is stopped for minutes is told once it runs again, and is not asked all the time meanwhile. That holds for
// refusals of a host and for certified ones, and longer than a request is valid.
func TestCloseIsPatient(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]func(r *rig) (end func()){
		"stopped": func(r *rig) func() {
			r.network.Stop(r.canister)
			return func() { r.network.StartCanister(r.canister) }
		},
		"out of cycles": func(r *rig) func() {
			r.network.OutOfCycles(r.canister, true)
			return func() { r.network.OutOfCycles(r.canister, false) }
		},
		"unreachable": func(*rig) func() { return func() {} },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rigOptions{network: localnet.Options{Latency: time.Second}}, func(t *testing.T, r *rig) {
				var clients []*client.Client
				for range 50 {
					clients = append(clients, r.open())
				}
				end := refuse(r)
				var calls atomic.Int64
				var healed atomic.Bool
				r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
					if q.Method == "ws_close" {
						calls.Add(1)
						if name == "unreachable" && !healed.Load() {
							f.Status = 502
						}
					}
					return f
				})
				for _, c := range clients {
					c.Abort()
				}
				time.Sleep(5 * time.Minute)
				if n := calls.Load(); n > 100 {
					t.Errorf("%d requests for 50 clients that cannot be told", n)
				}
				before := r.cdk.Clients()
				healed.Store(true)
				end()
				time.Sleep(30 * time.Second)
				if n := len(r.cdk.Clients()); n != 0 || len(before) == 0 {
					t.Errorf("the canister had %d clients, and still has %d", len(before), n)
				}
			})
		})
	}
}

// A canister whose ws_close are slow, refused or lost holds up no other's.
func TestClosesAreFairBetweenCanisters(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]localnet.Fault{
		"slow":    {Delay: time.Minute},
		"refused": {Status: 503, Cause: "no_healthy_nodes"},
		"pending": {Status: 202},
		"dropped": {Drop: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rigOptions{
				config: func(c *relay.Config) { c.UpstreamRate = relay.DefaultUpstreamRate },
				policy: func(p *relay.Policy) { p.AnyCanister = true },
			}, func(t *testing.T, r *rig) {
				bad := r.network.Install(localnet.NewCDK(localnet.CDKOptions{}))
				var clients []*client.Client
				for range 200 {
					o := r.options()
					o.Canister = bad
					c, err := client.Dial(t.Context(), r.url, o)
					if err != nil {
						t.Fatal(err)
					}
					clients = append(clients, c)
				}
				honest := r.open()
				r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
					if q.Method == "ws_close" && q.Canister == bad {
						f = fault
					}
					return f
				})
				for _, c := range clients {
					c.Abort()
				}
				time.Sleep(10 * time.Second)
				left := time.Now()
				honest.Close()
				for len(r.cdk.Clients()) > 0 && time.Since(left) < time.Hour {
					time.Sleep(100 * time.Millisecond)
				}
				if took := time.Since(left); took > 5*time.Second {
					t.Errorf("the healthy canister was told after %s", took)
				}
			})
		})
	}
}

// A drain ends the pauses between attempts, and is not held up by a canister that goes on refusing.
func TestDrainDoesNotWaitForARefusal(t *testing.T) {
	t.Parallel()
	for _, heals := range []bool{false, true} {
		t.Run(fmt.Sprintf("heals=%v", heals), func(t *testing.T) {
			inBubble(t, rigOptions{
				network: localnet.Options{Latency: time.Second},
				config:  func(c *relay.Config) { c.DrainTimeout = time.Minute },
			}, func(t *testing.T, r *rig) {
				for range 3 {
					c := r.open()
					defer c.Close()
					c.Abort()
				}
				r.network.OutOfCycles(r.canister, true)
				time.Sleep(time.Minute)
				r.network.OutOfCycles(r.canister, !heals)
				began := time.Now()
				r.gateway.Drain(t.Context(), relay.Draining)
				if took := time.Since(began); took > 6*time.Second {
					t.Errorf("the drain took %s", took)
				}
				if n := len(r.cdk.Clients()); (n == 0) != heals {
					t.Errorf("the canister has %d clients", n)
				}
			})
		})
	}
}

// trapDoor is an application that traps when a client leaves, which undoes the ws_close.
type trapDoor struct{ localnet.NoCallbacks }

func (trapDoor) OnClose(*localnet.AppContext, verify.Principal) error {
	return errors.New("on_close traps")
}

// What a canister traps on is not repeated: it would trap again.
func TestCloseThatTraps(t *testing.T) {
	inBubble(t, rigOptions{cdk: localnet.CDKOptions{App: trapDoor{}}}, func(t *testing.T, r *rig) {
		c := r.open()
		var calls atomic.Int64
		r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
			if q.Method == "ws_close" {
				calls.Add(1)
			}
			return localnet.Fault{}
		})
		c.Close()
		time.Sleep(time.Minute)
		if n := calls.Load(); n != 1 {
			t.Errorf("%d ws_close to a canister that traps on it", n)
		}
	})
}

// What a canister has removed by itself while it could not be told needs no ws_close.
func TestCloseOfWhatTheCanisterRemoved(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		stays := r.open()
		c := r.open()
		var mu sync.Mutex
		calls, refuse := make(map[[32]byte]bool), true
		r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
			mu.Lock()
			defer mu.Unlock()
			if q.Method == "ws_close" {
				if refuse {
					f.Status = 502
				} else {
					calls[q.ID] = true
				}
			}
			return f
		})
		c.Abort()
		time.Sleep(time.Minute)
		r.cdk.Do(func(ctx *localnet.AppContext) { ctx.Close(c.Key().Principal) })
		r.echo(stays, "the canister's CloseMessage has been polled")
		mu.Lock()
		refuse = false
		mu.Unlock()
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if len(calls) != 0 {
			t.Errorf("%d ws_close for a client that the canister has removed", len(calls))
		}
	})
}
