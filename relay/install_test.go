package relay_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
)

// counted counts the requests to each endpoint from now on.
func counted(r *rig) (requests func(endpoint string) int) {
	var mu sync.Mutex
	n := make(map[string]int)
	r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
		mu.Lock()
		defer mu.Unlock()
		n[q.Endpoint]++
		return localnet.Fault{}
	})
	return func(endpoint string) int {
		mu.Lock()
		defer mu.Unlock()
		return n[endpoint]
	}
}

// upgradeText is what sessions are told of an upgrade at this time.
func upgradeText(at time.Time) string {
	return "canister was upgraded at " + at.UTC().Format(time.RFC3339) + " and forgot this session, reconnect"
}

// What makes the gateway look, and how soon sessions that say nothing are told, with the certified install time and by
// inference alone. The times are the bubble's.
func TestUpgradeIsTold(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		upgrade func(t *testing.T, r *rig)
		within  time.Duration // of the upgrade the silent session is told
		without time.Duration // the same where the network does not know
	}{
		{name: "nobody speaks", within: 22 * time.Second, without: 75 * time.Second,
			upgrade: func(t *testing.T, r *rig) { must(t, r.network.Upgrade(r.canister)) }},
		{name: "reinstalled", within: 22 * time.Second, without: 75 * time.Second,
			upgrade: func(t *testing.T, r *rig) {
				must(t, r.network.Reinstall(r.canister, localnet.NewCDK(localnet.CDKOptions{})))
			}},
		{name: "stopped for it", within: 10 * time.Second, without: 75 * time.Second,
			upgrade: func(t *testing.T, r *rig) {
				must(t, r.network.Stop(r.canister))
				time.Sleep(2 * time.Second)
				must(t, r.network.Upgrade(r.canister))
				must(t, r.network.StartCanister(r.canister))
			}},
		{name: "another session speaks", within: 2 * time.Second, without: 75 * time.Second,
			upgrade: func(t *testing.T, r *rig) {
				other := r.open()
				must(t, r.network.Upgrade(r.canister))
				if err := other.Send(t.Context(), []byte("hi")); err != nil {
					t.Error(err)
				}
			}},
		{name: "another session opens", within: 4 * time.Second, without: 75 * time.Second,
			upgrade: func(t *testing.T, r *rig) {
				must(t, r.network.Upgrade(r.canister))
				opens := make(chan struct{})
				go func() { defer close(opens); r.open() }()
				t.Cleanup(func() { <-opens })
			}},
	} {
		for _, known := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, known %t", tt.name, known), func(t *testing.T) {
				inBubble(t, rigOptions{network: localnet.Options{Nodes: 4, NoInstallTime: !known}}, func(t *testing.T, r *rig) {
					c := r.open()
					for i := range 10 {
						r.echo(c, fmt.Sprint(i))
					}
					time.Sleep(10 * time.Second)
					requests := counted(r)
					began := time.Now()
					tt.upgrade(t, r)
					ce := closeOf(t, c)
					took := time.Since(began)
					within, text := tt.within, "canister was upgraded at "
					if !known {
						within, text = tt.without, "forgot this session"
					}
					if took > within {
						t.Errorf("told after %s", took)
					}
					if ce.Code != 1012 || !strings.HasPrefix(ce.Text, text) && known || !strings.Contains(ce.Text, text) {
						t.Errorf("told %d %q", ce.Code, ce.Text)
					}
					if !known && strings.Contains(ce.Text, "upgraded at") {
						t.Errorf("told %q, which nobody knows", ce.Text)
					}
					if known && !r.logged("its program was put in place since") {
						t.Error("the log does not say why")
					}
					t.Logf("told after %s, %d queries, %d readings", took, requests("query"), requests("read_state"))
					if n := requests("read_state"); n > 6 {
						t.Errorf("%d readings of certified state for one upgrade", n)
					}
				})
			})
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// The text and the log name the certified time.
func TestUpgradeTimeIsNamed(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		c := r.open()
		time.Sleep(10 * time.Second)
		must(t, r.network.Upgrade(r.canister))
		at := r.network.Now()
		ce := closeOf(t, c)
		if ce.Text != upgradeText(at) {
			t.Errorf("told %q, want %q", ce.Text, upgradeText(at))
		}
		if !r.logged(upgradeText(at)) {
			t.Error("the log does not name it")
		}
	})
}

// A session that the canister has closed is no reason to take its queue for a new one, and readings are few.
func TestNoInstallNoUpgrade(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		keeps := r.open()
		r.echo(keeps, "hi")
		requests := counted(r)
		for range 10 {
			c := r.open()
			r.cdk.Do(func(ctx *localnet.AppContext) { must(t, ctx.Close(c.Key().Principal)) })
			if err := c.Send(t.Context(), []byte("am I there")); err == nil {
				closeOf(t, c)
			}
			time.Sleep(5 * time.Second)
		}
		if r.logged("began anew") {
			t.Error("a closed session was taken for an upgrade")
		}
		if n := requests("read_state"); n > 20 {
			t.Errorf("%d readings for 10 suspicions", n)
		}
		r.echo(keeps, "still there")
	})
}

// old makes one boundary node answer readings of certified state with the first that it gave, whatever has happened since.
type old struct {
	network http.RoundTripper
	mu      sync.Mutex
	first   []byte
	lies    atomic.Int64
}

func (o *old) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != "lying.test" || !strings.HasSuffix(r.URL.Path, "/read_state") {
		return o.network.RoundTrip(r)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.first != nil {
		o.lies.Add(1)
		r.Body.Close()
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(o.first)), Request: r}, nil
	}
	res, err := o.network.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	o.first = body
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, err
}

