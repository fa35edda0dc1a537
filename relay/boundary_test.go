package relay_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
)

// discovering is a rig whose gateway looks for boundary nodes, for hours in which nothing else happens.
func discovering(more ...func(*relay.Config)) rigOptions {
	return rigOptions{cdk: localnet.CDKOptions{NoAcks: true}, config: func(c *relay.Config) {
		c.Discover = true
		c.PollIdleInterval = 10 * time.Second
		for _, f := range more {
			f(c)
		}
	}}
}

// hosts lists what the gateway uses: the configured host first, then the discovered ones.
func (r *rig) hosts() (configured, discovered []string) {
	for _, h := range r.gateway.Snapshot().Hosts {
		if h.Discovered {
			discovered = append(discovered, h.Host)
		} else {
			configured = append(configured, h.Host)
		}
	}
	return configured, discovered
}

// wantHosts checks what the gateway uses besides the configured host, which stays.
func (r *rig) wantHosts(want ...string) {
	r.t.Helper()
	configured, discovered := r.hosts()
	if !slices.Equal(configured, []string{"network.test"}) || !slices.Equal(discovered, want) {
		r.t.Errorf("hosts are %q and %q, want %q discovered", configured, discovered, want)
	}
}

// asked collects which hosts are asked from now on.
func asked(r *rig, fault func(q *localnet.Request) localnet.Fault) (hosts func() map[string]int) {
	var mu sync.Mutex
	n := make(map[string]int)
	r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
		mu.Lock()
		n[q.Boundary]++
		mu.Unlock()
		return fault(q)
	})
	return func() map[string]int {
		mu.Lock()
		defer mu.Unlock()
		got := n
		n = make(map[string]int)
		return got
	}
}

func noFault(*localnet.Request) localnet.Fault { return localnet.Fault{} }

func TestBoundaryNodesAreDiscovered(t *testing.T) {
	inBubble(t, discovering(), func(t *testing.T, r *rig) {
		r.network.SetBoundaryNodes("bn2.icp.example", "BN1.icp.example", "network.test")
		r.wantHosts()
		hosts := asked(r, noFault)
		c := r.open()
		time.Sleep(time.Minute)
		r.wantHosts("bn1.icp.example", "bn2.icp.example")
		got := hosts()
		for _, h := range []string{"http://network.test", "https://bn1.icp.example", "https://bn2.icp.example"} {
			if got[h] < 10 {
				t.Errorf("in a minute the hosts are asked %v", got)
			}
		}

		// One is struck off and one is new.
		r.network.SetBoundaryNodes("bn3.icp.example", "bn2.icp.example")
		time.Sleep(70 * time.Minute)
		r.wantHosts("bn2.icp.example", "bn3.icp.example")
		hosts()
		for i := range 50 {
			r.echo(c, fmt.Sprint(i))
		}
		if got := hosts(); got["https://bn1.icp.example"] > 0 || got["https://bn3.icp.example"] == 0 {
			t.Errorf("for 50 messages the hosts are asked %v", got)
		}
		r.network.SetBoundaryNodes()
		time.Sleep(70 * time.Minute)
		r.wantHosts()
		r.echo(c, "still there")
	})
}

// Without being told to, the gateway asks nobody but the configured hosts; and nobody asks where nobody is connected.
func TestBoundaryNodesAreNotLookedForUnasked(t *testing.T) {
	t.Parallel()
	t.Run("not told to", func(t *testing.T) {
		inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
			r.network.SetBoundaryNodes("bn1.icp.example")
			hosts := asked(r, noFault)
			r.open()
			time.Sleep(20 * time.Minute)
			if got := hosts(); len(got) != 1 {
				t.Errorf("asked %v", got)
			}
		})
	})
	t.Run("nobody connected", func(t *testing.T) {
		inBubble(t, discovering(), func(t *testing.T, r *rig) {
			r.network.SetBoundaryNodes("bn1.icp.example")
			r.open().Close()
			time.Sleep(10 * time.Minute)
			hosts := asked(r, noFault)
			time.Sleep(5 * time.Hour)
			if got := hosts(); len(got) != 0 {
				t.Errorf("without sessions asked %v", got)
			}
			r.network.SetBoundaryNodes("bn2.icp.example")
			r.open()
			time.Sleep(time.Minute)
			r.wantHosts("bn2.icp.example")
		})
	})
}

