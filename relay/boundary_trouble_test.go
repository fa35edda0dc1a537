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
// open and one that opens wait for the end of it, unless the canister is what is wrong: then both are told, the open one
// once that has been said for so long that it is no routing table that is late.
func TestBoundaryTrouble(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault localnet.Fault
		told  string // for good; empty = it passes
	}{
		{"503 no_healthy_nodes", localnet.Fault{Status: 503, Cause: "no_healthy_nodes"}, ""},
		{"503 body no_healthy_nodes", localnet.Fault{Status: 503, Body: []byte("error: no_healthy_nodes\ndetails: x")}, ""},
		{"503 of a replica", localnet.Fault{Status: 503, Body: []byte("Certified state unavailable. Please try again.")}, ""},
		{"429", localnet.Fault{Status: 429, Cause: "rate_limited"}, ""},
		{"403", localnet.Fault{Status: 403, Body: []byte("error: forbidden\ndetails: it might work later.")}, ""},
		{"404", localnet.Fault{Status: 404, Body: []byte("Not Found")}, ""},
		{"405", localnet.Fault{Status: 405}, ""},
		{"421", localnet.Fault{Status: 421}, ""},
		{"502 html", localnet.Fault{Status: 502, Body: []byte("<html>bad gateway</html>")}, ""},
		{"525 of a proxy", localnet.Fault{Status: 525}, ""},
		{"400 canister_not_found", localnet.Fault{Status: 400, Cause: "canister_not_found"}, "does not exist"},
		{"400 body canister_not_found", localnet.Fault{Status: 400, Body: []byte("error: canister_not_found\ndetails: The specified canister does not exist.")}, "does not exist"},
		{"400 body subnet_not_found", localnet.Fault{Status: 400, Body: []byte("error: subnet_not_found\ndetails: The specified subnet cannot be found.")}, "does not exist"},
		{"451", localnet.Fault{Status: 451, Body: []byte(`{"error_type":"denylisted","description":"x","details":null}`)}, "denylisted"},
	} {
		for _, lasts := range []time.Duration{8 * time.Second, 30 * time.Second} {
			t.Run(tt.name+" for "+lasts.String(), func(t *testing.T) {
				inBubble(t, rigOptions{network: localnet.Options{Latency: time.Second}}, func(t *testing.T, r *rig) {
					idle, busy := r.open(), r.open()
					r.echo(idle, "before")
					r.network.SetFaults(func(*localnet.Request) localnet.Fault { return tt.fault })
					time.AfterFunc(lasts, func() { r.network.SetFaults(nil) })
					if err := busy.Send(t.Context(), []byte("meanwhile")); err != nil {
						t.Fatal(err)
					}
					opening, err := client.Dial(t.Context(), r.url, r.options())
					if tt.told == "" {
						if err != nil {
							t.Fatalf("a session that opens: %v", err)
						}
						r.echo(opening, "hi")
						opening.Close()
					} else if ce := new(client.CloseError); !errors.As(err, &ce) || ce.Code != 1011 || !strings.Contains(ce.Text, tt.told) {
						t.Errorf("a session that opens: %v, want 1011 and %q", err, tt.told)
					}
					if tt.told == "" || lasts < 10*time.Second {
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
