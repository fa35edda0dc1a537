package relay_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// The SDK waits 60 s for its session to open and then closes without knowing why. Before that, the gateway says what it
// knows: soon if the IC says so itself, later if that may pass. The canister may have been polled before, or not.
func TestOpeningThatCannotWorkIsExplained(t *testing.T) {
	drop := func(endpoint string) localnet.Faults {
		return func(q *localnet.Request) localnet.Fault { return localnet.Fault{Drop: q.Endpoint == endpoint} }
	}
	for _, tc := range []struct {
		name   string
		do     func(r *rig)
		within time.Duration
		code   int
		text   string
	}{
		{"stopped", func(r *rig) { r.network.Stop(r.canister) }, 15 * time.Second, 1013, "stopped"},
		{"stopping", func(r *rig) { r.network.Stopping(r.canister) }, 15 * time.Second, 1013, "stopping"},
		{"out of cycles", func(r *rig) { r.network.OutOfCycles(r.canister, true) }, 15 * time.Second, 1013, "cycles"},
		{"no module", func(r *rig) { r.network.Uninstall(r.canister) }, 15 * time.Second, 1013, "module"},
		{"deleted", func(r *rig) { r.network.Delete(r.canister) }, 15 * time.Second, 1011, "does not exist"},
		{"network down", func(r *rig) {
			r.network.SetFaults(func(*localnet.Request) localnet.Fault { return localnet.Fault{Drop: true} })
		}, 58 * time.Second, 1012, "cannot be reached"},
		{"no calls", func(r *rig) { r.network.SetFaults(drop("call")) }, 58 * time.Second, 1012, "cannot be reached"},
		{"no polls", func(r *rig) { r.network.SetFaults(drop("query")) }, 58 * time.Second, 1012, "cannot be reached"},
		{"calls that hang", func(r *rig) {
			r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
				if q.Endpoint == "call" {
					f.Delay = time.Hour
				}
				return f
			})
		}, 58 * time.Second, 1012, ""},
	} {
		for _, polled := range []bool{false, true} {
			name := tc.name
			if polled {
				name += ", polled before"
			}
			t.Run(name, func(t *testing.T) {
				inBubble(t, rigOptions{policy: func(p *relay.Policy) { p.AnyCanister = true }}, func(t *testing.T, r *rig) {
					if polled {
						r.echo(r.open(), "before")
					}
					tc.do(r)
					began := time.Now()
					_, err := client.Dial(t.Context(), r.url, r.options())
					took := time.Since(began)
					var ce *client.CloseError
					if !errors.As(err, &ce) || ce.Local || ce.Code != tc.code || !strings.Contains(ce.Text, tc.text) {
						t.Errorf("after %s: %v, want %d and %q", took, err, tc.code, tc.text)
					} else if took > tc.within {
						t.Errorf("%v only after %s", err, took)
					}
				})
			})
		}
	}
}
