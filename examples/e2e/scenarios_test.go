//go:build e2e && unix

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/examples/internal/chromium"
	"github.com/icws-gateway/caddy-icws/examples/internal/site"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

// siteVariable makes the test binary run the site that it describes, in JSON, until its standard input ends.
const siteVariable = "ICWS_E2E_SITE"

func TestMain(m *testing.M) {
	if text := os.Getenv(siteVariable); text != "" {
		var o site.Options
		err := json.Unmarshal([]byte(text), &o)
		if err == nil {
			_, err = site.Run(context.Background(), o)
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("ready")
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// scenarioWorld is what the tests in scenarios.test.mjs are told in ICWS_E2E, and what can be asked to happen there.
type scenarioWorld struct {
	Gateway  string `json:"gateway"`  // wss URL of the gateway
	Sleepy   string `json:"sleepy"`   // of one that gives clients up soon that do not answer
	Lying    string `json:"lying"`    // of liar, to which a lie and a name for the occasion are added
	Network  string `json:"network"`  // URL of the local network
	Control  string `json:"control"`  // URL of this
	Canister string `json:"canister"` // the chat, compiled
	RootKey  string `json:"rootKey"`  // of the network, in hexadecimal
	Only     string `json:"only"`     // the one line of the table to run; "": all

	asleep time.Duration // how long a sleep lasts at least

	t     *testing.T
	admin string // URL of Caddy's admin endpoint
	site  site.Options
	first *exec.Cmd // another instance, to be killed
	boot  site.Options
}

// startScenarios runs the world until the end of the test. patience are directives of the gateway before clients that sleep. It
// returns the file of the root certificate.
func startScenarios(t *testing.T, patience string) (w *scenarioWorld, rootCert string) {
	t.Helper()
	network, boundary := localNetwork(t, localnet.Options{Latency: 20 * time.Millisecond})
	canister := network.Install(compiled(t, "../canisters/rust", "chat.wasm")).String()
	dir, ports, admin := t.TempDir(), [2]int{freeport.ForTest(t), freeport.ForTest(t)}, freeport.ForTest(t)
	gateway := func(path, identity, more string) string {
		return fmt.Sprintf("icws %s %s {\n\tnetwork %s\n\troot_key %x\n\tdrain_timeout 1s\n\tidentity %s\n\t%s\n}\n",
			path, canister, boundary, network.RootKey(), identity, more)
	}
	address := func(i int, path string) string { return fmt.Sprintf("wss://localhost:%d/%s", ports[i], path) }
	w = &scenarioWorld{
		Gateway: address(0, "ws"), Sleepy: address(0, "sleepy"), Lying: address(0, "lying"),
		Network: boundary, Canister: canister, RootKey: hex.EncodeToString(network.RootKey()),
		t: t, admin: fmt.Sprintf("http://localhost:%d", admin),
	}
	mux := http.NewServeMux()
	mux.Handle("/delegate", newControls(t, network))
	mux.HandleFunc("POST /drain", w.control(w.drain))
	mux.HandleFunc("POST /return", w.control(w.putBack))
	mux.HandleFunc("POST /first", w.control(w.startFirst))
	mux.HandleFunc("POST /kill", w.control(w.killFirst))
	mux.HandleFunc("POST /sleep", w.control(w.sleep))
	liar := &liar{t: t, gateway: w.Gateway}
	mux.Handle("GET /lying/{how}/{occasion}", liar)
	control := httptest.NewServer(mux)
	t.Cleanup(control.Close)
	w.Control = control.URL

	w.site = site.Options{Dir: dir, Port: ports[0], Admin: fmt.Sprintf("localhost:%d", admin), Caddyfile: fmt.Sprintf(
		"https://localhost:%d {\nbind 127.0.0.1\n%s%sreverse_proxy /lying/* %s\n"+
			"header /scenarios Content-Type text/html\nrespond /scenarios <!doctype>\n}\n", ports[0], gateway("/ws", "second", ""),
		gateway("/sleepy", "sleepy", patience), control.Listener.Addr())}
	w.boot = site.Options{Dir: dir, Port: ports[1], Caddyfile: fmt.Sprintf("https://localhost:%d {\nbind 127.0.0.1\n%s}\n", ports[1], gateway("/ws", "first", ""))}
	rootCert, err := site.Run(t.Context(), w.site)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.killFirst(nil)
		if err := site.Stop(); err != nil {
			t.Error(err)
		}
	})
	pem, err := os.ReadFile(rootCert)
	if err != nil {
		t.Fatal(err)
	}
	liar.tls = &tls.Config{RootCAs: x509.NewCertPool()}
	liar.tls.RootCAs.AppendCertsFromPEM(pem)
	return w, rootCert
}

// control is a handler that does something and answers with JSON.
func (w *scenarioWorld) control(do func(*http.Request) (any, error)) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		answer, err := do(r)
		if err != nil {
			w.t.Errorf("%s: %v", r.URL.Path, err)
			http.Error(rw, err.Error(), http.StatusInternalServerError)
			return
		}
		json.NewEncoder(rw).Encode(answer) // what cannot be written has gone
	}
}

