//go:build e2e

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/examples/internal/chromium"
	"github.com/icws-gateway/caddy-icws/examples/private-chat/tap"
)

// secret is what members say to each other. No eight letters in a row of it are in a text of ours.
const secret = "violet otters juggle lanterns"

// heap is all that was to be seen somewhere, by where that was. It is safe for concurrent use.
type heap struct {
	mu   sync.Mutex
	seen map[string][]byte
}

func (h *heap) add(where string, b []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen[where] = append(append(h.seen[where], b...), '\n')
}

// evidence are the places that are looked at, with words that each has in any case: a place where nothing arrives proves nothing.
var evidence = map[string]string{
	string(tap.FromClient):           "ws_message",
	string(tap.FromGateway):          "certificate",
	string(tap.ToNetwork):            "ws_get_messages",
	string(tap.FromNetwork):          "replied",
	"log":                            "session closed",
	"trace":                          "icws.call",
	"/metrics":                       "caddy_icws_",
	"/config/":                       "icws_tap",
	"/icws/status":                   "gateways",
	"/icws/gateways":                 "canister",
	"/icws/canisters":                "canister_id",
	"/icws/sessions":                 "canister_id",
	"/icws/health/live":              "{",
	"/icws/":                         "/icws/closes",
	"/icws/closes":                   "[",
	"/icws/health/ready":             "{",
	"/debug/pprof/goroutine?debug=2": "goroutine",
	"/debug/vars":                    "cmdline",
}

// TestNothingReadable has two members chat and looks at everything that is to be seen of it: every frame in both directions, what the
// gateway asks of the network and is told, every log line, the metrics, the traces, and the answers of the admin endpoint. What they
// say is nowhere. With encryption switched off it is in the frames and at the network, and still nowhere else.
func TestNothingReadable(t *testing.T) {
	inFrames := []string{string(tap.FromClient), string(tap.FromGateway), string(tap.ToNetwork), string(tap.FromNetwork)}
	for encryption, want := range map[string][]string{"on": nil, "off": inFrames} {
		t.Run("encryption "+encryption, func(t *testing.T) {
			h := watchChat(t, encryption)
			slices.Sort(want)
			f := find(secret)
			var found []string
			for _, where := range slices.Sorted(maps.Keys(evidence)) {
				if !bytes.Contains(h.seen[where], []byte(evidence[where])) {
					t.Errorf("%s: %q is not in %d bytes", where, evidence[where], len(h.seen[where]))
				}
				forms := f.in(h.seen[where])
				t.Logf("%s: %d bytes, the text as %q", where, len(h.seen[where]), forms)
				if forms != nil {
					found = append(found, where)
				}
			}
			if !slices.Equal(found, want) {
				t.Errorf("what was said is in %q, want %q", found, want)
			}
		})
	}
}

// watchChat runs all of it with the compiled canister, has two members chat, and returns what was to be seen.
func watchChat(t *testing.T, encryption string) *heap {
	h := &heap{seen: map[string][]byte{}}
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		h.add("trace", body)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(collector.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
	logFile := filepath.Join(t.TempDir(), "log")

	admin := fmt.Sprintf("localhost:%d", freeport.ForTest(t))
	at, end := start(t, options{
		web: "web", canister: kinds["rust"], latency: 200 * time.Millisecond, admin: admin, logLevel: "DEBUG", logFile: logFile,
		directives: "log\n\ttracing {\n\t\tspan opening\n\t}",
		seen:       func(f tap.Frame) { h.add(string(f.From), f.Bytes) },
	})
	ctx, cancel := context.WithCancel(t.Context())
	asking := make(chan error, 1)
	go func() { asking <- h.ask(ctx, admin) }()
	chromium.Node(t, "web/test/converse.test.mjs", 1, "ICWS_SITE="+at.url, "NODE_EXTRA_CA_CERTS="+at.rootCert, "ICWS_TEXT="+secret, "ICWS_ENCRYPTION="+encryption)
	cancel()
	if err := <-asking; err != nil {
		t.Error(err)
	}
	if err := h.askOnce(t.Context(), admin); err != nil { // once more, when the sessions have ended
		t.Error(err)
	}
	end() // flushes the traces
	log, err := os.ReadFile(logFile)
	if err != nil {
		t.Fatal(err)
	}
	h.add("log", log)
	return h
}

// ask asks the admin endpoint everything, again and again until ctx ends.
func (h *heap) ask(ctx context.Context, admin string) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(300 * time.Millisecond): // not to keep a core busy
		}
		if err := h.askOnce(ctx, admin); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

func (h *heap) askOnce(ctx context.Context, admin string) error {
	for where := range evidence {
		if where[0] != '/' {
			continue
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+where, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s %s", where, resp.Status, body)
		}
		h.add(where, body)
	}
	return nil
}
