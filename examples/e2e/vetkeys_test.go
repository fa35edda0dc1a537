//go:build e2e

package e2e

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

// vetKeysStack is what the tests in vetkeys.test.mjs are told in ICWS_E2E.
type vetKeysStack struct {
	Network   string `json:"network"`   // URL of the local network
	Canister  string `json:"canister"`  // hands its calls of vetKD on
	MasterKey string `json:"masterKey"` // of the network, in hexadecimal
}

// TestVetKeys runs the tests of vetkeys.test.mjs, each as a subtest.
func TestVetKeys(t *testing.T) {
	installNodeModules(t, ".")
	network, boundary := localNetwork(t, localnet.Options{Latency: 200 * time.Millisecond})
	s := vetKeysStack{Network: boundary, Canister: network.Install(keyAsker{}).String(), MasterKey: hex.EncodeToString(network.VetKDPublicKey("test_key_1"))}
	runNodeTests(t, ".", "vetkeys.test.mjs", s, "")
}

// keyAsker is a canister that hands its calls on to the management canister and pays for them.
type keyAsker struct{}

func (keyAsker) Init(*localnet.Env) error { return nil }

func (keyAsker) Update(env *localnet.Env, method string, arg []byte) ([]byte, error) {
	answer := env.AnswerLater()
	call := localnet.Call{Method: method, Arg: bytes.Clone(arg), Cycles: 10_000_000_000}
	env.Call(call, func(_ *localnet.Env, reply []byte, reject *localnet.Reject) error {
		answer(reply, reject)
		return nil
	})
	return nil, nil
}

func (keyAsker) Query(*localnet.Env, string, []byte) ([]byte, error) {
	return nil, localnet.ErrNoMethod
}
