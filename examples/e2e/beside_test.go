//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestSDKBesideCore runs the lines of README for the unmodified SDK beside @icp-sdk/core: npm installs the packages, and the canister
// sees the person who has logged in.
func TestSDKBesideCore(t *testing.T) {
	network, s, rootCert := pairsStack(t)
	s.Control = newControls(t, network).url
	addresses, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, core := range []string{"5.4.0", "6.1.0"} {
		t.Run(core, func(t *testing.T) {
			(&sdkPair{SDK: "0.5.0", Core: core}).installs(t, "@dfinity/identity@2.4.1")
			cmd := exec.CommandContext(t.Context(), "node", "beside.mjs", "core-"+core)
			cmd.Env = append(os.Environ(), "ICWS_E2E="+string(addresses), "NODE_EXTRA_CA_CERTS="+rootCert)
			var stderr strings.Builder
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			var got struct {
				Code          int
				Heard, Errors []string
				Same          bool // the session is that of the login
			}
			if err != nil || json.Unmarshal(out, &got) != nil {
				t.Fatalf("%v\n%s\n%s", err, out, &stderr)
			}
			if got.Code != 1000 || !slices.Equal(got.Heard, []string{"ping", "hello-pong"}) || len(got.Errors) > 0 || !got.Same {
				t.Errorf("%s\n%s", out, &stderr)
			}
		})
	}
}
