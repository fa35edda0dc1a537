// Package examples holds the README to what the code does.
package examples

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/dustin/go-humanize"

	"github.com/icws-gateway/caddy-icws/caddymodule"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/verify"
)

func read(t *testing.T, path ...string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(append([]string{".."}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// section is the part of the README under a heading.
func section(t *testing.T, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(read(t, "README.md"), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("README.md has no section %q", heading)
	}
	body, _, _ := strings.Cut(rest, "\n## ")
	return body
}

// rows are the cells of the lines of a table whose first cell is code.
func rows(text string) map[string][]string {
	out := map[string][]string{}
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if name, ok := strings.CutPrefix(cells[0], "`"); ok && len(cells) > 1 {
			name, _, _ = strings.Cut(name, "`")
			out[name] = cells
		}
	}
	return out
}

// TestSettingsTable compares the table with the settings of the handler, both
// ways, and each stated default with the one that is used.
func TestSettingsTable(t *testing.T) {
	table := rows(section(t, "Settings"))
	settings := 0
	for reloads, kind := range map[string]reflect.Type{
		"gateway": reflect.TypeFor[caddymodule.GatewaySettings](),
		"handler": reflect.TypeFor[caddymodule.HandlerSettings](),
	} {
		settings += kind.NumField()
		for i := range kind.NumField() {
			name, _, _ := strings.Cut(kind.Field(i).Tag.Get("json"), ",")
			if row := table[name]; row == nil {
				t.Errorf("README.md does not list the setting %s", name)
			} else if row[3] != reloads {
				t.Errorf("README.md says that %s is a setting of the %s, it is one of the %s", name, row[3], reloads)
			}
		}
	}
	if len(table) != settings {
		t.Errorf("README.md lists %d settings, the handler has %d", len(table), settings)
	}
	for name, want := range map[string]any{
		"poll_interval": relay.DefaultPollInterval, "poll_idle_interval": relay.DefaultPollIdleInterval,
		"upstream_rate": relay.DefaultUpstreamRate, "upstream_call_rate": relay.DefaultUpstreamCallRate, "upstream_timeout": relay.DefaultUpstreamTimeout,
		"outage_timeout": relay.DefaultOutageTimeout, "relay_window": relay.DefaultRelayWindow,
		"client_rate":  relay.DefaultClientRate,
		"max_sessions": relay.DefaultMaxSessions, "max_sessions_per_ip": relay.DefaultMaxSessionsPerIP,
		"max_sessions_per_canister": relay.DefaultMaxSessionsPerCanister, "max_canisters": relay.DefaultMaxCanisters,
		"open_timeout": relay.DefaultOpenTimeout, "ping_interval": relay.DefaultPingInterval,
		"pong_timeout": relay.DefaultPongTimeout, "write_timeout": relay.DefaultWriteTimeout,
		"drain_timeout": relay.DefaultDrainTimeout, "identity": caddymodule.DefaultIdentity,
	} {
		if table[name] == nil {
			continue
		}
		got := strings.Trim(table[name][1], "`")
		if duration, ok := want.(time.Duration); ok {
			parsed, err := time.ParseDuration(got)
			if err != nil || parsed != duration {
				t.Errorf("%s: README.md says %s, the default is %s", name, got, duration)
			}
			continue
		}
		if fmt.Sprint(want) != got {
			t.Errorf("%s: README.md says %s, the default is %v", name, got, want)
		}
	}
	for name, want := range map[string]uint64{"max_message_size": relay.DefaultMaxMessageSize, "outbox": relay.DefaultOutboxBytes} {
		fields := strings.Fields(strings.Trim(table[name][1], "`"))
		if got, err := humanize.ParseBytes(fields[len(fields)-1]); err != nil || got != want {
			t.Errorf("%s: README.md says %s, the default is %d bytes", name, table[name][1], want)
		}
	}
	if !strings.HasPrefix(table["outbox"][1], fmt.Sprintf("`%d ", relay.DefaultOutboxFrames)) {
		t.Errorf("outbox: README.md says %s, the default is %d frames", table["outbox"][1], relay.DefaultOutboxFrames)
	}
}

// TestReasonsTable compares the ways a session ends.
func TestReasonsTable(t *testing.T) {
	table := rows(section(t, "When a session ends"))
	for _, reason := range relay.CloseReasons() {
		cells := table[reason.Label()]
		switch {
		case cells == nil:
			t.Errorf("README.md does not list %s", reason)
		case cells[1] != fmt.Sprint(reason.Code()):
			t.Errorf("%s: README.md says %s, the code is %d", reason, cells[1], reason.Code())
		}
	}
	if len(table) != len(relay.CloseReasons()) {
		t.Errorf("README.md lists %d reasons, there are %d", len(table), len(relay.CloseReasons()))
	}
}

// TestMetricsTable compares the names of metrics with those in the source.
func TestMetricsTable(t *testing.T) {
	source := read(t, "caddymodule", "metrics.go") + read(t, "caddymodule", "metrics_live.go")
	made := map[string]bool{"sessions": true} // has a field name of its own
	for _, m := range regexp.MustCompile(`\b(?:counter|histograms?|desc)\("(\w+)"`).FindAllStringSubmatch(source, -1) {
		made[m[1]] = true
	}
	table := rows(section(t, "Metrics"))
	for name := range made {
		if table["caddy_icws_"+name] == nil {
			t.Errorf("README.md does not list caddy_icws_%s", name)
		}
	}
	if len(table) != len(made) {
		t.Errorf("README.md lists %d metrics, there are %d", len(table), len(made))
	}
	for _, file := range []string{"dashboard.json", "alerts.yml"} {
		text := read(t, "examples", "observability", file)
		for _, name := range regexp.MustCompile(`caddy_icws_(\w+)`).FindAllStringSubmatch(text, -1) {
			base := regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(name[1], "")
			if !made[base] {
				t.Errorf("%s uses caddy_icws_%s, which does not exist", file, base)
			}
		}
	}
}

// TestMetricLabels compares the values of labels that the README lists with what they are made from, and holds those that alerts
// ask for against them.
func TestMetricLabels(t *testing.T) {
	found := func(pattern string, source ...string) (all []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(read(t, source...), -1) {
			all = append(all, m[1])
		}
		return all
	}
	reasons := make([]string, 0, len(relay.CloseReasons()))
	for _, reason := range relay.CloseReasons() {
		reasons = append(reasons, reason.Label())
	}
	ofRequests := found(`Outcome\w+ +Outcome = "(\w+)"`, "relay", "internal", "upstream", "metrics.go")
	values := map[string][]string{
		"canister":  {"_other"},
		"host":      {"_other"},
		"reason":    nil, // it has a table
		"limit":     found(`(?m)^\t"(\w+)": `, "caddymodule", "refusal.go"),
		"direction": found(`direction\("(\w+)"\)`, "caddymodule", "metrics.go"),
		"outcome":   slices.Concat(ofRequests, found(`Outcome\w+ +Outcome = "(\w+)"`, "relay", "metrics.go")),
		"endpoint":  found(`Endpoint\w+ +Endpoint = "(\w+)"`, "relay", "internal", "upstream", "metrics.go"),
		"cause":     found(`Cause\w+ +Cause = "(\w+)"`, "verify", "errors.go"),
		"cache":     found(`count\(stats\.\w+, "(\w+)"`, "caddymodule", "metrics_live.go"),
		"result":    found(`count\(stats\.\w+, "\w+", "(\w+)"`, "caddymodule", "metrics_live.go"),
		"state":     found(`gauge\(c\.gateways, \w+, "(\w+)"`, "caddymodule", "metrics_live.go"),
	}
	text := section(t, "Metrics")
	listed := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\* `(\\w+)`:(.*(?:\n  .*)*)$").FindAllStringSubmatch(text, -1) {
		listed[m[1]] = nil
		for _, value := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(m[2], -1) {
			listed[m[1]] = append(listed[m[1]], value[1])
		}
	}
	set := func(of []string) []string {
		of = slices.Clone(of)
		slices.Sort(of)
		return slices.Compact(of)
	}
	for label, want := range values {
		if label != "reason" && len(want) == 0 {
			t.Errorf("the source has no values of %s where this test looks for them", label)
		}
		if got, ok := listed[label]; !ok || !slices.Equal(set(got), set(want)) {
			t.Errorf("README.md lists %q for %s, the source has %q", set(got), label, set(want))
		}
	}
	for name, row := range rows(text) {
		for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(row[2], -1) {
			if _, ok := values[m[1]]; !ok {
				t.Errorf("README.md does not say what values the label %s of %s has", m[1], name)
			}
		}
	}

	asked, alerts := 0, read(t, "examples", "observability", "alerts.yml")
	for _, m := range regexp.MustCompile(`caddy_icws_(\w+)\{([^}]+)\}`).FindAllStringSubmatch(alerts, -1) {
		for _, matcher := range regexp.MustCompile(`(\w+)=~?"([^"]*)"`).FindAllStringSubmatch(m[2], -1) {
			allowed := values[matcher[1]]
			switch {
			case matcher[1] == "reason":
				allowed = reasons
			case matcher[1] == "outcome" && strings.HasPrefix(m[1], "upstream_request_"):
				allowed = ofRequests
			}
			for value := range strings.SplitSeq(matcher[2], "|") {
				if asked++; !slices.Contains(allowed, value) {
					t.Errorf("alerts.yml asks for %s of caddy_icws_%s, whose %s never has that value", value, m[1], matcher[1])
				}
			}
		}
	}
	if asked < 15 {
		t.Errorf("alerts.yml asks for %d values of labels, as far as this test can read it", asked)
	}
}

// TestAdminTable compares the routes.
func TestAdminTable(t *testing.T) {
	source := read(t, "caddymodule", "admin.go")
	documented := section(t, "Admin API")
	endpoints := regexp.MustCompile(`\{http\.Method(\w+), "(/icws/[^"]*)"`).FindAllStringSubmatch(source, -1)
	if len(endpoints) < 9 {
		t.Errorf("the source has %d endpoints", len(endpoints))
	}
	for _, m := range endpoints {
		line := "`" + strings.ToUpper(m[1]) + " " + strings.NewReplacer("{", "<", "}", ">").Replace(m[2]) + "`"
		if !strings.Contains(documented, line) {
			t.Errorf("README.md does not list %s", line)
		}
	}
}

// TestCompatibilityTable compares what the README says of the SDKs with examples/e2e/matrix/pairs.json, which TestSDKMatrix holds
// against npm and against sessions.
func TestCompatibilityTable(t *testing.T) {
	var pairs []struct {
		SDK, Agent, Core, NPM, End, Error, Remedy string
		Takes                                     []string
	}
	if err := json.Unmarshal([]byte(read(t, "examples/e2e/matrix/pairs.json")), &pairs); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, p := range pairs {
		with, npm, end := "`@dfinity/agent` "+p.Agent, "installs", p.End
		if p.Core != "" {
			with = "`@icp-sdk/core` " + p.Core + ": " + strings.Join(p.Takes, ", ")
		}
		if p.NPM != "" {
			npm = "`" + p.NPM + "`"
		}
		if end != "works" {
			end = "`" + end + "`"
		}
		if p.Error != "" {
			end += ", `" + p.Error + "`"
		}
		want = append(want, strings.TrimSpace(fmt.Sprintf("| %s | %s | %s | %s | %s", p.SDK, with, npm, end, p.Remedy))+" |")
	}
	got := regexp.MustCompile(`(?m)^\| \d.*$`).FindAllString(section(t, "Compatibility"), -1)
	if !slices.Equal(got, want) {
		t.Errorf("README.md has\n%s\nit should be\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestCodes compares what the README tells clients to do after each code with the codes that the gateway sends, and with what the
// client of examples/client does.
func TestCodes(t *testing.T) {
	stays := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([0-9, ]+) \| .* \| (stay closed|reconnect)[^|]*\|$`).FindAllStringSubmatch(section(t, "When a session ends"), -1) {
		for code := range strings.SplitSeq(m[1], ", ") {
			stays[code] = m[2] == "stay closed"
		}
	}
	for _, reason := range relay.CloseReasons() {
		if _, listed := stays[fmt.Sprint(reason.Code())]; !listed {
			t.Errorf("README.md does not say what to do after %d", reason.Code())
		}
	}
	client := map[string]string{"4000": "soon"} // what its own codes say is in its tests
	for _, m := range regexp.MustCompile(`(?m)^  (\d{4}): \["\w+", "(never|soon|later)"\],$`).FindAllStringSubmatch(read(t, "examples/client/src/reasons.ts"), -1) {
		client[m[1]] = m[2]
	}
	for code, stay := range stays {
		if client[code] == "" || (client[code] == "never") != stay {
			t.Errorf("after %s README.md says that a client stays closed: %t, and the client comes back: %q", code, stay, client[code])
		}
	}
}

// writeKey writes a private key, PKCS#8 as that of the Rust gateway, and returns its file.
func writeKey(t *testing.T) string {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key_pair")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestCaddyfiles adapts and validates every Caddyfile of the examples. Those in Markdown are looked at by .ci/readme.
func TestCaddyfiles(t *testing.T) {
	files := map[string]string{}
	for _, pattern := range []string{"*/Caddyfile", "*/Caddyfile.*", "*/*.caddyfile"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			files[path] = read(t, "examples", path)
		}
	}
	t.Setenv("ICP_ROOT_KEY", hex.EncodeToString(verify.MainnetRootKey())) // any key is one of a network of one's own
	if files["Caddyfile.example"] = read(t, "Caddyfile.example"); !strings.Contains(files["Caddyfile.example"], "# root_key {env.ICP_ROOT_KEY}") {
		t.Error("Caddyfile.example does not show how to name the key of a local network")
	}
	for name, network := range map[string]string{"icp": "http://localhost:8000", "icp, as api_url is spelled": "http://localhost:8000/", "dfx": "http://127.0.0.1:4943"} {
		for _, key := range []string{"fetch", "{env.ICP_ROOT_KEY}"} {
			files[name+", "+key] = fmt.Sprintf("http://localhost:1 {\n\ticws /ws bkyz2-fmaaa-aaaaa-qaaaq-cai {\n\t\tnetwork %s\n\t\troot_key %s\n\t}\n}\n", network, key)
		}
	}
	key := writeKey(t) // for those that name a key in a container
	for name, text := range files {
		t.Run(name, func(t *testing.T) {
			text = strings.ReplaceAll(text, "/data/key_pair", key)
			config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range warnings {
				t.Error(w)
			}
			// Provisions every module and starts nothing. Storage moves to where a test may write.
			var c caddy.Config
			if err := json.Unmarshal(config, &c); err != nil {
				t.Fatal(err)
			}
			if c.StorageRaw, err = json.Marshal(map[string]string{"module": "file_system", "root": t.TempDir()}); err != nil {
				t.Fatal(err)
			}
			if err := caddy.Validate(&c); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCommentedSettings takes the sign away from each line of Caddyfile.example that is one setting, as its reader would.
func TestCommentedSettings(t *testing.T) {
	settings, found := rows(section(t, "Settings")), 0
	for line := range strings.Lines(read(t, "Caddyfile.example")) {
		line, ok := strings.CutPrefix(line, "\t\t# ")
		name, _, _ := strings.Cut(line, " ")
		if !ok || settings[name] == nil {
			continue
		}
		found++
		network := "mainnet"
		if name == "root_key" {
			network = "http://localhost:8000"
		}
		text := fmt.Sprintf("http://localhost:1 {\n\ticws /ws bkyz2-fmaaa-aaaaa-qaaaq-cai {\n\t\tnetwork %s\n\t\t%s\t}\n}\n", network, line)
		if _, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if found < 5 {
		t.Errorf("%d settings in comments", found)
	}
}

// TestBuildVersions holds the versions in the README's build commands against go.mod. The commands themselves are run by
// .ci/readme.
func TestBuildVersions(t *testing.T) {
	gomod, build := read(t, "go.mod"), section(t, "Build")
	for module, pattern := range map[string]string{
		"github.com/caddyserver/caddy/v2": `xcaddy build (v\S+)`,
		"github.com/caddyserver/xcaddy":   `cmd/xcaddy@(v[^\s` + "`" + `]+)`,
	} {
		named := regexp.MustCompile(pattern).FindAllStringSubmatch(build, -1)
		if len(named) == 0 {
			t.Errorf("README.md names no version of %s", module)
		}
		for _, m := range named {
			if !regexp.MustCompile(`(?m)^\s` + regexp.QuoteMeta(module+" "+m[1]) + `( // indirect)?$`).MatchString(gomod) {
				t.Errorf("README.md builds with %s %s, which go.mod does not require", module, m[1])
			}
		}
	}
	var recipe struct {
		CaddyVersion string `json:"caddy_version"`
		Plugins      []struct {
			ModulePath string `json:"module_path"`
		} `json:"plugins"`
	}
	if err := json.Unmarshal([]byte(read(t, "xcaddy.json")), &recipe); err != nil || len(recipe.Plugins) != 1 {
		t.Fatalf("xcaddy.json: %v, %+v", err, recipe)
	}
	if line := "xcaddy build " + recipe.CaddyVersion + " --with " + recipe.Plugins[0].ModulePath + "\n"; !strings.Contains(build, line) {
		t.Errorf("README.md does not build as xcaddy.json says: %s", line)
	}
}

// TestDeployed holds the files of examples/deploy against each other: whatever stops a gateway waits until it has drained, and
// Kubernetes runs the instance that TestDeployedInstance runs.
func TestDeployed(t *testing.T) {
	number := func(text, pattern string) time.Duration {
		t.Helper()
		m := regexp.MustCompile("(?m)^\\s*" + pattern + "$").FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("no line %s", pattern)
		}
		d, err := time.ParseDuration(m[1] + "s")
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	kubernetes := read(t, "examples/deploy/kubernetes.yaml")
	grace := number(read(t, "Caddyfile.example"), `grace_period (\d+)s`)
	for _, file := range []string{"Caddyfile.cdn", "Caddyfile.compose", "Caddyfile.instance"} {
		if got := number(read(t, "examples/deploy", file), `grace_period (\d+)s`); got != grace {
			t.Errorf("%s has a grace_period of %s, Caddyfile.example of %s", file, got, grace)
		}
	}
	needed := relay.DefaultDrainTimeout + 2*time.Second + grace
	preStop := number(kubernetes, `command: .*sleep (\d+)"\]`) + number(kubernetes, `command: \[sh, -c, "sleep (\d+);.*`)
	for name, got := range map[string]time.Duration{
		"caddy.service":                  number(read(t, "examples/deploy/caddy.service"), `TimeoutStopSec=(\d+)s`),
		"the drop-in":                    number(read(t, "examples/deploy/caddy.service.d/icws.conf"), `TimeoutStopSec=(\d+)s`),
		"compose.yaml":                   number(read(t, "examples/deploy/compose.yaml"), `stop_grace_period: (\d+)s`),
		"kubernetes.yaml, after preStop": number(kubernetes, `terminationGracePeriodSeconds: (\d+)`) - preStop,
	} {
		if got <= needed {
			t.Errorf("%s waits for %s, drain_timeout, 2 s and grace_period are %s", name, got, needed)
		}
	}
	if preStop < relay.DefaultDrainTimeout {
		t.Errorf("preStop lasts %s, a drain %s", preStop, relay.DefaultDrainTimeout)
	}
	instance := regexp.MustCompile(`(?m)^(.)`).ReplaceAllString(read(t, "examples/deploy/Caddyfile.instance"), "    $1")
	if !strings.Contains(kubernetes, "  Caddyfile: |\n"+instance+"---\n") {
		t.Error("kubernetes.yaml does not have Caddyfile.instance as it stands")
	}
	version := regexp.MustCompile(`xcaddy build v(\S+)`).FindStringSubmatch(section(t, "Build"))[1]
	if n := strings.Count(read(t, "examples/deploy/README.md"), "FROM caddy:"+version); n != 2 {
		t.Errorf("%d images of Caddy %s in the README of examples/deploy", n, version)
	}
	if !strings.Contains(read(t, "examples/deploy/Containerfile"), "ARG CADDY="+version+"\n") {
		t.Errorf("the Containerfile is not on Caddy %s", version)
	}
}
