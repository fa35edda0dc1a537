package caddymodule

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// TestCaddyfileExample adapts and validates the example in the root of the repository, and makes sure that it shows
// every setting.
func TestCaddyfileExample(t *testing.T) {
	raw, err := os.ReadFile("../Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	for name := range subdirectives {
		if !strings.Contains(string(raw), "\t\t"+name+" ") && !strings.Contains(string(raw), "\t\t# "+name+" ") && !strings.Contains(string(raw), ":"+name+" ") {
			t.Errorf("the example does not show %s", name)
		}
	}
	if formatted := caddyfile.Format(raw); string(formatted) != string(raw) {
		t.Errorf("run caddy fmt on the example; formatted:\n%s", formatted)
	}
	adapted, err := adapt(string(raw))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate(adapted); err != nil {
		t.Fatal(err)
	}

	// What it shows as defaults are the defaults.
	shown, _ := json.Marshal(findHandler(t, adapted))
	var h Handler
	if err := json.Unmarshal(shown, &h); err != nil {
		t.Fatal(err)
	}
	n, err := resolveNetwork(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	var unset Handler
	left, right := h.relayConfig(n), unset.relayConfig(n)
	a, err := poolKey(&left, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := poolKey(&right, nil)
	if err != nil {
		t.Fatal(err)
	}
	if a != b {
		t.Errorf("a setting of the example is not the default: %+v, %+v", left, right)
	}
	if !reflect.DeepEqual(h.HandlerSettings.policy(nil, false), unset.HandlerSettings.policy(nil, false)) {
		t.Errorf("a limit of the example is not the default: %+v", h.HandlerSettings.policy(nil, false))
	}
}
