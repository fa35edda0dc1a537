package relay

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/icws-gateway/caddy-icws/examples/recorded"
	"github.com/icws-gateway/caddy-icws/relay/internal/queue"
	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
)

// recordedRefusals says what each recorded answer means.
var recordedRefusals = map[string]refusalCase{
	"error-400-canister_not_found.txt":              gone,
	"derived-error-400-subnet_not_found.txt":        gone,
	"error-400-unable_to_parse_cbor.txt":            {reason: NotAnEnvelope, text: "ws_open: the IC cannot read it: Failed to parse", poll: "refuses the requests of this gateway, ask its operator: Failed"},
	"error-429-load_shed-2024.txt":                  slower,
	"derived-error-429-load_shed.txt":               slower,
	"derived-gateway-429-rate_limited.json":         slower,
	"derived-replica-429-overloaded.txt":            slower,
	"error-503-no_healthy_nodes.txt":                {passing: true, taken: true, reason: Outage, text: "subnet is being upgraded", poll: "subnet is being upgraded"},
	"derived-error-403-forbidden.txt":               barred,
	"derived-error-408-body_timed_out.txt":          {passing: true, reason: Outage, text: "cannot be reached", poll: "cannot be reached"},
	"derived-error-413-payload_too_large.txt":       {reason: TooLarge, text: "larger than the IC accepts", poll: "refuses the requests of this gateway"},
	"derived-error-503-replica_error.txt":           down503,
	"derived-error-503-service_unavailable.txt":     down503,
	"derived-replica-503-unhealthy.txt":             down503,
	"derived-replica-503-certified-state.txt":       down503,
	"derived-replica-503-ingress-pool.txt":          down503,
	"derived-replica-400-expiry.txt":                {reason: BadExpiry, text: "ws_open: the IC refused it: Invalid request expiry", poll: "refuses the requests of this gateway, ask its operator: Invalid request expiry"},
	"derived-replica-400-canister-mismatch.txt":     {reason: BadSender, text: "ws_open: the IC refused it: Specified CanisterId", poll: "refuses the requests of this gateway, ask its operator: Specified"},
	"derived-replica-403-read_state-not-caller.txt": barred,
	"derived-replica-404-read_state-path.txt":       {reason: BadSender, text: "Invalid path", poll: "Invalid path"},
}

// refusalCase is what a refusal means for a ws_open and for a poll.
type refusalCase struct {
	passing bool        // the same request is sent again, elsewhere or later
	taken   bool        // the network may have the call all the same
	final   bool        // polls need not go on
	reason  CloseReason // of the session whose ws_open it was, if it stays like this
	text    string      // in what it is told
	poll    string      // in what the canister's sessions are told if polls go on being refused
}

var (
	gone    = refusalCase{reason: CanisterUnusable, text: "ws_open: canister does not exist", final: true, poll: "canister does not exist"}
	slower  = refusalCase{passing: true, reason: Outage, text: "asks for fewer requests", poll: "asks for fewer requests"}
	barred  = refusalCase{passing: true, reason: Outage, text: "forbids requests to this canister for now", poll: "forbids requests to this canister for now"}
	down503 = refusalCase{passing: true, taken: true, reason: Outage, text: "cannot be reached", poll: "cannot be reached"}
)

// check sends a ws_open and a poll to a network that answers so.
func (want refusalCase) check(t *testing.T, status int, cause, body string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := gatewayAnswered(t, status, cause, body)
		_, err := g.up.Call(t.Context(), testPrincipal(1), []byte("call"), nil, upstream.Stages{})
		a := failedAttempt(methodOpen, err)
		switch {
		case a.last == nil:
			t.Fatalf("a call brings %v", err)
		case a.last.reason != want.reason || !strings.Contains(a.last.text, want.text):
			t.Errorf("a call ends with %s %q, want %s %q", a.last.reason, a.last.text, want.reason, want.text)
		case a.taken != want.taken || upstream.IsTransient(err) != want.passing || (a.refusedBy == nil) != want.passing || (a.closing == nil) != want.passing:
			t.Errorf("of a call: may be taken %v, may pass %v, want %v and %v", a.taken, upstream.IsTransient(err), want.taken, want.passing)
		}
		g = gatewayAnswered(t, status, cause, body)
		_, err = g.up.Query(t.Context(), upstream.Question{Canister: testPrincipal(1), Class: upstream.ClassBusy})
		_, cl := explain(err)
		kind := failureOf(&pollResult{err: err}).Kind
		final := kind == queue.Never || kind == queue.NotFound
		if final != want.final || !strings.Contains(cl.text, want.poll) {
			t.Errorf("polls end with %s %q, final %v, want %q, final %v", cl.reason, cl.text, final, want.poll, want.final)
		}
		if cl.reason != Outage && cl.reason != CanisterUnusable {
			t.Errorf("polls of the gateway itself end sessions with %s", cl.reason)
		}
	})
}

// Every recorded answer of the network that is not 200 means what it says, whether its cause comes in the header, as
// boundary nodes send it, or only in the body, as the HTTP gateway leaves it.
func TestRecordedRefusals(t *testing.T) {
	headerCauses := regexp.MustCompile(`[a-z_]{3,}`) // in a list that ends with "or"
	read := 0
	for _, a := range recorded.All(t, "..") {
		if a.Kind != "text" {
			continue
		}
		read++
		body := a.Bytes(t)
		t.Run(a.File, func(t *testing.T) {
			if a.Status == http.StatusAccepted {
				return // package upstream reads it
			}
			want, decided := recordedRefusals[a.File]
			if !decided {
				t.Fatal("nobody has decided what it means")
			}
			want.check(t, a.Status, "", string(body))
			_, list, _ := strings.Cut(a.Headers, "x-ic-error-cause: ")
			list, _, _ = strings.Cut(list, " where")
			list, _, _ = strings.Cut(list, " (")
			for _, cause := range headerCauses.FindAllString(list, -1) {
				want.check(t, a.Status, cause, string(body))
			}
		})
	}
	if read < 18 {
		t.Errorf("%d answers were read, want at least the derived ones", read)
	}
}
