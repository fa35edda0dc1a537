package relay_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// Version 2 of call refuses with status 200 and a map that has no status key. The client is told what is wrong all the same.
func TestRefusalsOfTheOldestCall(t *testing.T) {
	t.Parallel()
	recorded, err := os.ReadFile("../verify/testdata/recorded/derived-call-v2-rejection.bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		do   func(r *rig)
		code int
		text string
	}{
		{"recorded", func(r *rig) {
			r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
				if q.Endpoint == "call" && q.Version == "v2" {
					f.Status, f.Body = 200, recorded
				}
				return f
			})
		}, 1011, "canister rejected: x"},
		{"stopped", func(r *rig) { r.network.Stop(r.canister) }, 1013, "stopped"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, rigOptions{network: localnet.Options{V2Only: true}}, func(t *testing.T, r *rig) {
				tt.do(r)
				_, err := client.Dial(t.Context(), r.url, r.options())
				if ce := new(client.CloseError); !errors.As(err, &ce) || ce.Code != tt.code || !strings.Contains(ce.Text, tt.text) {
					t.Errorf("closed with %v, want %d and %q", err, tt.code, tt.text)
				}
			})
		})
	}
}
