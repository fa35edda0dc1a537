//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

const root = "../.." // of the repository

// binary is the caddy to test, built by xcaddy from the working tree.
func binary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("ICWS_CADDY")
	if path == "" {
		dir := t.TempDir()
		path = filepath.Join(dir, "caddy")
		for _, args := range [][]string{
			{"go", "build", "-o", dir, "github.com/caddyserver/xcaddy/cmd/xcaddy"},
			{filepath.Join(dir, "xcaddy"), "build", "--output", path, "--with", "github.com/icws-gateway/caddy-icws@v0.0.0-test=."},
		} {
			cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
			cmd.Dir = root
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", args, err, out)
			}
		}
	}
	return path
}

// TestBuiltBinary runs the binary that operators get with Caddyfile.example,
// against the local network, and looks at it with its own commands.
func TestBuiltBinary(t *testing.T) {
	caddy := binary(t)
	network, boundary := localNetwork(t, localnet.Options{Latency: 100 * time.Millisecond})
	canister := network.Install(localnet.NewCDK(localnet.CDKOptions{})).String()
	ports := make([]int, 3) // https, http, admin
	for i := range ports {
		ports[i] = freeport.ForTest(t)
	}
	dir := t.TempDir()
	www := filepath.Join(dir, "www")
	if err := os.Mkdir(www, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(www, "index.html"), []byte("the site"), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) *exec.Cmd {
		cmd := exec.Command(caddy, args...) // not ended by the test's context, but by SIGTERM
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir,
			fmt.Sprintf("ICWS_SITE=https://localhost:%d", ports[0]), "ICWS_CANISTERS="+canister, "ICWS_ROOT="+www,
			fmt.Sprintf("ICWS_NETWORK=network %s\n\t\troot_key %x", boundary, network.RootKey()))
		return cmd
	}
	output := func(args ...string) string {
		t.Helper()
		cmd := run(args...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("caddy %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
		}
		return string(out)
	}

	if modules := output("list-modules"); !strings.Contains(modules, "http.handlers.icws\n") || !strings.Contains(modules, "admin.api.icws\n") {
		t.Fatalf("the binary lacks our modules:\n%s", modules)
	}
	example := filepath.Join(root, "Caddyfile.example")
	output("validate", "--config", example, "--adapter", "caddyfile")
	if output("fmt", example) != readFile(t, example) {
		t.Error("Caddyfile.example is not formatted: run caddy fmt --overwrite")
	}

	// The example as it stands, moved to ports and directories that a test may use.
	var config map[string]any
	if err := json.Unmarshal([]byte(output("adapt", "--config", example, "--adapter", "caddyfile")), &config); err != nil {
		t.Fatal(err)
	}
	apps := config["apps"].(map[string]any)
	apps["http"].(map[string]any)["http_port"] = ports[1]
	apps["pki"] = map[string]any{"certificate_authorities": map[string]any{"local": map[string]any{"install_trust": false}}}
	config["admin"] = map[string]any{"listen": fmt.Sprintf("localhost:%d", ports[2])}
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	configFile := filepath.Join(dir, "config.json")
	if err := os.WriteFile(configFile, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	server := run("run", "--config", configFile)
	var log bytes.Buffer
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	stopped := false
	t.Cleanup(func() {
		if !stopped {
			server.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("caddy's log:\n%s", log.String())
		}
	})
	admin := fmt.Sprintf("http://localhost:%d", ports[2])
	eventually(t, "the admin endpoint is ready", func() bool {
		resp, err := http.Get(admin + "/icws/health/ready")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	rootCert := filepath.Join(dir, "caddy", "pki", "authorities", "local", "root.crt")
	certified := func() bool { // obtained in the background
		cmd := run("icws", "probe", fmt.Sprintf("wss://localhost:%d/ws", ports[0]), "--canister", canister, "--network", boundary, "--ca", rootCert)
		out, err := cmd.CombinedOutput()
		t.Logf("caddy icws probe:\n%s", out)
		return err == nil
	}
	eventually(t, "the probe succeeds", certified)

	if status := output("icws", "status", "--once", "--address", fmt.Sprintf("localhost:%d", ports[2])); !strings.Contains(status, "ready") {
		t.Errorf("status:\n%s", status)
	}
	var gateways []struct {
		Principal string `json:"gateway_principal"`
	}
	if err := json.Unmarshal([]byte(get(t, admin+"/icws/gateways")), &gateways); err != nil || len(gateways) != 1 || gateways[0].Principal == "" {
		t.Errorf("gateways: %v %+v", err, gateways)
	} else if told := strings.TrimSpace(output("icws", "principal", "--config", configFile)); !strings.Contains(told, gateways[0].Principal) {
		t.Errorf("the command says principal %q, the gateway %q", told, gateways[0].Principal)
	}
	checkDashboard(t, get(t, admin+"/metrics"))

	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		stopped = true
		if err != nil {
			t.Errorf("caddy ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("caddy did not end within 30 s of SIGTERM")
	}
}

// TestDeployedInstance takes the instance of examples/deploy through its life:
// ready, serving, drained by its operator, and put back.
func TestDeployedInstance(t *testing.T) {
	caddy := binary(t)
	network, boundary := localNetwork(t, localnet.Options{})
	canister := network.Install(localnet.NewCDK(localnet.CDKOptions{})).String()
	port, adminPort := freeport.ForTest(t), freeport.ForTest(t)
	dir := t.TempDir()
	// Other ports than the file's, and our network; everything else as it stands.
	text := strings.NewReplacer(
		"localhost:2019", fmt.Sprintf("localhost:%d", adminPort), "http://:8080", fmt.Sprintf("http://:%d", port),
		"network {$ICWS_NETWORK:mainnet}", fmt.Sprintf("network %s\n\t\t\troot_key %x", boundary, network.RootKey()),
	).Replace(readFile(t, filepath.Join(root, "examples", "deploy", "Caddyfile.instance")))
	config := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) *exec.Cmd {
		cmd := exec.Command(caddy, args...) // not ended by the test's context, but by SIGTERM
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir, "ICWS_CANISTERS="+canister)
		return cmd
	}
	server := run("run", "--config", config)
	var log bytes.Buffer
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Signal(syscall.SIGTERM)
		if err := server.Wait(); err != nil || t.Failed() {
			t.Errorf("caddy ended with %v\n%s", err, log.String())
		}
	})
	health := func() int {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/healthz", port))
		if err != nil {
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	eventually(t, "/healthz answers 200", func() bool { return health() == http.StatusOK })
	probe := func() ([]byte, error) {
		return run("icws", "probe", fmt.Sprintf("ws://127.0.0.1:%d/ws", port), "--canister", canister, "--network", boundary).CombinedOutput()
	}
	if out, err := probe(); err != nil {
		t.Errorf("probe: %v\n%s", err, out)
	}
	resp, err := http.Post(fmt.Sprintf("http://localhost:%d/icws/drain", adminPort), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	eventually(t, "/healthz answers 503 in a drain", func() bool { return health() == http.StatusServiceUnavailable })
	if out, err := probe(); err == nil {
		t.Errorf("a drained instance takes a session:\n%s", out)
	}
	if out, err := run("reload", "--force", "--config", config, "--address", fmt.Sprintf("localhost:%d", adminPort)).CombinedOutput(); err != nil {
		t.Fatalf("reload: %v\n%s", err, out)
	}
	eventually(t, "/healthz answers 200 after the reload", func() bool { return health() == http.StatusOK })
	if out, err := probe(); err != nil {
		t.Errorf("probe after the reload: %v\n%s", err, out)
	}
}

// checkDashboard holds the names that the dashboard and the alerts use against
// what a gateway really exports after one session.
func checkDashboard(t *testing.T, metrics string) {
	t.Helper()
	exported := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (caddy_icws_\w+) (\w+)$`).FindAllStringSubmatch(metrics, -1) {
		exported[m[1]] = true
	}
	// Counters of what has not happened yet are not exported.
	unseen := map[string]bool{
		"caddy_icws_refused_openings_total": true, "caddy_icws_queue_resets_total": true, "caddy_icws_verification_failures_total": true,
	}
	for _, file := range []string{"dashboard.json", "alerts.yml"} {
		text := readFile(t, filepath.Join(root, "examples", "observability", file))
		for _, name := range regexp.MustCompile(`caddy_icws_\w+`).FindAllString(text, -1) {
			name = regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(name, "")
			if !exported[name] && !unseen[name] {
				t.Errorf("%s uses %s, which the gateway does not export", file, name)
			}
		}
	}
	if len(exported) < 10 {
		t.Errorf("only %d metrics are exported", len(exported))
	}
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !check(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v, status %d: %s", url, err, resp.StatusCode, body)
	}
	return string(body)
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
