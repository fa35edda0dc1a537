//go:build e2e

package e2e

import (
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

// stack is what the tests in sdk.test.mjs are told in ICWS_E2E.
type stack struct {
	Gateway    string `json:"gateway"`  // wss URL of the handler
	Network    string `json:"network"`  // URL of the local network
	Control    string `json:"control"`  // URL of controls
	Canister   string `json:"canister"` // answers texts with the text and "-pong"
	Greeter    string `json:"greeter"`  // says "ping" first
	Eager      string `json:"eager"`    // acknowledges every eagerInterval
	EagerMS    int64  `json:"eagerMs"`
	NotAllowed string `json:"notAllowed"` // runs, but the gateway does not name it
}

// eagerInterval is how often an eager canister acknowledges. The CDK wants at least a minute; its rules are the same at any length.
const eagerInterval = 9 * time.Second

// eager acknowledges more than once within a test, and waits for keep-alives long enough for a busy machine.
func eager() localnet.CDKOptions {
	return localnet.CDKOptions{App: localnet.PingPong{Quiet: true}, AckInterval: eagerInterval, KeepAliveTimeout: eagerInterval - time.Second}
}

// TestSDK runs the tests of sdk.test.mjs, each as a subtest.
func TestSDK(t *testing.T) {
	installNodeModules(t, ".")
	network, boundary := localNetwork(t, localnet.Options{Latency: 200 * time.Millisecond})
	c := newControls(t, network)
	network.SetFaults(c.count)
	s := stack{
		Network:    boundary,
		Control:    c.url,
		Canister:   c.install(localnet.CDKOptions{App: localnet.PingPong{Quiet: true}}),
		Greeter:    c.install(localnet.CDKOptions{App: localnet.PingPong{}}),
		NotAllowed: c.install(localnet.CDKOptions{}),
		Eager:      c.install(eager()),
		EagerMS:    eagerInterval.Milliseconds(),
	}
	var rootCert string
	s.Gateway, rootCert = serve(t, network, boundary, s.Canister, s.Greeter, s.Eager)
	runNodeTests(t, ".", "sdk.test.mjs", s, rootCert)
}
