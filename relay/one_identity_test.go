package relay_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// person returns the options of sessions of one identity.
func (r *rig) person() client.Options {
	r.t.Helper()
	id, err := identity.NewRandomEd25519Identity()
	if err != nil {
		r.t.Fatal(err)
	}
	o := r.options()
	o.Identity = id
	return o
}

// as returns o for a session at r, which may be another instance.
func (r *rig) as(o client.Options) client.Options {
	o.NetDial = r.dial
	return o
}

// dialing is a session that is being opened.
type dialing struct {
	done chan struct{}
	c    *client.Client
	err  error
}

// dialAs begins to open a session, and ends it with the test.
func (r *rig) dialAs(o client.Options) *dialing {
	d := &dialing{done: make(chan struct{})}
	go func() {
		defer close(d.done)
		d.c, d.err = client.Dial(context.Background(), r.url, r.as(o))
	}()
	r.t.Cleanup(func() {
		if <-d.done; d.c != nil {
			d.c.Close()
		}
	})
	return d
}

// end returns how the session ended, nil if it is open.
func (d *dialing) end() *client.CloseError {
	<-d.done
	err := d.err
	if err == nil {
		err = d.c.Err()
	}
	var ce *client.CloseError
	errors.As(err, &ce)
	return ce
}

// calls notes in which order and when calls of the canister begin.
type calls struct {
	mu   sync.Mutex
	seen map[[32]byte]bool
	list []call
}

type call struct {
	method string
	at     time.Time
}

// watch makes r note calls, each once however often it is posted, on top of fault.
func (r *rig) watch(fault func(q *localnet.Request, nth int) localnet.Fault) *calls {
	c := &calls{seen: make(map[[32]byte]bool)}
	r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
		if q.Endpoint != "call" {
			return localnet.Fault{}
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.seen[q.ID] {
			c.seen[q.ID] = true
			c.list = append(c.list, call{q.Method, time.Now()})
		}
		return fault(q, len(c.list))
	})
	return c
}

// methods lists the calls in their order.
func (c *calls) methods() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var m []string
	for _, one := range c.list {
		m = append(m, one.method)
	}
	return m
}

// at returns when the call with index i began.
func (c *calls) at(i int) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.list[i].at
}

func noCallFault(*localnet.Request, int) localnet.Fault { return localnet.Fault{} }

// known lists the client keys that the canister has.
func (r *rig) known() []verify.ClientKey {
	var keys []verify.ClientKey
	for _, c := range r.cdk.Clients() {
		keys = append(keys, c.Key)
	}
	return keys
}

// flavours runs f for each kind of canister, on a network whose updates take a while and come in any order.
func flavours(t *testing.T, f func(t *testing.T, r *rig)) {
	for _, motoko := range []bool{false, true} {
		t.Run(fmt.Sprintf("motoko=%v", motoko), func(t *testing.T) {
			inBubble(t, rigOptions{
				cdk:     localnet.CDKOptions{Motoko: motoko},
				network: localnet.Options{Latency: 1500 * time.Millisecond},
				config:  pollSlowly,
			}, f)
		})
	}
}

// Of two sessions of one identity the one that began later stays, however close together they begin.
func TestNewestSessionWins(t *testing.T) {
	t.Parallel()
	for _, gap := range []time.Duration{time.Millisecond, 30 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second} {
		t.Run(gap.String(), func(t *testing.T) {
			flavours(t, func(t *testing.T, r *rig) {
				const people = 20
				var older, newer [people]*dialing
				var all sync.WaitGroup
				for i := range people {
					o := r.person()
					all.Go(func() {
						older[i] = r.dialAs(o)
						time.Sleep(gap)
						newer[i] = r.dialAs(o)
					})
				}
				all.Wait()
				time.Sleep(20 * time.Second)
				known := r.known()
				for i := range people {
					if ce := newer[i].end(); ce != nil {
						t.Errorf("the newer session was closed with %d %q", ce.Code, ce.Text)
					} else if !slices.Contains(known, newer[i].c.Key()) {
						t.Error("the canister does not know the newer session")
					}
					if ce := older[i].end(); ce == nil || ce.Code != relay.Superseded.Code() || ce.Text != relay.Superseded.Text() {
						t.Errorf("the older session ended with %v", ce)
					}
				}
				if len(known) != people {
					t.Errorf("the canister has %d sessions, want %d", len(known), people)
				}
			})
		})
	}
}

