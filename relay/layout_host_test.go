package relay_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// olderReadState makes one boundary node answer readings of certified state of version 2 in its own way.
type olderReadState struct {
	network http.RoundTripper
	host    string
	answer  func(q *http.Request) (*http.Response, error)
}

func (o olderReadState) RoundTrip(q *http.Request) (*http.Response, error) {
	if q.URL.Host == o.host && strings.HasPrefix(q.URL.Path, "/api/v2/") && strings.HasSuffix(q.URL.Path, "/read_state") {
		return o.answer(q)
	}
	return o.network.RoundTrip(q)
}

// ofRootSubnet answers as the root subnet does at a canister of its own: the certificate holds and has no delegation.
func ofRootSubnet(t *testing.T) func(q *http.Request) (*http.Response, error) {
	root, err := localnet.New(localnet.Options{NoDelegation: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	id := root.Install(localnet.NewCDK(localnet.CDKOptions{}))
	return func(q *http.Request) (*http.Response, error) {
		q = q.Clone(q.Context())
		q.URL.Path = "/api/v2/canister/" + id.String() + "/read_state"
		return root.RoundTripper().RoundTrip(q)
	}
}

// garbage is no answer of the network.
func garbage(q *http.Request) (*http.Response, error) {
	q.Body.Close()
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("<html>")), Request: q}, nil
}

// The network has given up version 2, and one of two hosts gives something else than that for an answer. Who reads the
// newer layout talks on, who does not is told.
func TestOneBadHostWithoutTheOlderLayout(t *testing.T) {
	t.Parallel()
	hangs := func(q *http.Request) (*http.Response, error) {
		<-q.Context().Done()
		return nil, q.Context().Err()
	}
	busy := func(q *http.Request) (*http.Response, error) {
		q.Body.Close()
		return &http.Response{StatusCode: 503, Header: http.Header{}, Body: http.NoBody, Request: q}, nil
	}
	for name, answer := range map[string]func(t *testing.T) func(*http.Request) (*http.Response, error){
		"garbage":                    func(*testing.T) func(*http.Request) (*http.Response, error) { return garbage },
		"hangs":                      func(*testing.T) func(*http.Request) (*http.Response, error) { return hangs },
		"trouble":                    func(*testing.T) func(*http.Request) (*http.Response, error) { return busy },
		"the root subnet's own word": ofRootSubnet,
		"down":                       nil,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rigOptions{network: localnet.Options{V3Only: true}, config: func(c *relay.Config) {
				twoNodes(c)
				if answer != nil {
					c.Transport = olderReadState{c.Transport, "lying.test", answer(t)}
				}
			}}, func(t *testing.T, r *rig) {
				if answer == nil {
					r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
						return localnet.Fault{Drop: q.Boundary == "http://lying.test"}
					})
				}
				aware := r.openWith(r.aware())
				r.echo(aware, "hi")
				_, err := client.Dial(t.Context(), r.url, r.options())
				wantOutdated(t, err)
				for range 5 {
					began := time.Now()
					r.echo(aware, "still here")
					if took := time.Since(began); took > 5*time.Second {
						t.Errorf("an echo took %s", took)
					}
					time.Sleep(time.Minute)
				}
			})
		})
	}
}

// Where the older layout can be had, one of two hosts that says otherwise closes nobody.
func TestOneBadHostWithTheOlderLayout(t *testing.T) {
	t.Parallel()
	missing := func(q *http.Request) (*http.Response, error) {
		q.Body.Close()
		return &http.Response{StatusCode: 404, Header: http.Header{}, Body: http.NoBody, Request: q}, nil
	}
	for name, answer := range map[string]func(t *testing.T) func(*http.Request) (*http.Response, error){
		"garbage":                    func(*testing.T) func(*http.Request) (*http.Response, error) { return garbage },
		"missing":                    func(*testing.T) func(*http.Request) (*http.Response, error) { return missing },
		"the root subnet's own word": ofRootSubnet,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rigOptions{network: localnet.Options{ShardedOnly: true}, config: func(c *relay.Config) {
				twoNodes(c)
				c.Transport = olderReadState{c.Transport, "lying.test", answer(t)}
			}}, func(t *testing.T, r *rig) {
				c := r.open()
				for range 5 {
					r.echo(c, "hi")
					time.Sleep(5 * time.Minute)
				}
			})
		})
	}
}

// Who looks for the older layout again holds no messages up.
func TestLookingForTheOlderLayoutHoldsNothingUp(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		network localnet.Options
		options func(*rig) client.Options
	}{
		{"none before", localnet.Options{V3Only: true}, (*rig).aware},
		{"one before", localnet.Options{ShardedOnly: true}, (*rig).options},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, rigOptions{network: tt.network}, func(t *testing.T, r *rig) {
				c := r.openWith(tt.options(r))
				r.echo(c, "hi")
				r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
					if q.Endpoint == "read_state" {
						f.Delay = time.Hour
					}
					return f
				})
				for range 30 {
					time.Sleep(30 * time.Second)
					began := time.Now()
					r.echo(c, "still here")
					if took := time.Since(began); took > 2*time.Second {
						t.Errorf("an echo took %s", took)
					}
				}
			})
		})
	}
}
