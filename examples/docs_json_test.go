package examples

import (
	"encoding/json"
	"reflect"
	"regexp"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/icws-gateway/caddy-icws/caddymodule"
)

// TestJSONExample holds the README's handler in JSON against the Caddyfile in front of it: the gateway reads the same in both.
func TestJSONExample(t *testing.T) {
	m := regexp.MustCompile("(?s)```caddyfile\n(.*?)```\n.*```json\n(.*?)```\n").FindStringSubmatch(section(t, "Settings"))
	if m == nil {
		t.Fatal("README.md has no Caddyfile with JSON behind it in its settings")
	}
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(m[1]), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	type routes []struct{ Handle []json.RawMessage }
	var config struct {
		Apps struct {
			HTTP struct {
				Servers map[string]struct{ Routes routes }
			}
		}
	}
	var site struct{ Routes routes }
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(config.Apps.HTTP.Servers["srv0"].Routes[0].Handle[0], &site); err != nil {
		t.Fatal(err)
	}
	read := func(text []byte) *caddymodule.Handler {
		t.Helper()
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(text, &fields); err != nil || string(fields["handler"]) != `"icws"` {
			t.Fatalf("%v in %s", err, text)
		}
		delete(fields, "handler") // Caddy takes it for itself
		rest, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		h := new(caddymodule.Handler)
		if err := caddy.StrictUnmarshalJSON(rest, h); err != nil {
			t.Fatal(err)
		}
		return h
	}
	if a, b := read(site.Routes[0].Handle[0]), read([]byte(m[2])); !reflect.DeepEqual(a, b) {
		t.Errorf("the Caddyfile says\n%+v %+v\nthe JSON\n%+v %+v", a.GatewaySettings, a.HandlerSettings, b.GatewaySettings, b.HandlerSettings)
	}
}