// A session that follows one whose page was closed while its ws_open was under way has its place at the canister, and no ws_close
// goes out for the one before: it is replaced.
func TestSessionAfterOneThatLeftWhileOpening(t *testing.T) {
	t.Parallel()
	for _, gap := range []time.Duration{30 * time.Millisecond, 500 * time.Millisecond, time.Second} {
		t.Run(gap.String(), func(t *testing.T) {
			flavours(t, func(t *testing.T, r *rig) {
				r.open() // there is a poller
				calls := r.watch(noCallFault)
				const people = 20
				var sessions [people]*dialing
				var all sync.WaitGroup
				for i := range people {
					o := r.person()
					all.Go(func() {
						left := r.openingRaw(o)
						time.Sleep(gap)
						left.CloseWith(1000, "")
						sessions[i] = r.dialAs(o)
					})
				}
				all.Wait()
				time.Sleep(20 * time.Second)
				known := r.known()
				for _, s := range sessions {
					if ce := s.end(); ce != nil {
						t.Errorf("a session was closed with %d %q", ce.Code, ce.Text)
					} else if !slices.Contains(known, s.c.Key()) {
						t.Error("the canister does not know a session that is open")
					}
				}
				if len(known) != people+1 {
					t.Errorf("the canister has %d sessions, want %d", len(known), people+1)
				}
				if slices.Contains(calls.methods(), "ws_close") {
					t.Error("ws_close was called for a session that a newer one replaces")
				}
			})
		})
	}
}

// A ws_open waits for a ws_close that is under way. One that is only due is not sent any more.
func TestNewSessionAfterAWsClose(t *testing.T) {
	flavours(t, func(t *testing.T, r *rig) {
		o := r.person()
		older := r.dialAs(o)
		<-older.done
		calls := r.watch(func(q *localnet.Request, _ int) (f localnet.Fault) {
			if q.Method == "ws_close" {
				f.ReplyDelay = 3 * time.Second
			}
			return f
		})
		older.c.Close()
		time.Sleep(time.Second)
		newer := r.dialAs(o)
		time.Sleep(20 * time.Second)
		if got := calls.methods(); !slices.Equal(got, []string{"ws_close", "ws_open"}) {
			t.Fatalf("calls %q, want ws_close and then ws_open", got)
		}
		if wait := calls.at(1).Sub(calls.at(0)); wait < 3*time.Second {
			t.Errorf("ws_open went out %s after ws_close, whose outcome was not known", wait)
		}
		if ce := newer.end(); ce != nil || !slices.Equal(r.known(), []verify.ClientKey{newer.c.Key()}) {
			t.Errorf("the newer session ended with %v, the canister knows %v", ce, r.known())
		}
	})
}

// A session that follows one that has just been closed is one that the canister takes messages from.
func TestReload(t *testing.T) {
	t.Parallel()
	for _, gap := range []time.Duration{time.Millisecond, 300 * time.Millisecond, time.Second} {
		t.Run(gap.String(), func(t *testing.T) {
			flavours(t, func(t *testing.T, r *rig) {
				const people = 20
				var sessions [people]*dialing
				var all sync.WaitGroup
				for i := range people {
					o := r.person()
					all.Go(func() {
						older := r.dialAs(o)
						<-older.done
						older.c.Close()
						time.Sleep(gap)
						sessions[i] = r.dialAs(o)
					})
				}
				all.Wait()
				for _, s := range sessions {
					if <-s.done; s.err != nil {
						t.Fatal(s.err)
					}
					r.echo(s.c, "hi")
				}
				time.Sleep(20 * time.Second)
				if n := len(r.known()); n != people {
					t.Errorf("the canister has %d sessions, want %d", n, people)
				}
			})
		})
	}
}

// If the newer ws_open goes nowhere, the canister is told of the older one's end after all.
func TestNewSessionThatIsRefused(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*localnet.Request, int) localnet.Fault{
		"refused": func(_ *localnet.Request, nth int) (f localnet.Fault) {
			if nth == 2 {
				f.Status, f.Body = 400, []byte("Invalid signature")
			}
			return f
		},
		"leaves as well": noCallFault,
	} {
		t.Run(name, func(t *testing.T) {
			flavours(t, func(t *testing.T, r *rig) {
				r.open()
				o := r.person()
				calls := r.watch(spoil)
				first := r.openingRaw(o)
				time.Sleep(100 * time.Millisecond)
				first.CloseWith(1000, "")
				second := r.openingRaw(o)
				time.Sleep(100 * time.Millisecond)
				if name != "refused" {
					second.CloseWith(1000, "")
				}
				time.Sleep(time.Minute)
				if n := len(r.known()); n != 1 {
					t.Errorf("the canister has %d sessions, want the one that is here; calls %q", n, calls.methods())
				}
				if !slices.Contains(calls.methods(), "ws_close") {
					t.Error("the canister was not told")
				}
			})
		})
	}
}

