//go:build e2e

package main

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestFirstClient does what the quickstart says, word for word: the commands that it prints run the smallest client.
func TestFirstClient(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := child(t, "-port", "0", "-latency", "50ms")
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
	var commands []string
	lines := bufio.NewScanner(stdout)
	for len(commands) < 2 && lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); strings.HasPrefix(line, "npm ") || strings.HasPrefix(line, "NODE_EXTRA_CA_CERTS=") {
			commands = append(commands, line)
		}
	}
	go func() {
		for lines.Scan() { // nothing may hold the program up
		}
	}()
	var out []byte
	for _, line := range commands {
		sh := exec.CommandContext(ctx, "sh", "-ec", line)
		sh.Dir, sh.Env = "../..", os.Environ()
		if out, err = sh.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
	want := "open\nthe canister says \"ping\"\nthe canister says \"hello-pong\"\nclosed: "
	if len(commands) != 2 || !strings.HasPrefix(string(out), want) {
		t.Errorf("%q\n%s", commands, out)
	}
}