func (w *scenarioWorld) drain(*http.Request) (any, error) {
	resp, err := http.Post(w.admin+"/icws/drain", "", nil)
	if err == nil {
		err = resp.Body.Close()
	}
	return nil, err
}

// putBack loads the configuration again, as caddy reload --force does.
func (w *scenarioWorld) putBack(*http.Request) (any, error) {
	_, err := site.Run(w.t.Context(), w.site)
	return nil, err
}

// startFirst starts an instance that is a process of its own.
func (w *scenarioWorld) startFirst(*http.Request) (any, error) {
	options, err := json.Marshal(w.boot)
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w.first = exec.Command(exe)
	w.first.Env = append(os.Environ(), siteVariable+"="+string(options))
	w.first.Stderr = os.Stderr
	if _, err := w.first.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := w.first.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := w.first.Start(); err != nil {
		return nil, err
	}
	said := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(stdout, said); err != nil || string(said) != "ready\n" {
		return nil, fmt.Errorf("the instance says %q, %w", said, err)
	}
	return map[string]string{"url": fmt.Sprintf("wss://localhost:%d/ws", w.boot.Port)}, nil
}

func (w *scenarioWorld) killFirst(*http.Request) (any, error) {
	if w.first != nil {
		w.first.Process.Kill()
		w.first.Wait()
		w.first = nil
	}
	return nil, nil
}

// sleep returns when a gateway has given up one more session that does not answer, and the sleep has lasted. The process whose id is in the query, if there
// is one, stands still so long.
func (w *scenarioWorld) sleep(r *http.Request) (any, error) {
	before, err := w.givenUp()
	if err != nil {
		return nil, err
	}
	over := time.After(w.asleep)
	if pid, err := strconv.Atoi(r.URL.Query().Get("pid")); err == nil {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			return nil, err
		}
		defer syscall.Kill(pid, syscall.SIGCONT)
	}
	for now := before; now == before; {
		select {
		case <-w.t.Context().Done():
			return nil, context.Cause(w.t.Context())
		case <-time.After(100 * time.Millisecond):
		}
		if now, err = w.givenUp(); err != nil {
			return nil, err
		}
	}
	<-over
	return nil, nil
}

// givenUp is how many sessions have ended because nobody answered.
func (w *scenarioWorld) givenUp() (int, error) {
	resp, err := http.Get(w.admin + "/icws/closes?limit=1000")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("closes: %w, status %d: %s", err, resp.StatusCode, body)
	}
	return strings.Count(string(body), `"pong_timeout"`), nil
}

// TestScenarios runs the table of scenarios.mjs with the TypeScript client, each line in Node.js and in Chromium.
func TestScenarios(t *testing.T) {
	// The shortest patience that a busy machine does not exhaust.
	w, rootCert := startScenarios(t, "ping_interval 10s\n\tpong_timeout 8s")
	w.run(t, rootCert, 15)
}

// run runs so many lines of the table in Node.js, and then in Chromium.
func (w *scenarioWorld) run(t *testing.T, rootCert string, lines int) {
	installNodeModules(t, clientDir)
	installNodeModules(t, filepath.Join("..", "chat", "web"))
	t.Run("Node.js, core 5", func(t *testing.T) {
		t.Setenv("ICWS_CORE", "core5")
		runNodeTests(t, ".", "scenarios.test.mjs", w, rootCert)
	})
	t.Run("Chromium, core 6", func(t *testing.T) {
		told, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		chromium.Run(t, "scenarios.test.mjs", lines, rootCert, "ICWS_E2E="+string(told), "ICWS_CORE=@icp-sdk/core", "ICWS_PLACE=chromium")
	})
}