// A session that has not sent its ws_open is given up when the same person opens another, and its ws_open never goes out.
func TestUnsentSessionIsGivenUp(t *testing.T) {
	flavours(t, func(t *testing.T, r *rig) {
		r.network.SetFaults(func(*localnet.Request) localnet.Fault { return localnet.Fault{Status: 429} })
		o := r.person()
		first := r.dialAs(o)
		time.Sleep(5 * time.Second)
		second := r.dialAs(o)
		time.Sleep(time.Second)
		third := r.dialAs(o)
		time.Sleep(time.Second)
		for _, d := range []*dialing{first, second} {
			if ce := d.end(); ce == nil || ce.Code != relay.Superseded.Code() {
				t.Errorf("an older session ended with %v", ce)
			}
		}
		calls := r.watch(noCallFault)
		time.Sleep(30 * time.Second)
		if ce := third.end(); ce != nil {
			t.Errorf("the newest session was closed with %d %q", ce.Code, ce.Text)
		}
		if got := calls.methods(); !slices.Equal(got, []string{"ws_open"}) {
			t.Errorf("calls %q, want one ws_open", got)
		}
	})
}

// A ws_open whose outcome does not come holds the newer one up for 10 seconds and no longer. What the network does of it after that
// never makes the newer session the one that is replaced for good.
func TestOutcomeThatDoesNotComeHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]localnet.Fault{
		"never executed":   {Delay: time.Hour},
		"executed, silent": {ReplyDelay: time.Hour},
		"executed late":    {Delay: 9 * time.Second, ReplyDelay: time.Hour},
		"executed last":    {Delay: 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			flavours(t, func(t *testing.T, r *rig) {
				r.open()
				var mu sync.Mutex
				var first [32]byte
				r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
					mu.Lock()
					defer mu.Unlock()
					if q.Method == "ws_open" && first == [32]byte{} {
						first = q.ID
					}
					if q.ID == first && q.Endpoint == "call" {
						return lost
					}
					return localnet.Fault{}
				})
				o := r.person()
				older := r.openingRaw(o)
				go older.Read(context.Background())
				time.Sleep(time.Second)
				began := time.Now()
				newer := r.dialAs(o)
				<-newer.done
				if took := time.Since(began); newer.err != nil || took > 15*time.Second {
					t.Fatalf("the newer session opened after %s: %v", took, newer.err)
				}
				time.Sleep(6 * time.Minute)
				if ce := newer.end(); ce != nil && ce.Code != relay.Forgotten.Code() {
					t.Errorf("the newer session was closed with %d %q, which is no reason to come back", ce.Code, ce.Text)
				}
				again := r.dialAs(o)
				time.Sleep(10 * time.Second)
				if ce := again.end(); ce != nil || !slices.Contains(r.known(), again.c.Key()) {
					t.Errorf("the session after it ended with %v", ce)
				}
			})
		})
	}
}

// A session that opens and leaves at once does not leave an earlier one of its principal open and silent.
func TestSessionReplacedByOneThatLeft(t *testing.T) {
	flavours(t, func(t *testing.T, r *rig) {
		o := r.person()
		older := r.dialAs(o)
		<-older.done
		raw := r.openingRaw(o)
		time.Sleep(100 * time.Millisecond)
		raw.CloseWith(1000, "")
		time.Sleep(20 * time.Second)
		if ce := older.end(); ce == nil || ce.Code != relay.Forgotten.Code() {
			t.Errorf("the session that the canister removed ended with %v, want an invitation to reconnect", ce)
		}
		if n := len(r.known()); n != 0 {
			t.Errorf("the canister has %d sessions, want none", n)
		}
	})
}

// What the lines of all principals hold is gone with their calls.
func TestNothingIsKeptOfDepartedPeople(t *testing.T) {
	flavours(t, func(t *testing.T, r *rig) {
		for range 5 {
			o := r.person()
			for range 3 {
				r.dialAs(o)
				time.Sleep(300 * time.Millisecond)
			}
			c := r.dialAs(o)
			<-c.done
			c.c.Close()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := r.gateway.Lines(); n != 0 {
			t.Errorf("%d lines are left", n)
		}
	})
}

// One host of two may hold a ws_open back: the other executes it, and the session after it has its turn.
func TestTurnsAcrossHosts(t *testing.T) {
	inBubble(t, rigOptions{
		network: localnet.Options{Latency: time.Second},
		config: func(c *relay.Config) {
			c.Hosts = []*url.URL{{Scheme: "http", Host: "a.test"}, {Scheme: "http", Host: "b.test"}}
		},
	}, func(t *testing.T, r *rig) {
		r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
			f.Drop = q.Boundary == "http://a.test" && q.Endpoint == "call"
			return f
		})
		o := r.person()
		older := r.dialAs(o)
		time.Sleep(50 * time.Millisecond)
		newer := r.dialAs(o)
		time.Sleep(20 * time.Second)
		if ce := newer.end(); ce != nil || !slices.Equal(r.known(), []verify.ClientKey{newer.c.Key()}) {
			t.Errorf("the newer session ended with %v", ce)
		}
		if ce := older.end(); ce == nil || ce.Code != relay.Superseded.Code() {
			t.Errorf("the older session ended with %v", ce)
		}
	})
}
