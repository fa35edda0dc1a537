//go:build e2e

package main

import (
	"os"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/internal/chromium"
)

// kinds are the canisters that the tests run against: the Go value and the compiled one, with the published CDK in it.
var kinds = map[string]string{"go": "", "rust": "canister/target/wasm32-unknown-unknown/release/private_chat.wasm"}

// TestRefused has members of rooms refuse what is not right, with the modules of the page in Node.js.
func TestRefused(t *testing.T) {
	for kind, wasm := range kinds {
		t.Run(kind, func(t *testing.T) {
			at, _ := start(t, options{web: "web", canister: wasm, latency: 100 * time.Millisecond})
			chromium.Node(t, "web/test/refused.test.mjs", 10, "ICWS_SITE="+at.url, "NODE_EXTRA_CA_CERTS="+at.rootCert)
		})
	}
}

// TestPage has people use the page in a real Chromium, in one window and in two.
func TestPage(t *testing.T) {
	for kind, wasm := range kinds {
		t.Run(kind, func(t *testing.T) {
			at, _ := start(t, options{web: "web", canister: wasm, latency: 300 * time.Millisecond})
			chromium.Run(t, "web/test/browser.test.mjs", 5, at.rootCert, "ICWS_SITE="+at.url, "ICWS_SHOTS="+os.Getenv("ICWS_SHOTS"))
		})
	}
}
