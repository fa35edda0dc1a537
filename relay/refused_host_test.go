package relay_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// ways in which a host gives no answer, and how soon its requests fail then.
var deaths = map[string]struct {
	fault localnet.Fault
	after time.Duration
}{
	"refuses connections": {localnet.Fault{Drop: true}, 0},
	"answers 502":         {localnet.Fault{Status: 502}, 0},
	"is busy":             {localnet.Fault{Status: 429}, 0},
	"hangs":               {localnet.Fault{Delay: time.Hour}, 20 * time.Second},
}

// Where a firewall admits one host only, or the others are dead, its refusal of an envelope is told within seconds of the
// failure of the others, with its reason, and not as an unknown outcome when the envelope has expired.
func TestRefusalOfTheOnlyHostThatAnswers(t *testing.T) {
	t.Parallel()
	for name, death := range deaths {
		for _, open := range []bool{false, true} {
			t.Run(fmt.Sprintf("the other %s, ws_open %v", name, open), func(t *testing.T) {
				inBubble(t, rigOptions{config: twoNodes}, func(t *testing.T, r *rig) {
					c := r.open()
					r.echo(c, "hi")
					r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
						if q.Endpoint == "call" && q.Boundary == "http://lying.test" {
							return death.fault
						}
						if q.Endpoint == "call" {
							f.Status, f.Cause = 400, "malformed_request"
						}
						return f
					})
					began := time.Now()
					ce := new(client.CloseError)
					if open {
						if _, err := client.Dial(t.Context(), r.url, r.options()); !errors.As(err, &ce) {
							t.Fatal(err)
						}
					} else {
						if err := c.Send(t.Context(), []byte("x")); err != nil {
							t.Fatal(err)
						}
						ce = closeOf(t, c)
					}
					// A host that hangs is unknown to have passed the envelope on, so nobody can say that it was refused.
					want := "the IC refused it"
					if death.after > 0 {
						want = ""
					}
					if ce.Local || !strings.Contains(ce.Text, want) {
						t.Errorf("closed with %d %q, want %q", ce.Code, ce.Text, want)
					}
					if took, limit := time.Since(began), 10*time.Second+4*death.after; took > limit {
						t.Errorf("told after %s, want %s", took, limit)
					}
				})
			})
		}
	}
}

// A refusal by one host is one word, however often and however soon it comes, as long as another answers.
func TestRefusalOfOneHostOfTwo(t *testing.T) {
	t.Parallel()
	for _, cause := range []string{"malformed_request", "canister_not_found", "denylisted"} {
		t.Run(cause, func(t *testing.T) {
			inBubble(t, rigOptions{config: twoNodes}, func(t *testing.T, r *rig) {
				c := r.open()
				var refused atomic.Int64
				r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
					if q.Endpoint == "call" && q.Boundary == "http://lying.test" {
						refused.Add(1)
						f.Status, f.Cause = 400, cause
					}
					return f
				})
				for i := range 20 {
					r.echo(c, fmt.Sprint(i))
				}
				for range 5 {
					r.echo(r.open(), "a new one")
				}
				if refused.Load() == 0 {
					t.Error("nothing was refused: this shows nothing")
				}
			})
		})
	}
}

// For a while after a canister has moved to another subnet, boundary nodes say that it does not exist, and those that are late
// with the routing table ask the old subnet, which says so as well. To a canister whose pages were verified lately that is
// an outage: what clients send waits, and whoever sends nothing notices nothing. If it does not pass, it ends as one.
func TestMessagesWaitForLateRouting(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func() localnet.Fault{
		"no such canister": func() localnet.Fault {
			return localnet.Fault{Status: 400, Cause: "canister_not_found"}
		},
		"no such subnet": func() localnet.Fault {
			return localnet.Fault{Status: 400, Cause: "subnet_not_found"}
		},
		"no such canister on the old subnet": func() localnet.Fault {
			return localnet.Fault{Status: 200, Body: []byte("\xd9\xd9\xf7\xa4\x66status\x78\x18non_replicated_rejection" +
				"\x6breject_code\x03\x6ereject_message\x69not found\x6aerror_code\x66IC0301")}
		},
	} {
		for _, lasts := range []time.Duration{500 * time.Millisecond, 5 * time.Second, time.Minute, time.Hour} {
			for _, config := range []func(*relay.Config){nil, twoHosts} {
				t.Run(fmt.Sprintf("%s for %s, two hosts %v", name, lasts, config != nil), func(t *testing.T) {
					inBubble(t, rigOptions{network: localnet.Options{Latency: time.Second}, config: config}, func(t *testing.T, r *rig) {
						var all []*client.Client
						for range 3 {
							c := r.open()
							r.echo(c, "before")
							all = append(all, c)
						}
						began := time.Now()
						r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
							if q.Endpoint == "call" && time.Since(began) < lasts {
								return fault()
							}
							return localnet.Fault{}
						})
						if lasts < time.Hour {
							for _, c := range all {
								r.echo(c, "during")
							}
							return
						}
						if err := all[0].Send(t.Context(), []byte("x")); err != nil {
							t.Fatal(err)
						}
						ce := closeOf(t, all[0])
						if ce.Code != 1011 || !strings.Contains(ce.Text, "does not exist") {
							t.Errorf("closed with %d %q", ce.Code, ce.Text)
						}
						if took := time.Since(began); took < relay.DefaultOutageTimeout || took > relay.DefaultOutageTimeout+15*time.Second {
							t.Errorf("told after %s, want %s", took, relay.DefaultOutageTimeout)
						}
					})
				})
			}
		}
	}
}
