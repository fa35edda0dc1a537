package site

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/icws-gateway/caddy-icws/examples/caddylog"
)

// childVariable makes the test binary run a site at the port that it names, until its standard input ends.
const childVariable = "ICWS_SITE_CHILD"

func page(port int) string {
	return fmt.Sprintf("https://localhost:%d {\n\tbind 127.0.0.1\n\trespond hello\n}\n", port)
}

func TestMain(m *testing.M) {
	if port, err := strconv.Atoi(os.Getenv(childVariable)); err == nil {
		if _, err := Run(context.Background(), Options{Dir: os.Getenv("HOME"), Port: port, Caddyfile: page(port)}); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("ready")
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(caddylog.Run(m))
}

// Two sites that claimed a port at the same moment would answer each other's clients.
func TestSharedPort(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Log("ports are not shared on Windows")
		return
	}
	caddylog.Watch(t)
	port, err := ClaimPort(0)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	other := exec.CommandContext(t.Context(), exe)
	other.Env = append(os.Environ(), fmt.Sprintf("%s=%d", childVariable, port), "HOME="+t.TempDir())
	other.Stderr = os.Stderr
	stdin, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Wait()
	defer stdin.Close()
	said := make([]byte, len("ready"))
	if _, err := io.ReadFull(stdout, said); err != nil || string(said) != "ready" {
		t.Fatalf("the other site says %q, %v", said, err)
	}
	_, err = Run(t.Context(), Options{Dir: t.TempDir(), Port: port, Caddyfile: page(port)})
	if err == nil || !strings.Contains(err.Error(), "shared with another process") {
		t.Errorf("a second site on port %d: %v", port, err)
		if err == nil {
			Stop()
		}
	}
	if _, err := ClaimPort(port); err == nil || !strings.Contains(err.Error(), "is taken") {
		t.Errorf("claiming the port: %v", err)
	}
}
