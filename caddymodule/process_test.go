package caddymodule

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/caddylog"
	"github.com/icws-gateway/caddy-icws/examples/freeport"
)

// process is a caddy of its own process: the test binary in another role.
type process struct {
	*exec.Cmd
	admin string // URL
	dir   string
	log   string        // file
	done  chan struct{} // closed when it has ended
	err   error         // how
}

// text is everything that the process has said until now. It writes into a file and not through a pipe, so that nothing which it wrote before
// an answer is still on its way to the test after that.
func (p *process) text() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// caddyCommand is `caddy args...` with a home of its own.
func caddyCommand(ctx context.Context, dir string, env []string, args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), runCaddyEnv+"=1", "HOME="+dir,
		"XDG_DATA_HOME="+filepath.Join(dir, "data"), "XDG_CONFIG_HOME="+filepath.Join(dir, "config"))
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// runCaddy starts `caddy run` with a Caddyfile whose global options are the given ones and an admin endpoint, and waits
// until it is ready.
func runCaddy(t testing.TB, global, sites string, env ...string) *process {
	t.Helper()
	dir, port := t.TempDir(), freeport.ForTest(t)
	file := filepath.Join(dir, "Caddyfile")
	text := fmt.Sprintf("{\n\tadmin 127.0.0.1:%d\n\tskip_install_trust\n\t%s\n}\n%s", port, global, sites)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &process{admin: fmt.Sprintf("http://127.0.0.1:%d", port), dir: dir, log: filepath.Join(dir, "log"), done: make(chan struct{})}
	p.Cmd = caddyCommand(context.Background(), dir, env, "run", "--config", file)
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.Stdout, p.Stderr = log, log
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("log of the process:\n%s", caddylog.Excerpt(p.text()))
		}
	})
	eventually(t, "caddy to start", func() bool {
		if resp, err := http.Get(p.admin + "/config/"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK && strings.Contains(p.text(), "serving initial configuration") {
				return true
			}
		}
		select {
		case <-p.done:
			t.Fatalf("caddy ended at once: %v", p.err)
		default:
		}
		return false
	})
	return p
}

// logLine is a line of Caddy's log.
type logLine struct {
	Level, Logger, Msg, Gateway, Error, Remedy, Text string
	Status, Code                                     int
	ClientIP                                         string `json:"client_ip"`
	Canister                                         string `json:"canister_id"`
	ClientText                                       string `json:"client_text"`
	Reason                                           string
	Clean                                            bool `json:"after_clean_stop"`
}

// lines returns the lines that the process has logged with a message, or all without one.
func (p *process) lines(message string) (list []logLine) {
	for text := range strings.Lines(p.text()) {
		var l logLine
		if json.Unmarshal([]byte(text), &l) == nil && (message == "" || l.Msg == message) {
			list = append(list, l)
		}
	}
	return list
}

// terminate sends SIGTERM and waits for the end of the process.
func (p *process) terminate(t testing.TB) {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.wait(t)
}

// wait waits for the end of the process.
func (p *process) wait(t testing.TB) {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(hung):
		t.Fatal("caddy does not end")
	}
}

// command runs `caddy args...` and returns its output and exit code.
func command(t testing.TB, dir string, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hung)
	defer cancel()
	cmd := caddyCommand(ctx, dir, env, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// secureServer runs Caddy over TLS with an internal certificate authority and returns its port and what to trust. Go only
// offers extended CONNECT on HTTP/2 when told so by the environment, which it reads at the start of the process.
func secureServer(t testing.TB, w *world, godebug string, extra ...string) (caddy *process, port int, trust *tls.Config) {
	t.Helper()
	port = freeport.ForTest(t)
	site := strings.Replace(w.site(port, 0, append(extra, "drain_timeout 1s")...), "http://127.0.0.1", "https://localhost", 1)
	site = strings.Replace(site, "{\n", "{\n\ttls internal\n\tlog\n", 1)
	caddy = runCaddy(t, "auto_https disable_redirects", site, "GODEBUG="+godebug)
	return caddy, port, trustInternal(t, filepath.Join(caddy.dir, "data", "caddy"), port)
}

// trustInternal waits until a server has its certificate and returns what to trust. data is Caddy's data directory.
func trustInternal(t testing.TB, data string, port int) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	raw, err := os.ReadFile(filepath.Join(data, "pki", "authorities", "local", "root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool.AppendCertsFromPEM(raw)
	trust := &tls.Config{RootCAs: pool, ServerName: "localhost"}
	eventually(t, "the certificate of localhost", func() bool {
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), trust)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return trust
}

// reloadUnrelated changes something in the configuration of a process that has nothing to do with its gateways.
func reloadUnrelated(t testing.TB, p *process) {
	t.Helper()
	resp, err := http.Get(p.admin + "/config/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var config map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&config); err != nil {
		t.Fatal(err)
	}
	config["logging"] = map[string]any{"logs": map[string]any{"default": map[string]any{"level": "DEBUG"}}}
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	load, err := http.NewRequest(http.MethodPost, p.admin+"/load", bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	load.Header = http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"must-revalidate"}} // even if nothing changed
	loaded, err := http.DefaultClient.Do(load)
	if err != nil {
		t.Fatal(err)
	}
	defer loaded.Body.Close()
	if loaded.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(loaded.Body)
		t.Fatalf("reload: %s %s", loaded.Status, body)
	}
}
