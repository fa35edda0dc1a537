package caddymodule

import (
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// TestValidateChangesNothing makes sure that validating a configuration writes nothing, acquires nothing and talks to
// nobody.
func TestValidateChangesNothing(t *testing.T) {
	requests := make(chan string, 16)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { requests <- r.URL.Path })}
	go func() { _ = server.Serve(l) }()
	defer server.Close()

	dir := t.TempDir()
	t.Setenv("XDG_DATA_HOME", filepath.Join(dir, "data"))
	raw, err := adapt(fmt.Sprintf("{\n\tstorage file_system %s\n}\nhttp://localhost:1 {\n\ticws %s {\n\t\tnetwork http://%s\n\t\troot_key fetch\n\t\tidentity fresh\n\t}\n}",
		filepath.Join(dir, "storage"), testCanister, l.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := validate(raw); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(live.snapshot()); n != 0 {
		t.Errorf("%d gateways", n)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("validating wrote %v (%v)", entries, err)
	}
	select {
	case path := <-requests:
		t.Errorf("validating asked the network for %s", path)
	default:
	}
}

// TestSharing makes sure that equal gateway settings mean one gateway, whatever the admission settings, and that
// different ones mean different gateways.
func TestSharing(t *testing.T) {
	a, b := freeport.ForTest(t), freeport.ForTest(t)
	gateway := func(lines ...string) string {
		return fmt.Sprintf("icws /ws %s {\n\t\t%s\n\t\t%s\n\t}", testCanister, deadNetwork(), strings.Join(lines, "\n\t\t"))
	}
	site := func(port int, blocks ...string) string {
		return fmt.Sprintf("http://127.0.0.1:%d {\n\t%s\n}\n", port, strings.Join(blocks, "\n\t"))
	}
	for _, test := range []struct {
		name string
		text string
		want int
	}{
		{"two sites", site(a, gateway()) + site(b, gateway()), 1},
		{"admission differs", site(a, gateway("max_sessions 5", "origin https://a.io")) + site(b, gateway("max_sessions_per_ip 3", "max_message_size 1MiB", "canister bd3sg-teaaa-aaaaa-qaaba-cai")), 1},
		{"defaults spelled out", site(a, gateway()) + site(b, gateway("poll_interval 100ms", "outbox 256 1MiB", "identity default", "orphans close")), 1},
		{"twice in a site", site(a, gateway(), strings.Replace(gateway(), "/ws", "/other", 1)), 1},
		{"identity differs", site(a, gateway()) + site(b, gateway("identity second")), 2},
		{"timeout differs", site(a, gateway()) + site(b, gateway("pong_timeout 9s")), 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			mustLoad(t, test.text)
			if got := len(live.snapshot()); got != test.want {
				t.Errorf("%d gateways, want %d", got, test.want)
			}
		})
		if got := len(live.snapshot()); got != 0 {
			t.Fatalf("%d gateways are left over", got)
		}
	}
}

