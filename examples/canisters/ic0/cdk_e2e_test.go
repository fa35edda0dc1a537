//go:build e2e

package ic0_test

import (
	"os"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/canisters/ic0"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

func TestPublishedCDK(t *testing.T) {
	wasm, err := os.ReadFile("../rust/target/wasm32-unknown-unknown/release/chat.wasm")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ic0.Load(wasm)
	if err != nil {
		t.Fatal(err)
	}
	c.Print = func(s string) { t.Log(s) }
	n, err := localnet.New(localnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	id := n.Install(c)
	t.Log(id)
	n.Advance(10 * time.Minute)
}
