package relay_test

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// Where clients wait for a rate that is set too low, the log says which, and how much would do.
func TestWaitsForTheRateAreTold(t *testing.T) {
	for _, tt := range []struct {
		name      string
		call, all float64
		told      string
	}{
		{"calls", 2, 1e6, "upstream_call_rate"},
		{"readings", 1e6, 0.5, "upstream_rate"},
		{"neither", 1e6, 1e6, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, rigOptions{config: func(c *relay.Config) { c.UpstreamCallRate, c.UpstreamRate = tt.call, tt.all }}, func(t *testing.T, r *rig) {
				clients := make([]*client.Client, 10)
				for i := range clients {
					clients[i] = r.open()
				}
				for round := range 3 {
					for _, c := range clients {
						r.echo(c, fmt.Sprint(round))
					}
					if err := clients[0].Send(t.Context(), []byte("one more")); err != nil {
						t.Fatal(err)
					}
					for _, c := range clients[1:] {
						if err := c.Send(t.Context(), []byte("all at once")); err != nil {
							t.Fatal(err)
						}
					}
					for _, c := range clients {
						if _, err := c.Receive(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
				}
				time.Sleep(time.Minute)
				told := 0
				for _, setting := range []string{"upstream_call_rate", "upstream_rate"} {
					lines := r.logs.FilterMessageSnippet("messages of clients wait for " + setting + ":").All()
					if (len(lines) > 0) != (setting == tt.told) {
						t.Errorf("%d lines about %s", len(lines), setting)
					}
					for _, l := range lines {
						told++
						fields := l.ContextMap()
						if l.Level != zapcore.WarnLevel || fields[setting] != min(tt.call, tt.all) || fields["raise_to"].(float64) < 2*min(tt.call, tt.all) || fields["raise_to"].(float64) > 100 {
							t.Errorf("%s: %v", l.Level, fields)
						}
					}
				}
				if told > 5 {
					t.Errorf("told %d times", told)
				}
			})
		})
	}
}