// A discovered host takes over from the configured one when that fails, and gives back.
func TestDiscoveredHostTakesOver(t *testing.T) {
	inBubble(t, discovering(), func(t *testing.T, r *rig) {
		r.network.SetBoundaryNodes("bn1.icp.example")
		c := r.open()
		time.Sleep(time.Minute)
		var down atomic.Value
		down.Store("http://network.test")
		hosts := asked(r, func(q *localnet.Request) localnet.Fault { return localnet.Fault{Drop: q.Boundary == down.Load()} })
		for i := range 30 {
			r.echo(c, fmt.Sprint("to the discovered one ", i))
		}
		if got := hosts(); got["https://bn1.icp.example"] < 50 || got["http://network.test"] > 20 {
			t.Errorf("asked %v", got)
		}
		down.Store("https://bn1.icp.example")
		time.Sleep(time.Minute)
		hosts()
		for i := range 30 {
			r.echo(c, fmt.Sprint("to the configured one ", i))
		}
		time.Sleep(time.Minute)
		if got := hosts(); got["http://network.test"] < 50 || got["https://bn1.icp.example"] > 10 {
			t.Errorf("asked %v", got)
		}
		// It has not recovered when the list is read again, so it goes; and it comes back.
		time.Sleep(70 * time.Minute)
		r.wantHosts()
		down.Store("")
		time.Sleep(70 * time.Minute)
		r.wantHosts("bn1.icp.example")
		if err := c.Err(); err != nil {
			t.Errorf("the session ended: %v", err)
		}
	})
}

// What is listed and gives no certificate that holds, gets no requests.
func TestUselessBoundaryNodes(t *testing.T) {
	inBubble(t, discovering(), func(t *testing.T, r *rig) {
		r.network.SetBoundaryNodes("dead.icp.example", "slow.icp.example", "liar.icp.example", "good.icp.example")
		hosts := asked(r, func(q *localnet.Request) localnet.Fault {
			at := -60
			switch q.Boundary {
			case "https://dead.icp.example":
				return localnet.Fault{Drop: true}
			case "https://slow.icp.example":
				return localnet.Fault{Delay: time.Hour}
			case "https://liar.icp.example":
				return localnet.Fault{CorruptAt: &at}
			}
			return localnet.Fault{}
		})
		c := r.open()
		for i := range 20 {
			r.echo(c, fmt.Sprint(i))
		}
		time.Sleep(30 * time.Minute)
		r.wantHosts("good.icp.example")
		got := hosts()
		time.Sleep(5 * time.Hour)
		if n := r.logs.FilterMessageSnippet("boundary nodes have changed").Len(); n != 1 {
			t.Errorf("the log says %d times that they have changed", n)
		}
		for _, h := range []string{"dead", "slow", "liar"} {
			if n := got["https://"+h+".icp.example"]; n != 1 {
				t.Errorf("the %s one was asked %d times", h, n)
			}
		}
	})
}

// Names that are no names of the public Internet, and more names than anybody needs.
func TestHostileBoundaryNodes(t *testing.T) {
	t.Parallel()
	for name, domains := range map[string][]string{
		"forms": {"127.0.0.1", "localhost", "bn.localhost", "0x7f.1", "[::1]", "bn1.example:8443", "user@bn1.example", "bn1.example/x", "",
			"b\u00fccher.example", "\u212aelvin.example", "bn1.example.", "*.example", strings.Repeat("a", 64) + ".example", "metadata.internal"},
		"many": func() (all []string) {
			for i := range 10_000 {
				all = append(all, fmt.Sprintf("bn%d.icp.example", i))
			}
			return all
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, discovering(), func(t *testing.T, r *rig) {
				r.network.SetBoundaryNodes(domains...)
				hosts := asked(r, noFault)
				c := r.open()
				time.Sleep(time.Minute)
				r.echo(c, "hi")
				_, discovered := r.hosts()
				if got := hosts(); len(got) > 65 || len(discovered) > 64 {
					t.Errorf("%d hosts discovered, %d asked", len(discovered), len(got))
				}
				if name == "forms" && len(discovered) > 0 {
					t.Errorf("discovered %q", discovered)
				}
			})
		})
	}
}