// TestPoolKey makes sure that every setting of the gateway is part of what selects it.
func TestPoolKey(t *testing.T) {
	base := GatewaySettings{}
	n, err := resolveNetwork([]string{"http://127.0.0.1:1", "http://127.0.0.1:2"}, "fetch")
	if err != nil {
		t.Fatal(err)
	}
	mainnet, err := resolveNetwork(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	key := func(cfg relay.Config, public string) string {
		t.Helper()
		k, err := poolKey(&cfg, []byte(public))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	seen := map[string]string{key(base.relayConfig(n), "a"): "base"}
	check := func(name string, cfg relay.Config, public string) {
		t.Helper()
		k := key(cfg, public)
		if other, ok := seen[k]; ok {
			t.Errorf("%s selects the same gateway as %s", name, other)
		}
		seen[k] = name
	}
	check("identity", base.relayConfig(n), "b")
	check("network", base.relayConfig(mainnet), "a")
	fixed := *n
	fixed.fetch, fixed.rootKey = false, mainnet.rootKey
	check("root_key", base.relayConfig(&fixed), "a")
	s := GatewaySettings{Orphans: orphansKeep}
	check("orphans", s.relayConfig(n), "a")
	s = GatewaySettings{Outbox: &Outbox{Frames: 3}}
	check("outbox frames", s.relayConfig(n), "a")
	s = GatewaySettings{Outbox: &Outbox{Bytes: 1 << 19}}
	check("outbox bytes", s.relayConfig(n), "a")
	// Every setting that has no form of its own is copied.
	all := reflect.TypeFor[GatewaySettings]()
	for i := range all.NumField() {
		var s GatewaySettings
		switch field := reflect.ValueOf(&s).Elem().Field(i); field.Kind() {
		case reflect.Bool:
			field.SetBool(true)
		case reflect.Int, reflect.Int64:
			field.SetInt(3)
		case reflect.Float64:
			field.SetFloat(3)
		default:
			if !slices.Contains([]string{"Network", "RootKey", "Identity", "Orphans", "Outbox"}, all.Field(i).Name) {
				t.Errorf("nothing here checks %s", all.Field(i).Name)
			}
			continue
		}
		check(all.Field(i).Name, s.relayConfig(n), "a")
	}
}

// TestFailedStart makes sure that a configuration that provisions but cannot start, beside a live one, takes nothing
// away from it.
func TestFailedStart(t *testing.T) {
	w, port := newWorld(t, 1), freeport.ForTest(t)
	good := w.site(port, 0, "drain_timeout 100ms")
	mustLoad(t, good)
	c := w.open(t, fmt.Sprintf("ws://127.0.0.1:%d/ws", port), 0)
	echo(t, c, "before")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	for name, bad := range map[string]string{
		"port in use":      good + fmt.Sprintf("http://127.0.0.1:%d {\n\trespond hi\n}\n", taken),
		"new gateway too":  w.site(port, 0, "drain_timeout 200ms") + fmt.Sprintf("http://127.0.0.1:%d {\n\trespond hi\n}\n", taken),
		"bad identity":     w.site(port, 0, "identity file missing.pem"),
		"later site fails": good + fmt.Sprintf("http://127.0.0.1:%d {\n\ticws %s {\n\t\troot_key missing.pem\n\t}\n}\n", freeport.ForTest(t), testCanister),
	} {
		if err := load(t, bad); err == nil {
			t.Fatalf("%s: loaded", name)
		}
		echo(t, c, name)
	}
	// In JSON a handler can be provisioned and then found to be invalid.
	raw, err := adapt("{\n\tadmin off\n\tpersist_config off\n}\n" + good)
	if err != nil {
		t.Fatal(err)
	}
	raw = []byte(strings.Replace(string(raw), `"handler":"icws"`, `"handler":"icws","ping_interval":"1s"`, 1))
	if err := caddy.Load(raw, true); err == nil || !strings.Contains(err.Error(), "ping_interval (1s) must be greater") {
		t.Fatalf("relation: %v", err)
	}
	echo(t, c, "relation")
	eventually(t, "one gateway", func() bool { return len(live.snapshot()) == 1 })
	p := live.snapshot()[0]
	p.mu.Lock()
	holders := len(p.holders)
	p.mu.Unlock()
	if holders != 1 || p.isDraining() {
		t.Errorf("%d holders, draining %v", holders, p.isDraining())
	}
	echo(t, c, "after")
}

// TestCleanupOfNothing makes sure that Cleanup can follow a Provision that failed at any point.
func TestCleanupOfNothing(t *testing.T) {
	if err := new(Handler).Cleanup(); err != nil {
		t.Error(err)
	}
	ref := new(gatewayRef)
	for range 2 {
		if err := ref.release(); err != nil {
			t.Error(err)
		}
	}
	if _, err := ref.acquire(); err != errReleased {
		t.Errorf("acquired after the release: %v", err)
	}
}

// TestStorageModule runs a whole server on a storage module that is not Caddy's own.
func TestStorageModule(t *testing.T) {
	w, port := newWorld(t, 1), freeport.ForTest(t)
	raw, err := adapt("{\n\tadmin off\n\tpersist_config off\n}\n" + w.site(port, 0, "drain_timeout 100ms"))
	if err != nil {
		t.Fatal(err)
	}
	raw = []byte(strings.Replace(string(raw), "{", `{"storage":{"module":"icws_test"},`, 1))
	stopAtEnd(t)
	for range 2 { // the second time the identity is there
		if err := caddy.Load(raw, true); err != nil {
			t.Fatal(err)
		}
	}
	c := w.open(t, fmt.Sprintf("ws://127.0.0.1:%d/ws", port), 0)
	echo(t, c, "stored elsewhere")
	instance, err := caddy.InstanceID()
	if err != nil {
		t.Fatal(err)
	}
	id, err := loadIdentity(t.Context(), sharedMemStorage, identityKey(instance.String(), DefaultIdentity))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Gateway().String(); got != id.Sender().Encode() {
		t.Errorf("the gateway is %s, in storage is %s", got, id.Sender().Encode())
	}

	// A storage that fails does so when the configuration starts, and the one before goes on.
	sharedMemStorage.mu.Lock()
	sharedMemStorage.fail = os.ErrPermission
	sharedMemStorage.mu.Unlock()
	defer func() {
		sharedMemStorage.mu.Lock()
		sharedMemStorage.fail = nil
		sharedMemStorage.mu.Unlock()
	}()
	if err := caddy.Load(raw, true); err == nil || !strings.Contains(err.Error(), "identity") {
		t.Errorf("loaded without storage: %v", err)
	}
	echo(t, c, "still here")
}

// TestPlaceholders resolves every kind of placeholder, and sets ours.
func TestPlaceholders(t *testing.T) {
	w, port, dir := newWorld(t, 2), freeport.ForTest(t), t.TempDir()
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, unhex(t, ringV2), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "network"), []byte(w.url+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pemKey := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: w.net.RootKey()})
	if err := os.WriteFile(filepath.Join(dir, "root_key.pem"), pemKey, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ICWS_TEST_ORIGINS", "https://a.example https://b.example")
	t.Setenv("ICWS_TEST_CANISTERS", w.canisters[0].String()+", "+w.canisters[1].String())
	t.Setenv("ICWS_TEST_ROOT_KEY", fmt.Sprintf("%x", w.net.RootKey()))
	t.Setenv("ICWS_TEST_KEY", key)
	mustLoad(t, fmt.Sprintf(`http://127.0.0.1:%[1]d {
	route {
		icws /ws {env.ICWS_TEST_CANISTERS} {
			network {file.%[2]s}
			root_key {env.ICWS_TEST_ROOT_KEY}
			identity file {env.ICWS_TEST_KEY}
			drain_timeout 100ms
		}
		icws /pem {env.ICWS_TEST_CANISTERS} {
			network {file.%[2]s}
			root_key {file.%[3]s}
			identity file {env.ICWS_TEST_KEY}
			origin {env.ICWS_TEST_ORIGINS}
			drain_timeout 100ms
		}
		respond "{http.icws.gateway_principal}"
	}
}`, port, filepath.Join(dir, "network"), filepath.Join(dir, "root_key.pem")))
	if n := len(live.snapshot()); n != 1 {
		t.Errorf("%d gateways of two spellings of one configuration", n)
	}
	echo(t, w.open(t, fmt.Sprintf("ws://127.0.0.1:%d/pem", port), 0, func(o *client.Options) { o.Header = http.Header{"Origin": {"https://b.example"}} }), "hello")
	if _, resp, err := dial(t, fmt.Sprintf("ws://127.0.0.1:%d/pem", port), http.Header{"Origin": {"https://c.example"}}); err == nil || resp == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("another origin: %v", err)
	}
	for canister := range 2 {
		echo(t, w.open(t, fmt.Sprintf("ws://127.0.0.1:%d/ws", port), canister), "hello")
	}
	id, err := loadIdentityFile(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, body, _ := get(t, fmt.Sprintf("http://127.0.0.1:%d/ws", port)); body != id.Sender().Encode() {
		t.Errorf("placeholder %q, want %q", body, id.Sender().Encode())
	}
}

// TestClientIP makes sure that limits count the client and not the proxy in front of it.
func TestClientIP(t *testing.T) {
	port := freeport.ForTest(t)
	raw, err := adapt(fmt.Sprintf("{\n\tadmin off\n\tpersist_config off\n\tservers {\n\t\ttrusted_proxies static 127.0.0.1/32\n\t}\n}\nhttp://127.0.0.1:%d {\n\ticws %s {\n\t\t%s\n\t\tmax_sessions_per_ip 1\n\t}\n}",
		port, testCanister, deadNetwork()))
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t)
	if err := caddy.Load(raw, true); err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("ws://127.0.0.1:%d/", port)
	from := func(ip string) error {
		_, _, err := dial(t, url, http.Header{"X-Forwarded-For": {ip}})
		return err
	}
	if err := from("203.0.113.1"); err != nil {
		t.Fatal(err)
	}
	if err := from("203.0.113.2"); err != nil {
		t.Errorf("another client behind the same proxy: %v", err)
	}
	if err := from("203.0.113.1"); err == nil {
		t.Error("a second session of the same client")
	}
	if err := from("2001:db8::1"); err != nil {
		t.Error(err)
	}
}

