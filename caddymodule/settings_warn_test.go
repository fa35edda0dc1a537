package caddymodule

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/icws-gateway/caddy-icws/relay"
)

// TestLimitsAboveAll makes sure that a limit above max_sessions is told of and counts as that.
func TestLimitsAboveAll(t *testing.T) {
	t.Parallel()
	p := (&HandlerSettings{MaxSessions: 10, MaxSessionsPerIP: 11, MaxSessionsPerCanister: 12}).policy(nil, true)
	if p.MaxSessions != 10 || p.MaxSessionsPerIP != 10 || p.MaxSessionsPerCanister != 10 {
		t.Errorf("%+v", p)
	}
	p = (&HandlerSettings{MaxSessionsPerIP: 50000}).policy(nil, true)
	if p.MaxSessionsPerIP != relay.DefaultMaxSessions {
		t.Errorf("%+v", p)
	}
	_, errs, code := command(t, t.TempDir(), nil, "validate", "--config", writeSite(t, "max_sessions 10\n\t\tmax_sessions_per_ip 11\n\t\tmax_sessions_per_canister 10"))
	if code != 0 || !strings.Contains(errs, "max_sessions_per_ip is above max_sessions") || strings.Contains(errs, "max_sessions_per_canister is above") {
		t.Errorf("code %d\n%s", code, errs)
	}
}

// TestClientsWithoutAddress makes sure that the log tells of a Unix socket whose clients are not counted, once, and not where a
// proxy says whose they are.
func TestClientsWithoutAddress(t *testing.T) {
	t.Parallel()
	const warning = "have no address"
	for _, trusted := range []bool{false, true} {
		global := ""
		if trusted {
			global = "servers {\n\t\ttrusted_proxies_unix\n\t}"
		}
		path := socket(t.TempDir() + "/s")
		p := runCaddy(t, global, fmt.Sprintf("http://site.test {\n\tbind unix/%s\n\ticws %s {\n\t\t%s\n\t\tmax_sessions_per_ip 1\n\t}\n}\n", path, testCanister, deadNetwork()))
		header := map[string][]string{"X-Forwarded-For": {"192.0.2.7"}}
		ws, _, _ := path.open(t, "/", header)
		greeted(t, ws)
		second, resp, _ := path.open(t, "/", header)
		if counted := second == nil && resp.StatusCode == 429; counted != trusted {
			t.Errorf("trusted %v: the second opening is counted %v", trusted, counted)
		}
		want := 1
		if trusted {
			want = 0
			eventually(t, "the line of the refusal", func() bool { return strings.Contains(p.log.String(), `"client_ip":"192.0.2.7"`) })
		}
		if n := strings.Count(p.log.String(), warning); n != want {
			t.Errorf("trusted %v: %d warnings", trusted, n)
		}
	}
}

// writeSite writes a Caddyfile with a gateway and returns its path.
func writeSite(t testing.TB, settings string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "Caddyfile")
	text := fmt.Sprintf("{\n\tauto_https off\n}\nhttp://site.test {\n\ticws %s {\n\t\t%s\n\t\t%s\n\t}\n}\n", testCanister, deadNetwork(), settings)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
