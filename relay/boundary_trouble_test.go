package relay_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// What boundary nodes, the HTTP gateway and what stands before them answer when something is wrong there. A session that is
// open and one that opens wait for the end of it, unless the canister is what is wrong: then both are told. That there is no such
// canister may be a routing table that is late: then the one that opens is told after a while, and the open ones after
// outage_timeout.
func TestBoundaryTrouble(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fault localnet.Fault
		told  string        // for good; empty = it passes
		opens time.Duration // how long it must last for the session that opens to be told, give or take a pause between attempts
		open  time.Duration // and for the open ones
	}{
		{"503 no_healthy_nodes", localnet.Fault{Status: 503, Cause: "no_healthy_nodes"}, "", 0, 0},
		{"503 body no_healthy_nodes", localnet.Fault{Status: 503, Body: []byte("error: no_healthy_nodes\ndetails: x")}, "", 0, 0},
		{"503 of a replica", localnet.Fault{Status: 503, Body: []byte("Certified state unavailable. Please try again.")}, "", 0, 0},
		{"429", localnet.Fault{Status: 429, Cause: "rate_limited"}, "", 0, 0},
		{"403", localnet.Fault{Status: 403, Body: []byte("error: forbidden\ndetails: it might work later.")}, "", 0, 0},
		{"404", localnet.Fault{Status: 404, Body: []byte("Not Found")}, "", 0, 0},
		{"405", localnet.Fault{Status: 405}, "", 0, 0},
		{"421", localnet.Fault{Status: 421}, "", 0, 0},
		{"400 of a proxy", localnet.Fault{Status: 400, Body: []byte("<html>bad request</html>")}, "", 0, 0},
		{"403 of a firewall", localnet.Fault{Status: 403, Body: []byte("<html>blocked</html>")}, "", 0, 0},
		{"451 of a proxy", localnet.Fault{Status: 451}, "", 0, 0},
		{"502 html", localnet.Fault{Status: 502, Body: []byte("<html>bad gateway</html>")}, "", 0, 0},
		{"525 of a proxy", localnet.Fault{Status: 525}, "", 0, 0},
		{"400 canister_not_found", localnet.Fault{Status: 400, Cause: "canister_not_found"}, "does not exist", 10 * time.Second, 2 * time.Minute},
		{"400 body canister_not_found", localnet.Fault{Status: 400, Body: []byte("error: canister_not_found\ndetails: The specified canister does not exist.")}, "does not exist", 10 * time.Second, 2 * time.Minute},
		{"400 body subnet_not_found", localnet.Fault{Status: 400, Body: []byte("error: subnet_not_found\ndetails: The specified subnet cannot be found.")}, "does not exist", 10 * time.Second, 2 * time.Minute},
		{"451", localnet.Fault{Status: 451, Body: []byte(`{"error_type":"denylisted","description":"x","details":null}`)}, "denylisted", 10 * time.Second, 10 * time.Second},
	} {
		for _, lasts := range []time.Duration{3 * time.Second, 8 * time.Second, 30 * time.Second, 3 * time.Minute} {
			t.Run(tt.name+" for "+lasts.String(), func(t *testing.T) {
				inBubble(t, rigOptions{network: localnet.Options{Latency: time.Second}}, func(t *testing.T, r *rig) {
					idle, busy := r.open(), r.open()
					r.echo(idle, "before")
					r.network.SetFaults(func(*localnet.Request) localnet.Fault { return tt.fault })
					time.AfterFunc(lasts, func() { r.network.SetFaults(nil) })
					if err := busy.Send(t.Context(), []byte("meanwhile")); err != nil {
						t.Fatal(err)
					}
					o := r.options()
					o.OpenTimeout = 10 * time.Minute
					opening, err := client.Dial(t.Context(), r.url, o)
					ce := new(client.CloseError)
					switch {
					case err == nil && (tt.told == "" && lasts <= 30*time.Second || lasts < tt.opens):
						r.echo(opening, "hi")
						opening.Close()
					case errors.As(err, &ce) && ce.Code == 1012 && tt.told == "" && lasts > 30*time.Second: // longer than clients wait
					case errors.As(err, &ce) && ce.Code == 1011 && strings.Contains(ce.Text, tt.told) && tt.told != "" && lasts > tt.opens/2:
					default:
						t.Errorf("a session that opens: %v", err)
					}
					if tt.told == "" && lasts > 2*time.Minute {
						for _, c := range []*client.Client{idle, busy} {
							if ce := closeOf(t, c); ce.Code != 1012 {
								t.Errorf("an open session: %d %q, want 1012", ce.Code, ce.Text)
							}
						}
						return
					}
					if tt.told == "" || lasts < tt.open {
						if m, err := busy.Receive(t.Context()); err != nil || string(m.Payload) != "meanwhile" {
							t.Errorf("what was sent meanwhile: %q, %v", m.Payload, err)
						}
						r.echo(idle, "after")
						r.echo(busy, "after")
						return
					}
					for _, c := range []*client.Client{idle, busy} {
						if ce := closeOf(t, c); ce.Code != 1011 || !strings.Contains(ce.Text, tt.told) {
							t.Errorf("an open session: %d %q, want 1011 and %q", ce.Code, ce.Text, tt.told)
						}
					}
				})
			})
		}
	}
}