// TestMetricsRegistration makes sure that every registry gets every collector once, and that labels are closed sets.
func TestMetricsRegistration(t *testing.T) {
	// Collectors live as long as the process, so this needs a canister that no other test names.
	const unnamed = 8
	w, port := newWorld(t, unnamed+1), freeport.ForTest(t)
	site := fmt.Sprintf("http://127.0.0.1:%d {\n\ticws /any {\n\t\tcanister any\n\t\t%s\n\t\tdrain_timeout 100ms\n\t}\n\ticws /ws %s {\n\t\t%s\n\t\tdrain_timeout 100ms\n\t}\n\tmetrics /metrics\n}\n",
		port, w.network(), w.canisters[0], w.network())
	mustLoad(t, site)
	echo(t, w.open(t, fmt.Sprintf("ws://127.0.0.1:%d/any", port), unnamed), "unnamed")
	echo(t, w.open(t, fmt.Sprintf("ws://127.0.0.1:%d/ws", port), 0), "named")
	_, body, _ := get(t, fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
	for _, want := range []string{
		`caddy_icws_session_opens_total{canister="` + w.canisters[0].String() + `"}`,
		`caddy_icws_session_opens_total{canister="_other"}`,
		"caddy_icws_gateways{state=\"active\"} 1\n",
		`caddy_icws_verification_cache_lookups_total{cache="root",result="miss"}`,
		"caddy_icws_canisters 2\n", "caddy_icws_sessions 2\n",
		`caddy_icws_messages_total{canister="_other",direction="up"}`,
		`caddy_icws_upstream_request_duration_seconds_count{endpoint="query",host="` + strings.TrimPrefix(w.url, "http://") + `",outcome="ok"}`,
		`caddy_icws_relay_duration_seconds_count{canister="_other",outcome="ok"}`,
		"caddy_icws_delivery_age_seconds", "caddy_icws_poll_lag_seconds", "caddy_icws_budget_wait_seconds",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %q:\n%s", want, grep(body, strings.SplitN(want, "{", 2)[0]))
		}
	}
	if strings.Contains(body, w.canisters[unnamed].String()) {
		t.Error("a canister that a client chose is a label")
	}
}
