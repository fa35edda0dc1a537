//go:build e2e

package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/examples/internal/chromium"
)

// TestFirstClient does what the quickstart says, word for word: the commands that it prints run the smallest client in Node.js and
// build its page, which is at the address that it prints.
func TestFirstClient(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := child(t, "-port", "0")
	cmd.Dir = "../.."
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	said := bufio.NewScanner(stdout)
	line := func(prefix string) string {
		for said.Scan() {
			if line := strings.TrimSpace(said.Text()); strings.HasPrefix(line, prefix) {
				return line
			}
		}
		t.Fatalf("the quickstart has no line %s...", prefix)
		return ""
	}
	install, node, build, url := line("npm ci "), line("NODE_EXTRA_CA_CERTS="), line("npm run page "), line("https://localhost:")
	go func() {
		for said.Scan() { // nothing may hold the program up
		}
	}()
	try := func(line string) (string, error) {
		sh := exec.CommandContext(ctx, "sh", "-ec", line)
		sh.Dir, sh.Env = "../..", os.Environ()
		out, err := sh.CombinedOutput()
		return string(out), err
	}
	run := func(line string) string {
		out, err := try(line)
		if err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
		return out
	}
	run(install)
	if out := run(node); !strings.HasPrefix(out, "open\nthe canister says \"ping\"\nthe canister says \"hello-pong\"\nclosed: 1000") {
		t.Errorf("%s:\n%s", node, out)
	}
	words := strings.Fields(node) // its last three are gateway, canister and network
	words[len(words)-2] = "aaaaa-aa"
	if out, err := try(strings.Join(words, " ")); err == nil || !strings.HasPrefix(out, "closed: 1008 ") {
		t.Errorf("another canister: %v\n%s", err, out)
	}
	words[len(words)-2] = "nonsense"
	if out, err := try(strings.Join(words, " ")); err == nil || strings.Count(out, "\n") != 1 || !strings.Contains(out, "nonsense") {
		t.Errorf("no canister: %v\n%s", err, out)
	}
	run(build)
	rootCert, _, _ := strings.Cut(strings.TrimPrefix(node, "NODE_EXTRA_CA_CERTS="), " ")
	chromium.Run(t, "../first/page.test.mjs", 4, rootCert, "ICWS_PAGE="+url, fmt.Sprintf("ICWS_NOBODY=wss://localhost:%d/ws", freeport.ForTest(t)))
}
