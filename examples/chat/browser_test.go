//go:build e2e

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
		o := options{web: "web", canister: wasm, latency: 2 * time.Second, block: 2 * time.Second, data: t.TempDir()}
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

	inChromium(t, "browser.test.mjs", 7, at.rootCert, "ICWS_CHAT="+at.url, "ICWS_SHOTS="+os.Getenv("ICWS_SHOTS"))
}

// inChromium runs a file with that many tests of pages in a real Chromium, which trusts rootCert.
func inChromium(t *testing.T, file string, tests int, rootCert string, env ...string) {
	t.Helper()
	home := t.TempDir()
	trust(t, home, rootCert)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "--test", "--test-reporter=tap", file)
	cmd.Dir = "web"
	cmd.Env = append(append(os.Environ(), "HOME="+home), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("node: %v\n%s", err, out)
	}
	if !strings.Contains(string(out), fmt.Sprintf("# pass %d\n", tests)) || !strings.Contains(string(out), "# skipped 0\n") {
		t.Errorf("not all %d tests ran and passed\n%s", tests, out)
	}
}

// trust puts Caddy's root certificate into the database that Chromium reads, in
// a home directory of its own: the one certificate authority is trusted and
// nothing about verification is switched off.
func trust(t *testing.T, home, rootCert string) {
	t.Helper()
	db := filepath.Join(home, ".pki", "nssdb")
	if err := os.MkdirAll(db, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-N", "--empty-password", "-d", "sql:" + db},
		{"-A", "-d", "sql:" + db, "-n", "caddy", "-t", "C,,", "-i", rootCert},
	} {
		if out, err := exec.CommandContext(t.Context(), "certutil", args...).CombinedOutput(); err != nil {
			t.Fatalf("certutil: %v\n%s", err, out)
		}
	}
}