// forger is a configured host that answers readings of the list with one that it made up, or has pruned or kept.
type forger struct {
	network http.RoundTripper
	answer  func(body []byte) []byte // of readings of certified state
}

func (f *forger) RoundTrip(r *http.Request) (*http.Response, error) {
	asks := strings.HasSuffix(r.URL.Path, "/read_state")
	if asks && r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		asks = bytes.Contains(body, []byte("api_boundary_nodes"))
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	res, err := f.network.RoundTrip(r)
	if err != nil || !asks || res.StatusCode != http.StatusOK {
		return res, err
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil {
		return nil, err
	}
	body = f.answer(body)
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return res, nil
}

// Nobody but the network adds hosts.
func TestForgedBoundaryNodes(t *testing.T) {
	var other []byte
	elsewhere := discovering(func(c *relay.Config) {
		c.Transport = &forger{network: c.Transport, answer: func(b []byte) []byte { other = b; return b }}
	})
	elsewhere.network.Seed = 2
	inBubble(t, elsewhere, func(t *testing.T, r *rig) {
		r.network.SetBoundaryNodes("bn1.evil.example")
		r.open()
		time.Sleep(time.Minute)
	})
	if other == nil {
		t.Fatal("the other network was not asked")
	}
	for name, answer := range map[string]func(other []byte) func([]byte) []byte{
		"another name": func([]byte) func([]byte) []byte {
			return func(b []byte) []byte {
				return bytes.ReplaceAll(b, []byte("bn1.icp.example"), []byte("bn1.evil.example"))
			}
		},
		"another network's list": func(other []byte) func([]byte) []byte { return func([]byte) []byte { return other } },
		"no certificate": func([]byte) func([]byte) []byte {
			return func([]byte) []byte { return []byte("\xa1\x6bcertificate\x40") }
		},
		"nothing": func([]byte) func([]byte) []byte { return func([]byte) []byte { return nil } },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, discovering(func(c *relay.Config) {
				c.Transport = &forger{network: c.Transport, answer: answer(other)}
			}), func(t *testing.T, r *rig) {
				r.network.SetBoundaryNodes("bn1.icp.example")
				hosts := asked(r, noFault)
				c := r.open()
				time.Sleep(20 * time.Minute)
				r.wantHosts()
				if got := hosts(); len(got) != 1 {
					t.Errorf("asked %v", got)
				}
				r.echo(c, "still there")
			})
		})
	}
}

// A host that keeps an old list cannot hold on to what has been struck off: the certificate is too old by the next reading.
func TestOldListOfBoundaryNodes(t *testing.T) {
	var first []byte
	var replay atomic.Bool
	inBubble(t, discovering(func(c *relay.Config) {
		c.Hosts = []*url.URL{{Scheme: "http", Host: "network.test"}}
		c.Transport = &forger{network: c.Transport, answer: func(b []byte) []byte {
			if first == nil {
				first = b
			}
			if replay.Load() {
				return first
			}
			return b
		}}
	}), func(t *testing.T, r *rig) {
		r.network.SetBoundaryNodes("bn1.icp.example", "bn2.icp.example")
		c := r.open()
		time.Sleep(time.Minute)
		r.wantHosts("bn1.icp.example", "bn2.icp.example")
		replay.Store(true)
		time.Sleep(90 * time.Minute)
		r.wantHosts("bn1.icp.example", "bn2.icp.example") // the last list that holds
		replay.Store(false)
		r.network.SetBoundaryNodes("bn2.icp.example")
		time.Sleep(20 * time.Minute)
		r.wantHosts("bn2.icp.example")
		r.echo(c, "still there")
	})
}
