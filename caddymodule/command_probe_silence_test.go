package caddymodule

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

// TestProbeSilence probes a gateway whose first message does not come: it says within moments what the network and the
// gateway know about it.
func TestProbeSilence(t *testing.T) {
	t.Parallel()
	w, port := newWorld(t, 1), freeport.ForTest(t)
	caddy := runCaddy(t, "", w.site(port, 0))
	url := fmt.Sprintf("ws://127.0.0.1:%d/ws", port)
	for _, test := range []struct {
		name, address string
		fault         func(r *localnet.Request) localnet.Fault
		want          []string
	}{
		{"all polls fail", strings.TrimPrefix(caddy.admin, "http://"), func(r *localnet.Request) (f localnet.Fault) {
			if r.Endpoint == "query" {
				f = localnet.Fault{Status: 503, Body: []byte("error: no_healthy_nodes")}
			}
			return f
		}, []string{
			"note  ws_open      the network does not know it: it has not taken it from the gateway",
			"note  query        a poll of our own fails, too: v2 of 127.0.0.1", "no_healthy_nodes",
			"note  polls        the gateway's polls fail since ", "the last with: 127.0.0.1",
		}},
		{"calls are refused", strings.TrimPrefix(caddy.admin, "http://"), func(r *localnet.Request) (f localnet.Fault) {
			if r.Endpoint == "call" {
				f = localnet.Fault{Status: 503, Body: []byte("error: load_shed")}
			}
			return f
		}, []string{
			"note  query        a poll of our own is answered",
			"note  polls        the gateway's polls are answered, but not its calls, the last with: 127.0.0.1", "load_shed",
		}},
		{"something that cannot be read", caddy.admin + "/", func(r *localnet.Request) (f localnet.Fault) {
			if r.Endpoint == "query" {
				f.Edit = func(body []byte) []byte { return append([]byte{0xd9, 0xd9, 0xf7, 0x9f}, body...) }
			}
			return f
		}, []string{"note  query        a poll of our own fails, too: reading query answer", "note  polls        the gateway's polls fail since ", "reading query answer"}},
		{"an admin endpoint elsewhere", fmt.Sprintf("127.0.0.1:%d", freeport.ForTest(t)), func(r *localnet.Request) localnet.Fault {
			return localnet.Fault{Drop: r.Endpoint == "query"}
		}, []string{"note  polls        unknown: the gateway's admin endpoint is not at 127.0.0.1"}},
		{"a network that hangs", strings.TrimPrefix(caddy.admin, "http://"), func(r *localnet.Request) (f localnet.Fault) {
			if r.Endpoint == "read_state" {
				f.Delay = time.Hour
			}
			return localnet.Fault{Delay: f.Delay, Drop: r.Endpoint == "query"}
		}, []string{"note  ws_open      its outcome cannot be read", "note  query        a poll of our own fails, too", "note  polls        the gateway's polls fail since "}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.net.SetFaults(test.fault)
			defer w.net.SetFaults(nil)
			ctx, seen := context.WithCancel(t.Context())
			defer seen()
			out := &report{want: test.want, done: seen}
			if err := w.probe(t, ctx, out, url, w.canisters[0].String(), test.address); err == nil {
				t.Error("there is a session")
			}
			if ctx.Err() == nil {
				t.Errorf("the report lacks one of %q:\n%s", test.want, out.String())
			}
		})
	}
}

// TestProbeSharedPrincipal probes one of two gateways of a process that have the same principal and poll the same canister:
// that the polls of the other are answered does not hide that this one's fail.
func TestProbeSharedPrincipal(t *testing.T) {
	t.Parallel()
	w, good, bad := newWorld(t, 1), freeport.ForTest(t), freeport.ForTest(t)
	second, err := w.net.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.net.SetFaults(func(r *localnet.Request) localnet.Fault {
		return localnet.Fault{Drop: r.Boundary == second && r.Endpoint != "status"}
	})
	broken := strings.Replace(w.site(bad, 0), w.url, second, 1)
	caddy := runCaddy(t, "", w.site(good, 0)+broken)
	w.open(t, fmt.Sprintf("ws://127.0.0.1:%d/ws", good), 0)
	ctx, seen := context.WithCancel(t.Context())
	defer seen()
	out := &report{want: []string{"note  polls        the gateway's polls fail since "}, done: seen}
	if err := w.probe(t, ctx, out, fmt.Sprintf("ws://127.0.0.1:%d/ws", bad), w.canisters[0].String(), strings.TrimPrefix(caddy.admin, "http://")); err == nil {
		t.Error("there is a session")
	}
	if ctx.Err() == nil {
		t.Errorf("no word of the polls that fail:\n%s", out.String())
	}
}
