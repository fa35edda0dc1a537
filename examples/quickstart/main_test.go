package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

// childVariable makes the test binary run the program itself, so that no second binary has to be built.
const childVariable = "ICWS_QUICKSTART_CHILD"

// unreadable is the value of childVariable for a network whose answers to polls cannot be read.
const unreadable = "unreadable"

func TestMain(m *testing.M) {
	if mode := os.Getenv(childVariable); mode != "" {
		if mode == unreadable {
			patience = 60 * time.Millisecond
			faults = func(q *localnet.Request) (f localnet.Fault) {
				if q.Endpoint == "query" {
					f.Edit = func([]byte) []byte { return []byte("\xd9\xd9\xf7\x80") }
				}
				return f
			}
		}
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child is the program as a child process with a temporary directory of its own.
func child(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), childVariable+"=1", "TMPDIR="+dir, "TMP="+dir, "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	return cmd
}

// The program prints verified messages until it is interrupted, then drains and ends with exit code 0, with nothing left
// in the temporary directory.
func TestQuickstart(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Log("interrupts cannot be sent to a child process on Windows; the rest is tested by TestPortTaken")
		return
	}
	cmd := child(t, "-port", "0", "-latency", "50ms", "-interval", "100ms")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer watchdog.Stop()

	var output strings.Builder
	var greeting, open, drained, told bool
	pongs := 0
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		line := lines.Text()
		output.WriteString(line + "\n")
		switch {
		case strings.HasPrefix(line, "-- session open in "):
			open = true
		case strings.HasPrefix(line, `<- "ping"   verified: message 2, certified `):
			greeting = true
		case strings.HasPrefix(line, `<- "hello `) && strings.Contains(line, `-pong"   verified: message `) && strings.Contains(line, "round trip "):
			if pongs++; pongs == 3 {
				if err := cmd.Process.Signal(os.Interrupt); err != nil {
					t.Fatal(err)
				}
			}
		case strings.HasPrefix(line, "-- session closed by the other side: 1001 "):
			told = true
		case line == "drained, bye":
			drained = true
		}
	}
	err = cmd.Wait()
	if err != nil || !open || !greeting || pongs < 3 || !told || !drained {
		t.Errorf("%v; opened %v, greeted %v, %d pongs, told to go %v, drained %v\n%s\n%s", err, open, greeting, pongs, told, drained, &output, &stderr)
	}
	nothingLeft(t, cmd)
}

// A network that writes what the gateway cannot read is told, with the error of the polls. When, is tested with package quiet.
func TestSilenceIsExplained(t *testing.T) {
	t.Parallel()
	cmd := child(t, "-port", "0", "-latency", "50ms")
	cmd.Env = append(cmd.Env, childVariable+"="+unreadable)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer watchdog.Stop()
	told := false
	for lines := bufio.NewScanner(stdout); !told && lines.Scan(); {
		line := lines.Text()
		told = strings.HasPrefix(line, "-- nothing arrives; the gateway's polls fail: 127.0.0.1:") && strings.Contains(line, "reading query answer")
	}
	if !told {
		t.Error("ended without a word about the polls")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// Until npm has made the page, its address says how to make it.
func TestPageIsNotThere(t *testing.T) {
	t.Parallel()
	cmd := child(t, "-port", "0")
	cmd.Dir = home(cmd) // no page in it
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer watchdog.Stop()
	var d demo
	var url string
	for lines := bufio.NewScanner(stdout); url == "" && lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if rest, ok := strings.CutPrefix(line, "NODE_EXTRA_CA_CERTS="); ok {
			d.rootCert, _, _ = strings.Cut(rest, " ")
		}
		if strings.HasPrefix(line, "https://localhost:") {
			url = line
		}
	}
	trusting, err := d.tls()
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: trusting}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusNotFound || !strings.Contains(string(body), "npm run page --prefix examples/first") {
		t.Errorf("%s: %d %q, %v", url, res.StatusCode, body, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// nothingLeft looks into what the child took for its home and its temporary directory.
func nothingLeft(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	left, err := os.ReadDir(home(cmd))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		t.Errorf("left behind: %s", e.Name())
	}
}

// home is the directory that child gave to cmd.
func home(cmd *exec.Cmd) string {
	for _, v := range slices.Backward(cmd.Env) { // the last one counts
		if dir, ok := strings.CutPrefix(v, "TMPDIR="); ok {
			return dir
		}
	}
	return ""
}

// Interrupted while it starts, the program ends with exit code 0 too, with nothing left.
func TestInterruptedStart(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Log("interrupts cannot be sent to a child process on Windows")
		return
	}
	for _, stage := range []string{"pki", "certificates"} { // of the storage, as Caddy makes them
		t.Run(stage, func(t *testing.T) {
			t.Parallel()
			cmd := child(t, "-port", "0")
			var output strings.Builder
			cmd.Stdout, cmd.Stderr = &output, &output
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			watchdog := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
			defer watchdog.Stop()
			for range 30_000 {
				if found, _ := filepath.Glob(filepath.Join(home(cmd), "icws-quickstart-*", stage)); len(found) > 0 {
					break
				}
				time.Sleep(time.Millisecond)
			}
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil || !strings.HasSuffix(output.String(), "drained, bye\n") {
				t.Errorf("ended with %v\n%s", err, &output)
			}
			nothingLeft(t, cmd)
		})
	}
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	out, err := child(t, "-port", port).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("ended with %v, want exit code 1", err)
	}
	if !strings.Contains(string(out), "port "+port+" is taken") || !strings.Contains(string(out), "choose another with -port") {
		t.Errorf("said %q", out)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-port", "x"}, {"surplus"}, {"-interval", "0s"}} {
		if out, err := child(t, args...).CombinedOutput(); err == nil || len(out) == 0 {
			t.Errorf("%q: %v, said %q", args, err, out)
		}
	}
}
