package caddymodule

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

// bare is a canister without the CDK, and with whatever interface it publishes.
type bare map[string][]byte

func (bare) Init(*localnet.Env) error                             { return nil }
func (bare) Update(*localnet.Env, string, []byte) ([]byte, error) { return nil, localnet.ErrNoMethod }
func (bare) Query(*localnet.Env, string, []byte) ([]byte, error)  { return nil, localnet.ErrNoMethod }
func (b bare) Metadata() map[string][]byte                        { return b }

// syncBuffer collects output.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// report collects what a probe says and calls done when it has said all of some texts.
type report struct {
	syncBuffer
	want []string
	done func()
}

func (r *report) Write(p []byte) (int, error) {
	n, err := r.syncBuffer.Write(p)
	text := r.String()
	for _, want := range r.want {
		if !strings.Contains(text, want) {
			return n, err
		}
	}
	if r.done != nil {
		r.done()
	}
	return n, err
}

// probe runs a probe in this process.
func (w *world) probe(t *testing.T, ctx context.Context, out *report, url, canister, address string) error {
	t.Helper()
	p := &prober{out: out, url: url, canister: canister, networks: []string{w.url}, address: address, timeout: hung, quiet: 50 * time.Millisecond}
	return p.run(ctx)
}

// TestProbePage probes a site that answers with its page, and URLs that no gateway could have.
func TestProbePage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, "<!doctype html><title>My app</title>")
	}))
	defer site.Close()
	out := new(report)
	err := w.probe(t, t.Context(), out, strings.Replace(site.URL, "http://127.0.0.1", "WS://LocalHost", 1)+"/ws", w.canisters[0].String(), "")
	if err == nil || !strings.Contains(err.Error(), "My app") || !strings.Contains(err.Error(), "give icws a block of its own, `handle /ws { icws ... }`") {
		t.Errorf("%v", err)
	}
	if text := out.String(); !strings.Contains(text, "ok    name         localhost is") || !strings.Contains(text, "FAIL  upgrade      HTTP status 200") {
		t.Errorf("said:\n%s", text)
	}
	for url, want := range map[string]string{
		"ws://a..b/ws":     "its host \"a..b\" has an empty part",
		"ws://:80/ws":      "has an empty part",
		"ws://127.1/ws":    "is not an IPv4 address like 127.0.0.1",
		"https://a.io/ws":  "it starts with wss://",
		"ws://my_host.a b": "is not the URL of a gateway",
	} {
		if err := w.probe(t, t.Context(), new(report), url, w.canisters[0].String(), ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
}