// An old certificate proves nothing, and its host is not asked again while there is another.
func TestUpgradeToldDespiteOldCertificates(t *testing.T) {
	node := &old{}
	inBubble(t, rigOptions{
		network: localnet.Options{Nodes: 4},
		config: func(c *relay.Config) {
			twoNodes(c)
			node.network = c.Transport
			c.Transport = node
		},
	}, func(t *testing.T, r *rig) {
		c := r.open()
		other := r.open()
		r.echo(c, "hi")
		// The first suspicions: both hosts are asked when the canister was installed.
		for range 6 {
			gone := r.open()
			r.cdk.Do(func(ctx *localnet.AppContext) { must(t, ctx.Close(gone.Key().Principal)) })
			if err := gone.Send(t.Context(), []byte("am I there")); err == nil {
				closeOf(t, gone)
			}
			time.Sleep(3 * time.Second)
		}
		must(t, r.network.Upgrade(r.canister))
		began := time.Now()
		if err := other.Send(t.Context(), []byte("hi")); err != nil {
			t.Fatal(err)
		}
		ce := closeOf(t, c)
		if took := time.Since(began); took > 5*time.Second || !strings.HasPrefix(ce.Text, "canister was upgraded at") {
			t.Errorf("told %q after %s, %d old answers", ce.Text, took, node.lies.Load())
		}
		if node.lies.Load() == 0 {
			t.Error("nobody lied")
		}
	})
}

// Readings that hang hold nothing up: the inference goes on.
func TestHangingReadings(t *testing.T) {
	inBubble(t, rigOptions{network: localnet.Options{Nodes: 4}}, func(t *testing.T, r *rig) {
		c := r.open()
		r.echo(c, "hi")
		r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
			if q.Endpoint == "read_state" {
				return localnet.Fault{Delay: time.Hour}
			}
			return localnet.Fault{}
		})
		must(t, r.network.Upgrade(r.canister))
		n := r.open()
		r.echo(n, "new")
		if ce := closeOf(t, c); ce.Code != 1012 || strings.Contains(ce.Text, "upgraded at") {
			t.Errorf("told %d %q", ce.Code, ce.Text)
		}
		r.echo(n, "still there")
	})
}

// forgetful drops all that it keeps when a client says so, without an upgrade.
type forgetful struct{ *localnet.CDK }

func (f forgetful) Update(env *localnet.Env, method string, arg []byte) ([]byte, error) {
	reply, err := f.CDK.Update(env, method, arg)
	if err == nil && bytes.Contains(arg, []byte("forget everything")) {
		err = f.Init(env)
	}
	return reply, err
}

// A queue that ends without an upgrade, as after an eviction, is found by inference, and nobody is told of an upgrade.
func TestQueueThatEndsWithoutUpgrade(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		must(t, r.network.Reinstall(r.canister, forgetful{r.cdk}))
		c, other := r.open(), r.open()
		r.echo(c, "hi")
		time.Sleep(5 * time.Second)
		if err := other.Send(t.Context(), []byte("forget everything")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		n := r.open()
		r.echo(n, "new")
		if ce := closeOf(t, c); ce.Code != 1012 || ce.Text != "the canister dropped its queue and forgot this session, reconnect" {
			t.Errorf("told %d %q", ce.Code, ce.Text)
		}
		r.echo(n, "still there")
	})
}

// stable is a canister that keeps its queues through upgrades.
type stable struct{ *localnet.CDK }

func (stable) Init(*localnet.Env) error { return nil }

// A canister may keep its queue in stable memory. What it shows of before the upgrade, certified afterwards, proves that.
func TestQueueThatOutlivesAnUpgrade(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		c := r.open()
		r.echo(c, "hi")
		time.Sleep(5 * time.Second)
		for range 3 {
			must(t, r.network.Reinstall(r.canister, stable{r.cdk}))
			gone := r.open() // certifies the queue again
			r.cdk.Do(func(ctx *localnet.AppContext) { must(t, ctx.Close(gone.Key().Principal)) })
			if err := gone.Send(t.Context(), []byte("am I there")); err == nil {
				closeOf(t, gone)
			}
			time.Sleep(time.Minute)
			r.echo(c, "still there")
		}
		if r.logged("began anew") {
			t.Error("the queue was taken for a new one")
		}
	})
}

// An upgrade drops what the canister keeps for its first session before anybody has read its first message.
func TestUpgradeBeforeTheFirstMessage(t *testing.T) {
	t.Parallel()
	for _, hosts := range []bool{false, true} {
		t.Run(fmt.Sprintf("two hosts %t", hosts), func(t *testing.T) {
			o := rigOptions{network: localnet.Options{Nodes: 4}}
			if hosts {
				o.config = twoNodes
			}
			inBubble(t, o, func(t *testing.T, r *rig) {
				var blind atomic.Bool
				var polls atomic.Int64
				blind.Store(true)
				r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
					// The first poll finds that the queue is empty.
					f.Drop = q.Endpoint == "query" && polls.Add(1) > 1 && blind.Load()
					return f
				})
				early := r.openingRaw(r.options())
				r.waitFor("it is accepted", func() bool { return len(r.cdk.Clients()) > 0 })
				time.Sleep(time.Second)
				must(t, r.network.Upgrade(r.canister))
				at := r.network.Now()
				blind.Store(false)
				began := time.Now()
				if ce := readClose(t, early); ce.Code != 1012 || ce.Text != upgradeText(at) {
					t.Errorf("told %d %q", ce.Code, ce.Text)
				}
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("told after %s", took)
				}
			})
		})
	}
}
