//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

// sdkPair is one line of matrix/pairs.json: an SDK, what it is used with, and what comes of it. README has the same as a table, which
// TestCompatibilityTable of package examples holds against the file.
type sdkPair struct {
	SDK   string   `json:"sdk"`             // version of ic-websocket-js
	Agent string   `json:"agent"`           // version of @dfinity/agent and what belongs to it
	Core  string   `json:"core,omitempty"`  // version of @icp-sdk/core, beside that agent
	Takes []string `json:"takes,omitempty"` // what the application takes from it: Actor, identity
	NPM   string   `json:"npm,omitempty"`   // code of the error with which npm refuses to install the two; empty: it installs them
	End   string   `json:"end"`             // how a session ends, or the end of what is thrown before
	Error string   `json:"error,omitempty"` // what stands in the errors of the page besides
}

// name is that of the subtest.
func (p *sdkPair) name() string {
	if p.Core != "" {
		return p.SDK + " with core " + p.Core + " " + strings.Join(p.Takes, "+")
	}
	return p.SDK + " with agent " + p.Agent
}

// packages are what a person installs who wants this pair.
func (p *sdkPair) packages() []string {
	if p.Core != "" {
		return []string{"ic-websocket-js@" + p.SDK, "@icp-sdk/core@" + p.Core} // the agent comes along, as the SDK asks for it
	}
	return []string{"ic-websocket-js@" + p.SDK, "@dfinity/agent@" + p.Agent, "@dfinity/candid@" + p.Agent, "@dfinity/principal@" + p.Agent}
}

// session opens one session with this pair and compares what becomes of it.
func (p *sdkPair) session(t *testing.T, s stack, rootCert string, more ...string) {
	t.Helper()
	pair, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	addresses, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", append([]string{"session.mjs", string(pair)}, more...)...)
	cmd.Dir = "matrix"
	cmd.Env = append(os.Environ(), "ICWS_E2E="+string(addresses), "NODE_EXTRA_CA_CERTS="+rootCert)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var got struct {
		End    string
		Errors []string
	}
	if err != nil || json.Unmarshal(out, &got) != nil {
		t.Fatalf("%v\n%s\n%s", err, out, &stderr)
	}
	if said := strings.Join(got.Errors, "\n"); !strings.HasSuffix(got.End, p.End) || !strings.Contains(said, p.Error) || p.Error == "" && said != "" {
		t.Errorf("ended with %q and the errors %q, matrix/pairs.json says %q and %q\n%s", got.End, got.Errors, p.End, p.Error, &stderr)
	}
}

// refusal is the first line of an error, as npm 10 and older ones write it.
var refusal = regexp.MustCompile(`npm (?:error|ERR!) code (\S+)`)

// installs tells whether npm lets a person have this pair, with more packages, and compares the code of its refusal.
func (p *sdkPair) installs(t *testing.T, more ...string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "package.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"install", "--dry-run", "--package-lock-only", "--prefer-offline", "--ignore-scripts", "--no-fund", "--no-audit"}
	cmd := exec.CommandContext(t.Context(), "npm", append(append(args, p.packages()...), more...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	var code string
	if m := refusal.FindSubmatch(out); m != nil {
		code = string(m[1])
	}
	if code != p.NPM || (err == nil) != (p.NPM == "") {
		t.Errorf("npm %q: %v, code %q, matrix/pairs.json says %q\n%s", cmd.Args[1:], err, code, p.NPM, out)
	}
}

// pairsStack is a gateway before a canister that says "ping" first.
func pairsStack(t *testing.T) (*localnet.Network, stack, string) {
	t.Helper()
	installNodeModules(t, ".")
	installNodeModules(t, "matrix")
	network, boundary := localNetwork(t, localnet.Options{})
	s := stack{Network: boundary, Canister: network.Install(localnet.NewCDK(localnet.CDKOptions{App: localnet.PingPong{}})).String()}
	var rootCert string
	s.Gateway, rootCert = serve(t, network, s.Network, s.Canister)
	return network, s, rootCert
}

// TestSDKMatrix installs and runs the SDKs of npm, unmodified, with agents that they can and cannot work with: npm and the session
// say what README says.
func TestSDKMatrix(t *testing.T) {
	raw, err := os.ReadFile("matrix/pairs.json")
	if err != nil {
		t.Fatal(err)
	}
	var pairs []sdkPair
	if err := json.Unmarshal(raw, &pairs); err != nil {
		t.Fatal(err)
	}
	_, s, rootCert := pairsStack(t)
	atOnce := make(chan struct{}, 2)
	for _, p := range pairs {
		t.Run(p.name(), func(t *testing.T) {
			t.Parallel()
			atOnce <- struct{}{}
			defer func() { <-atOnce }()
			p.installs(t)
			p.session(t, s, rootCert)
		})
	}
}

// TestSDKRootKeyLate holds the SDK's own request for the root key back until its session is over: on a network of one's own it does
// not wait for the key, and takes the first message for a forged one.
func TestSDKRootKeyLate(t *testing.T) {
	network, s, rootCert := pairsStack(t)
	over := make(chan struct{})
	release := sync.OnceFunc(func() { close(over) })
	t.Cleanup(release)
	network.SetFaults(func(r *localnet.Request) (f localnet.Fault) {
		if r.Endpoint == "status" {
			<-over
		}
		return f
	})
	p := sdkPair{SDK: "0.5.0", Agent: "2.4.1", End: "4000 Error receiving message", Error: "Certificate validation failed"}
	p.session(t, s, rootCert, "late")
	release()
	p.End, p.Error = "works", ""
	p.session(t, s, rootCert)
}
