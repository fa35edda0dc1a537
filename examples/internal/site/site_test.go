package site

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
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
	if said := child(t, port); said != "ready" {
		t.Fatalf("the first site says %q", said)
	}
	if said := child(t, port); !strings.Contains(said, "shared with another process") {
		t.Errorf("a second site on port %d says %q", port, said)
	}
	if _, err := ClaimPort(port); err == nil || !strings.Contains(err.Error(), "is taken") {
		t.Errorf("claiming the port: %v", err)
	}
}

// A site that is interrupted while it starts leaves nobody behind who writes to its directory.
func TestInterruptedRun(t *testing.T) {
	caddylog.Watch(t)
	port, err := ClaimPort(0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	dir := t.TempDir()
	if _, err := Run(ctx, Options{Dir: dir, Port: port, Caddyfile: page(port)}); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	var files []string
	if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			files = append(files, e.Name())
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	want := []string{"intermediate.crt", "intermediate.key", "localhost.crt", "localhost.json", "localhost.key", "root.crt", "root.key"}
	if !slices.Equal(files, want) {
		t.Errorf("the directory has %q, want %q", files, want)
	}
}

// child runs a site in a process of its own until the test ends, and returns the first line that it says. Nobody writes to
// its directory after that: Caddy obtains certificates in the background, also while it stops.
func child(t *testing.T, port int) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	site := exec.CommandContext(t.Context(), exe)
	site.Env = append(os.Environ(), fmt.Sprintf("%s=%d", childVariable, port), "HOME="+t.TempDir())
	site.Stderr = os.Stderr
	stdin, err := site.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := site.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := site.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		site.Wait()
	})
	said, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("a site says %q, %v", said, err)
	}
	return strings.TrimSuffix(said, "\n")
}
