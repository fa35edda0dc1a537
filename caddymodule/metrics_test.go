package caddymodule

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/icws-gateway/caddy-icws/relay"
)

// TestHostLabels makes sure that hosts that the network lists have label values of their own, and that there is an end to
// them.
func TestHostLabels(t *testing.T) {
	m := newGatewayMetrics(&relay.Config{Hosts: []*url.URL{{Scheme: "https", Host: "icp-api.io"}}})
	for i := range maxHostLabels - 1 {
		if name := fmt.Sprintf("bn%d.example", i); m.hosts.label(name) != name {
			t.Fatalf("host %d has no label of its own", i)
		}
	}
	if got := m.hosts.label("bn.late.example"); got != "_other" {
		t.Errorf("one host more has the label %q", got)
	}
	for _, name := range []string{"icp-api.io", "bn0.example"} {
		if got := m.hosts.label(name); got != name {
			t.Errorf("%s has the label %q by now", name, got)
		}
	}
}
