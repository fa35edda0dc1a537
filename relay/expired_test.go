package relay_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
)

// An envelope that expired in the gateway, on a network that is well, is not told as an outage of the Internet Computer. What it
// waited for is named: the gateway's own limit of requests, or the client's own earlier messages.
func TestEnvelopeThatExpiredInTheGateway(t *testing.T) {
	t.Parallel()
	limited := func(c *relay.Config) { c.UpstreamCallRate = 0.1 } // one in ten seconds
	limitedTwo := func(c *relay.Config) { twoHosts(c); limited(c) }
	for _, tt := range []struct {
		name     string
		options  rigOptions
		expiries []time.Duration // of the client's messages
		text     string
	}{
		{"limit of requests", rigOptions{config: limited}, []time.Duration{3 * time.Second}, "more requests than it may make"},
		{"limit of requests, two hosts", rigOptions{config: limitedTwo}, []time.Duration{3 * time.Second}, "more requests than it may make"},
		{"earlier messages", rigOptions{network: localnet.Options{Latency: 9 * time.Second}},
			[]time.Duration{time.Minute, 3 * time.Second, 3 * time.Second}, "expired behind the client's earlier messages"},
		{"earlier messages, on a connection that was not read", rigOptions{network: localnet.Options{Latency: 9 * time.Second}},
			append(slices.Repeat([]time.Duration{4 * time.Minute}, 33), 3*time.Second, 3*time.Second), "expired behind the client's earlier messages"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, tt.options, func(t *testing.T, r *rig) {
				raw := r.openRaw()
				for i, expiry := range tt.expiries {
					frame, err := raw.Composer().Message(uint64(i+1), false, fmt.Append(nil, i), time.Now().Add(expiry))
					if err != nil {
						t.Fatal(err)
					}
					if err := raw.Write(t.Context(), websocket.BinaryMessage, frame); err != nil {
						t.Fatal(err)
					}
				}
				if ce := readClose(t, raw); ce.Code != 1013 || !strings.Contains(ce.Text, tt.text) {
					t.Errorf("closed with %d %q, want 1013 and %q", ce.Code, ce.Text, tt.text)
				}
			})
		})
	}
}
