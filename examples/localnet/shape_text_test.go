package localnet

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// plainText leaves out of a text what differs from case to case: principals,
// times, and how many blanks there are.
func plainText(s string) string {
	s = regexp.MustCompile(`\b[a-z0-9]{5}(-[a-z0-9]{3,5})+\b`).ReplaceAllString(s, "PRINCIPAL")
	s = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? UTC`).ReplaceAllString(s, "TIME")
	return regexp.MustCompile(` +`).ReplaceAllString(s, " ")
}

// The texts of refusals with their status, type and headers, as the HTTP
// gateway lets them through and as a boundary node says them itself.
func testTextShapes(t *testing.T) {
	for _, direct := range []bool{false, true} {
		s := newShaping(t, Options{Direct: direct, Latency: time.Hour, Block: time.Hour, SyncWait: time.Millisecond})
		post := func(path string, body []byte) response { return post(s, s.net, path, body) }
		failing := func(f Fault) response {
			s.net.SetFaults(func(*Request) Fault { return f })
			defer s.net.SetFaults(nil)
			return s.ask("v2", "query", s.running, "echo", "")
		}
		limited := GatewayError("rate_limited")
		limited.RetryAfter = 2 * time.Second
		call := envelope(t, content(s.net, s.who, "call", s.running, "echo", nil), s.who, nil)
		asked, err := parseEnvelope(call)
		if err != nil {
			t.Fatal(err)
		}
		expired := content(s.net, s.who, "query", s.running, "echo", nil)
		expired["ingress_expiry"] = uint64(1)
		stranger := canisterID(0x7000000000000000)
		accepted, again := post(canisterPath("v4", s.running, "call"), call), post(canisterPath("v3", s.running, "call"), call)
		for _, tt := range []struct {
			file, cause string // none: the replica's word; empty: the HTTP gateway's
			got         response
		}{
			{"error-400-canister_not_found.txt", "canister_not_found", s.ask("v2", "query", stranger, "echo", "")},
			{"derived-error-400-subnet_not_found.txt", "subnet_not_found", s.read("/api/v2/subnet/"+stranger.String()+"/read_state", [][]byte{[]byte("time")})},
			{"error-400-unable_to_parse_cbor.txt", "unable_to_parse_cbor", post(canisterPath("v2", s.running, "query"), mustCBOR(t, map[string]any{"sender_sig": []byte{1}}))},
			{"derived-error-413-payload_too_large.txt", "payload_too_large", post(canisterPath("v2", s.running, "query"), make([]byte, maxBody+1))},
			{"error-503-no_healthy_nodes.txt", "no_healthy_nodes", failing(BoundaryError("no_healthy_nodes"))},
			{"derived-error-408-body_timed_out.txt", "body_timed_out", failing(BoundaryError("body_timed_out"))},
			{"derived-error-403-forbidden.txt", "forbidden", failing(BoundaryError("forbidden"))},
			{"derived-error-429-load_shed.txt", "load_shed", failing(BoundaryError("load_shed"))},
			{"derived-error-503-replica_error.txt", "replica_timeout", failing(BoundaryError("replica_timeout"))},
			{"derived-error-503-service_unavailable.txt", "no_routing_table", failing(BoundaryError("no_routing_table"))},
			{"derived-replica-202-timeout.txt", "none", accepted},
			{"derived-replica-202-duplicate.txt", "none", again},
			{"derived-replica-400-expiry.txt", "none", post(canisterPath("v3", s.running, "query"), envelope(t, expired, s.who, nil))},
			{"derived-replica-400-canister-mismatch.txt", "none", post(canisterPath("v2", s.stopped, "query"), envelope(t, content(s.net, s.who, "query", s.running, "echo", nil), s.who, nil))},
			{"derived-replica-403-read_state-not-caller.txt", "none", s.read(canisterPath("v3", s.running, "read_state"), [][]byte{[]byte("request_status"), asked.id[:]})},
			{"derived-replica-404-read_state-path.txt", "none", s.read(canisterPath("v3", s.running, "read_state"), [][]byte{[]byte("secrets")})},
			{"derived-gateway-429-rate_limited.json", "", failing(limited)},
		} {
			if b := s.artefact(tt.file); b != nil && plainText(string(b)) != plainText(string(tt.got.body)) {
				t.Errorf("%s: %q, want %q", tt.file, tt.got.body, b)
			}
			if !strings.Contains(tt.file, fmt.Sprintf("-%d-", tt.got.status)) {
				t.Errorf("%s: status %d", tt.file, tt.got.status)
			}
			want := http.Header{"Content-Type": {"text/plain; charset=utf-8"}}
			switch {
			case strings.HasSuffix(tt.file, ".json"):
				want.Set("Content-Type", "application/json")
				want.Set("Retry-After", "2")
			case strings.Contains(tt.file, "-202-"):
				want.Set("Content-Type", "application/cbor")
			}
			if direct && tt.cause != "" {
				want.Set("X-Ic-Error-Cause", tt.cause)
			}
			for _, name := range []string{"Content-Type", "Retry-After", "X-Ic-Error-Cause"} {
				if tt.got.header.Get(name) != want.Get(name) {
					t.Errorf("%s, asked itself %t: %s is %q, want %q", tt.file, direct, name, tt.got.header.Get(name), want.Get(name))
				}
			}
			if !direct && tt.got.header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%s: pages may not read it", tt.file)
			}
		}
		// Successes carry a cause as well: none.
		want := map[bool]string{true: "none"}[direct]
		if r := s.ask("v2", "query", s.running, "echo", ""); r.header.Get("X-Ic-Error-Cause") != want || r.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%v", r.header)
		}
		// Paths and methods that nobody serves are answered without a word.
		if r := post("/api/v5/canister/"+s.running.String()+"/call", call); r.status != 404 || len(r.body) > 0 || r.header.Get("X-Ic-Error-Cause") != "" {
			t.Errorf("%+v", r)
		}
	}
}
