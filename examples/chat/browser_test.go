//go:build e2e

package main

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/internal/chromium"
)

// TestBrowser has two people chat in a real Chromium, with the built-in canister
// and with the one compiled from the published CDK.
func TestBrowser(t *testing.T) {
	for name, wasm := range map[string]string{
		"built-in canister":  "",
		"published Rust CDK": "../canisters/rust/target/wasm32-unknown-unknown/release/chat.wasm",
	} {
		t.Run(name, func(t *testing.T) { testBrowser(t, wasm) })
	}
}

func testBrowser(t *testing.T, wasm string) {
	ctx, cancel := context.WithCancel(t.Context())
	type address struct{ url, rootCert string }
	ready, ended := make(chan address, 1), make(chan error, 1)
	go func() {
		// The blocks are so long that the calls of several reloads are in one, where their order is not the one in which they came.
		o := options{web: "web", canister: wasm, login: true, latency: 2 * time.Second, block: 2 * time.Second, data: t.TempDir()}
		ended <- run(ctx, o, func(url, rootCert string) { ready <- address{url, rootCert} })
	}()
	var at address
	select {
	case at = <-ready:
	case err := <-ended:
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})

	chromium.Run(t, "web/browser.test.mjs", 10, at.rootCert, "ICWS_CHAT="+at.url, "ICWS_SHOTS="+os.Getenv("ICWS_SHOTS"))
}
