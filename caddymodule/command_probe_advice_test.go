package caddymodule

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// TestProbeAdvice checks the last line of a session that did not open.
func TestProbeAdvice(t *testing.T) {
	late := &client.CloseError{Code: client.CodeProtocol, Text: client.TextOpenTimeout, Local: true, Err: context.DeadlineExceeded}
	seen := "the gateway's polls fail"
	for name, test := range map[string]struct {
		p    *prober
		err  error
		want string
	}{
		"before the handshake": {&prober{}, late, "the gateway is too slow"},
		"nothing seen":         {&prober{openSent: time.Now()}, late, "nothing came back: look at the gateway's log"},
		"polls":                {&prober{openSent: time.Now()}, late, "nothing came back; the gateway's polls fail"},
		"interface":            {&prober{openSent: time.Now(), lacks: "lacks ws_open"}, late, "lacks ws_open"},
		"interface, closed":    {&prober{lacks: "lacks ws_open"}, &client.CloseError{Code: 1011}, "lacks ws_open"},
		"closed":               {&prober{}, &client.CloseError{Code: 1011}, "is it an IC WebSocket canister"},
		"outage":               {&prober{}, &client.CloseError{Code: 1012}, "try again later"},
		"older layout":         {&prober{}, &client.CloseError{Code: 1008, Text: relay.ClientOutdated.Text()}, "with ranges=sharded behind a question mark"},
	} {
		test.p.out = new(bytes.Buffer)
		if name == "polls" {
			test.p.seen.Store(&seen)
		}
		err := test.p.explain(test.err)
		if !errors.Is(err, test.err) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	for _, test := range []struct {
		status int
		kind   string
		want   string
	}{
		{200, "text/html; charset=utf-8", "give icws a block of its own, `handle /a/ws { icws ... }`, and put the lines that serve pages (try_files, rewrite, respond, file_server) into `handle { ... }`"},
		{404, "text/html", "`handle /a/ws { icws ... }`"},
		{200, "", "does the icws matcher cover it"},
		{404, "text/plain", "does the icws matcher cover it"},
		{403, "", "try --origin"},
		{403, "text/html", "try --origin; the answer is a page, so look also at what stands in front of the gateway (Server: \"cloud\")"},
		{503, "text/html", "Retry-After \"7\"; the answer is a page"},
		{400, "", "does it pass WebSocket upgrades on?"},
		{520, "text/html", "does it pass WebSocket upgrades on?; the answer is a page"},
		{301, "text/html", "it redirects to \"https://b.example/\""},
		{502, "text/html", "a proxy in front does not reach the gateway"},
	} {
		answer := &client.UpgradeError{Status: test.status, Header: http.Header{"Content-Type": {test.kind}, "Server": {"cloud"}, "Retry-After": {"7"}, "Location": {"https://b.example/"}}}
		p := &prober{out: new(bytes.Buffer), url: "wss://a.example/a/ws?ranges=sharded"}
		if err := p.explain(answer); !strings.Contains(err.Error(), test.want) {
			t.Errorf("%d %s: %v, want %q", test.status, test.kind, err, test.want)
		}
	}
	// What the gateway has said so well that a general advice would contradict it stands alone.
	broke := &client.CloseError{Code: 1013, Text: "ws_get_messages: canister is out of cycles, its owner must top it up"}
	if err := (&prober{out: new(bytes.Buffer)}).explain(broke); err.Error() != broke.Error() {
		t.Error(err)
	}
	refused := &client.CloseError{Code: 1008, Text: relay.CanisterNotAllowed.Text()}
	if err := (&prober{out: new(bytes.Buffer), lacks: "lacks ws_open"}).explain(refused); strings.Contains(err.Error(), "lacks") {
		t.Error(err)
	}
}
