//go:build e2e

package e2e

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/examples/private-chat/room"
)

// privateStack is what the tests in private.test.mjs are told in ICWS_E2E.
type privateStack struct {
	Gateway   string            `json:"gateway"`
	Network   string            `json:"network"`
	MasterKey string            `json:"masterKey"` // of the network, in hexadecimal
	Canisters map[string]string `json:"canisters"` // the private chat, by what it is made of
}

// TestPrivateRooms runs the tests of private.test.mjs, each as a subtest.
func TestPrivateRooms(t *testing.T) {
	installNodeModules(t, ".")
	rust := compiled(t, "../private-chat/canister", "private_chat.wasm")
	network, boundary := localNetwork(t, localnet.Options{Latency: 200 * time.Millisecond})
	s := privateStack{
		Network: boundary, MasterKey: hex.EncodeToString(network.VetKDPublicKey(room.KeyName)),
		Canisters: map[string]string{"Go": network.Install(room.New()).String(), "Rust": network.Install(rust).String()},
	}
	var rootCert string
	s.Gateway, rootCert = serve(t, network, boundary, s.Canisters["Go"], s.Canisters["Rust"])
	runNodeTests(t, ".", "private.test.mjs", s, rootCert)
}
