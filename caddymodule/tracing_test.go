package caddymodule

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
)

// receiver collects spans as an OpenTelemetry collector does (OTLP over HTTP).
type receiver struct {
	mu    sync.Mutex
	spans []*tracepb.Span
}

func (c *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	// An export request is the same message on the wire: resource spans in field 1.
	var data tracepb.TracesData
	if err == nil {
		err = proto.Unmarshal(body, &data)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		http.Error(w, fmt.Sprint(r.URL.Path, err), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range data.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			c.spans = append(c.spans, scope.Spans...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (c *receiver) named(name string) []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*tracepb.Span
	for _, s := range c.spans {
		if s.Name == name {
			out = append(out, s)
		}
	}
	return out
}

// TestTracing makes sure that the spans of an open, a relay and a delivery arrive and belong to the opening request.
func TestTracing(t *testing.T) {
	spans := new(receiver)
	collector := httptest.NewServer(spans)
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
	w, port := newWorld(t, 1), freeport.ForTest(t)
	site := w.site(port, 0, "drain_timeout 100ms")
	mustLoad(t, strings.Replace(site, "{\n", "{\n\ttracing {\n\t\tspan opening\n\t}\n", 1))

	url := fmt.Sprintf("ws://127.0.0.1:%d/ws", port)
	c := w.open(t, url, 0)
	echo(t, c, "a payload that is not in any span")
	// A session of a request that is not sampled makes no spans.
	eventually(t, "the spans", func() bool {
		return len(spans.named("opening")) == 1 && len(spans.named("icws.open")) == 1 && len(spans.named("icws.call")) == 1 && len(spans.named("icws.deliver")) >= 2
	})
	root := spans.named("opening")[0]
	for _, name := range []string{"icws.open", "icws.call", "icws.deliver"} {
		for _, s := range spans.named(name) {
			if !bytes.Equal(s.TraceId, root.TraceId) || !bytes.Equal(s.ParentSpanId, root.SpanId) {
				t.Errorf("%s is %s/%s, not below %s/%s", name, hex.EncodeToString(s.TraceId), hex.EncodeToString(s.ParentSpanId),
					hex.EncodeToString(root.TraceId), hex.EncodeToString(root.SpanId))
			}
			if s.EndTimeUnixNano < s.StartTimeUnixNano {
				t.Errorf("%s ends before it starts", name)
			}
			if strings.Contains(s.String(), "payload") || strings.Contains(s.String(), fmt.Sprint(c.Key().Nonce)) {
				t.Errorf("%s shows what it must not: %s", name, s)
			}
		}
	}
	found := false
	for _, a := range spans.named("icws.call")[0].Attributes {
		found = found || (a.Key == "canister_id" && a.Value.GetStringValue() == w.canisters[0].String())
	}
	if !found {
		t.Errorf("attributes of icws.call: %v", spans.named("icws.call")[0].Attributes)
	}
}
