//go:build e2e

package e2e

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/examples/internal/site"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/verify"
)

// stack is what the tests in sdk.test.mjs are told in ICWS_E2E.
type stack struct {
	Gateway    string `json:"gateway"`  // wss URL of the handler
	Network    string `json:"network"`  // URL of the local network
	Control    string `json:"control"`  // URL of what controlHandler serves
	Canister   string `json:"canister"` // answers texts with the text and "-pong"
	Greeter    string `json:"greeter"`  // says "ping" first
	Eager      string `json:"eager"`    // acknowledges every eagerInterval
	EagerMS    int64  `json:"eagerMs"`
	NotAllowed string `json:"notAllowed"` // runs, but the gateway does not name it
}

// TestSDK runs the tests of sdk.test.mjs, each as a subtest.
func TestSDK(t *testing.T) {
	installNodeModules(t, ".")
	network, err := localnet.New(localnet.Options{Latency: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := network.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &controls{network: network, canisters: map[string]*localnet.CDK{}}
	network.SetFaults(c.count)
	boundary, err := network.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := stack{
		Network:    boundary,
		Canister:   c.install(localnet.CDKOptions{App: localnet.PingPong{Quiet: true}}),
		Greeter:    c.install(localnet.CDKOptions{App: localnet.PingPong{}}),
		NotAllowed: c.install(localnet.CDKOptions{}),
		// Two intervals pass within a test. The CDK wants at least a minute; its rules are the same at any length.
		Eager: c.install(localnet.CDKOptions{
			App: localnet.PingPong{Quiet: true}, AckInterval: eagerInterval, KeepAliveTimeout: eagerInterval / 2,
		}),
		EagerMS: eagerInterval.Milliseconds(),
	}
	c.ii = network.InstallII(localnet.OnSubnet(1)) // Internet Identity is on a subnet of its own
	control := httptest.NewServer(c)
	t.Cleanup(control.Close)
	s.Control = control.URL

	var rootCert string
	s.Gateway, rootCert = serve(t, network, s.Network, s.Canister, s.Greeter, s.Eager)
	runNodeTests(t, ".", "sdk.test.mjs", s, rootCert)
}

// serve runs a Caddy until the end of the test. It returns the wss URL of its gateway for these canisters, and the file of the root
// certificate.
func serve(t *testing.T, network *localnet.Network, boundary string, canisters ...string) (url, rootCert string) {
	t.Helper()
	port := freeport.ForTest(t)
	rootCert, err := site.Run(t.Context(), site.Options{Dir: t.TempDir(), Port: port, Caddyfile: fmt.Sprintf(`
		https://localhost:%d {
			bind 127.0.0.1
			icws /ws %s {
				network %s
				root_key %x
				drain_timeout 1s
			}
		}`, port, strings.Join(canisters, " "), boundary, network.RootKey())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := site.Stop(); err != nil {
			t.Error(err)
		}
	})
	return fmt.Sprintf("wss://localhost:%d/ws", port), rootCert
}

const eagerInterval = 3 * time.Second

// controls answers what the tests ask about the canisters and the network, and
// plays Internet Identity.
type controls struct {
	network   *localnet.Network
	canisters map[string]*localnet.CDK
	ii        *localnet.II
	users     atomic.Int64

	mu    sync.Mutex
	calls map[string]int // update calls that have reached the network, by sender
}

func (c *controls) install(o localnet.CDKOptions) string {
	cdk := localnet.NewCDK(o)
	id := c.network.Install(cdk).String()
	c.canisters[id] = cdk
	return id
}

func (c *controls) count(r *localnet.Request) localnet.Fault {
	if r.Endpoint == "call" {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.calls == nil {
			c.calls = map[string]int{}
		}
		c.calls[r.Sender.String()]++
	}
	return localnet.Fault{}
}

func (c *controls) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := func(v any) {
		if err := json.NewEncoder(w).Encode(v); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	switch r.URL.Path {
	case "/clients": // of a canister: principal to the sequence number expected next
		clients := map[string]uint64{}
		for _, client := range c.canisters[r.URL.Query().Get("canister")].Clients() {
			clients[client.Key.Principal.String()] = client.Incoming
		}
		answer(clients)
	case "/calls": // of a sender
		c.mu.Lock()
		defer c.mu.Unlock()
		answer(c.calls[r.URL.Query().Get("sender")])
	case "/delegate":
		var request struct{ SessionKey string }
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		session, err := hex.DecodeString(request.SessionKey)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		user := fmt.Sprintf("user %d", c.users.Add(1))
		root, d := c.ii.Delegate(user, session, c.network.Now().Add(time.Hour))
		answer(delegationJSON(root, d))
	default:
		http.NotFound(w, r)
	}
}

// delegationJSON is the form that DelegationChain.fromJSON of @dfinity/identity
// reads: bytes and the expiration in hexadecimal.
func delegationJSON(root []byte, d verify.SignedDelegation) any {
	return map[string]any{
		"publicKey": hex.EncodeToString(root),
		"delegations": []any{map[string]any{
			"delegation": map[string]string{
				"pubkey":     hex.EncodeToString(d.PublicKey),
				"expiration": fmt.Sprintf("%x", d.Expiration.UnixNano()),
			},
			"signature": hex.EncodeToString(d.Signature),
		}},
	}
}

// installNodeModules fetches what package-lock.json pins unless it is there.
func installNodeModules(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err == nil {
		return
	}
	cmd := exec.CommandContext(t.Context(), "npm", "ci", "--no-fund", "--no-audit")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
}

// runNodeTests runs a test file and reports each of its tests as a subtest, so
// that one that did not run is missed here too.
func runNodeTests(t *testing.T, dir, file string, s any, rootCert string) {
	t.Helper()
	config, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "--test", "--test-force-exit", "--test-reporter=tap", file)
	cmd.Dir = dir
	// The certificate is verified, against Caddy's own root in addition to the usual ones.
	cmd.Env = append(os.Environ(), "ICWS_E2E="+string(config), "NODE_EXTRA_CA_CERTS="+rootCert)
	out, err := cmd.CombinedOutput()
	results := 0
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		rest, isBad := strings.CutPrefix(line, "not ")
		rest, isResult := strings.CutPrefix(rest, "ok ")
		_, name, _ := strings.Cut(rest, " - ")
		if !isResult {
			continue
		}
		if strings.HasSuffix(name, ".mjs") {
			continue // the file as a whole
		}
		results++
		t.Run(name, func(t *testing.T) {
			if isBad {
				t.Error("failed, see the output of Node")
			}
			if strings.Contains(name, "# SKIP") {
				t.Error("skipped")
			}
		})
	}
	if err != nil || t.Failed() {
		t.Errorf("node: %v\n%s", err, out)
	}
	if results == 0 {
		t.Errorf("no test ran\n%s", out)
	}
}
