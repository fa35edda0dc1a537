//go:build e2e

package room

import (
	"os"
	"testing"

	"github.com/icws-gateway/caddy-icws/examples/canisters/ic0"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

const wasm = "../canister/target/wasm32-unknown-unknown/release/private_chat.wasm"

// The compiled canister, with the published CDK in it.
func init() {
	kinds["rust"] = func(t *testing.T) localnet.Canister {
		module, err := os.ReadFile(wasm)
		if err != nil {
			t.Fatalf("%v: run `cargo build --release --target wasm32-unknown-unknown` in examples/private-chat/canister", err)
		}
		c, err := ic0.Load(module)
		if err != nil {
			t.Fatal(err)
		}
		c.Print = func(line string) { t.Log(line) }
		t.Cleanup(func() { c.Close() })
		return c
	}
}
