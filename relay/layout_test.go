package relay_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// aware are the options of a client that reads the newer layout of certificates, and says so.
func (r *rig) aware() client.Options {
	o := r.options()
	o.AllowSharded = true
	return o
}

// openWith opens a session and ends it with the test.
func (r *rig) openWith(o client.Options) *client.Client {
	r.t.Helper()
	c, err := client.Dial(context.Background(), r.url, o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

// newerReadState makes hosts certify the newer layout in version 2 of read_state, too.
type newerReadState struct {
	http.RoundTripper
	hosts string
}

func (n newerReadState) RoundTrip(q *http.Request) (*http.Response, error) {
	if strings.Contains(n.hosts, q.URL.Host) && strings.HasSuffix(q.URL.Path, "/read_state") {
		q = q.Clone(q.Context())
		q.URL.Path = strings.Replace(q.URL.Path, "/v2/", "/v3/", 1)
	}
	return n.RoundTripper.RoundTrip(q)
}

// wantOutdated wants the end of a session whose client reads the older layout only.
func wantOutdated(t *testing.T, err error) {
	t.Helper()
	ce := new(client.CloseError)
	if !errors.As(err, &ce) || ce.Code != relay.ClientOutdated.Code() || ce.Text != relay.ClientOutdated.Text() || ce.Local {
		t.Errorf("a client of the older layout: %v, want %d %q", err, relay.ClientOutdated.Code(), relay.ClientOutdated.Text())
	}
}

// A network that has given up version 2: who reads the newer layout talks on, who does not is told.
func TestNetworkWithoutTheOlderLayout(t *testing.T) {
	t.Parallel()
	for _, status := range []int{404, 405, 410} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			inBubble(t, rigOptions{
				network: localnet.Options{V3Only: true, GoneStatus: status},
				config:  func(c *relay.Config) { c.VerifyEmpty = true }, // which reads node keys
			}, func(t *testing.T, r *rig) {
				c := r.openWith(r.aware())
				r.echo(c, "hi")
				_, err := client.Dial(t.Context(), r.url, r.options())
				wantOutdated(t, err)
				r.echo(c, "still here")
				if got := len(r.cdk.Clients()); got != 1 {
					t.Errorf("the canister lists %d clients, want the one that talks on", got)
				}
				if !r.logged("the network gives no other") {
					t.Error("the log does not say why clients are closed")
				}
			})
		})
	}
}

// The newer layout in version 2, too, is believed when two hosts give it, where there are two.
func TestBothVersionsInTheNewerLayout(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		hosts, newer  []string
		olderIsServed bool
	}{
		{"one host", []string{"a.test"}, []string{"a.test"}, false},
		{"two hosts", []string{"a.test", "b.test"}, []string{"a.test", "b.test"}, false},
		{"one of two hosts", []string{"a.test", "b.test"}, []string{"a.test"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, rigOptions{network: localnet.Options{ShardedOnly: true}, config: func(c *relay.Config) {
				c.Hosts = nil
				for _, h := range tt.hosts {
					c.Hosts = append(c.Hosts, &url.URL{Scheme: "http", Host: h})
				}
				c.Transport = newerReadState{c.Transport, strings.Join(tt.newer, " ")}
			}}, func(t *testing.T, r *rig) {
				r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
					f.ReplyDelay = 5 * time.Millisecond
					if strings.Contains(q.Boundary, "b.test") {
						f.ReplyDelay = time.Second // asked only where the other will not do
					}
					return f
				})
				if tt.olderIsServed {
					r.echo(r.open(), "hi")
				} else {
					_, err := client.Dial(t.Context(), r.url, r.options())
					wantOutdated(t, err)
				}
				r.echo(r.openWith(r.aware()), "hi")
			})
		})
	}
}

// The hosts lose version 2 while sessions are open. A delegation that was seen before is good for weeks, so nobody notices.
func TestVersion2EndsWhileSessionsAreOpen(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		old, aware := r.open(), r.openWith(r.aware())
		r.echo(old, "before")
		r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
			if q.Version == "v2" && q.Endpoint != "status" {
				f.Status = 410
			}
			return f
		})
		for range 5 {
			r.echo(old, "after")
			r.echo(aware, "after")
			time.Sleep(15 * time.Minute)
		}
		r.echo(r.open(), "new")
	})
}

// A layout that comes back is given again.
func TestOlderLayoutComesBack(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		var gone atomic.Bool
		gone.Store(true)
		r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
			if q.Version == "v2" && q.Endpoint != "status" && gone.Load() {
				f.Status = 404
			}
			return f
		})
		_, err := client.Dial(t.Context(), r.url, r.options())
		wantOutdated(t, err)
		gone.Store(false)
		time.Sleep(11 * time.Minute)
		r.echo(r.open(), "hi")
	})
}

// Two hosts, one of which has lost version 2: everybody is served, whichever answers.
func TestHostsOfTwoGenerationsServeEverybody(t *testing.T) {
	inBubble(t, rigOptions{config: func(c *relay.Config) {
		c.Hosts = []*url.URL{{Scheme: "http", Host: "old.test"}, {Scheme: "http", Host: "new.test"}}
	}}, func(t *testing.T, r *rig) {
		var v3 atomic.Int64
		r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
			old := strings.Contains(q.Boundary, "old.test")
			if q.Endpoint != "status" && old != (q.Version == "v2") {
				f.Status = 404
			} else if q.Version == "v3" && q.Endpoint == "query" {
				v3.Add(1)
			}
			return f
		})
		old, aware := r.open(), r.openWith(r.aware())
		for range 30 {
			r.echo(old, "hi")
			r.echo(aware, "hi")
			time.Sleep(time.Minute)
		}
		if v3.Load() == 0 {
			t.Error("the newer host was never asked")
		}
	})
}
