package relay

import (
	"fmt"
	"strings"
	"testing"

	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
)

// What is not among the recorded answers: older forms, JSON, unknown causes, answers of what stands before the network,
// and bodies that are none of these.
func TestRefusals(t *testing.T) {
	json := func(cause, description string) string {
		return "{\n  \"error_type\": \"" + cause + "\",\n  \"description\": \"" + description + "\",\n  \"details\": null\n}"
	}
	outage := refusalCase{passing: true, reason: Outage, text: "cannot be reached", poll: "cannot be reached"}
	between := func(status int) refusalCase {
		text := fmt.Sprintf("HTTP %d in place of an answer", status)
		return refusalCase{passing: true, reason: Outage, text: text, poll: text}
	}
	down := refusalCase{passing: true, taken: true, reason: Outage, text: "cannot be reached", poll: "cannot be reached"}
	upgrading := refusalCase{passing: true, taken: true, reason: Outage, text: "subnet is being upgraded", poll: "subnet is being upgraded"}
	denied := refusalCase{reason: CanisterUnusable, text: "ws_open: canister is denylisted", final: true, poll: "canister is denylisted"}
	elsewhere := refusalCase{reason: CanisterUnusable, text: "not served by the network's gateways", final: true, poll: "not served by the network's gateways"}
	large := refusalCase{reason: TooLarge, text: "larger", poll: "refuses the requests of this gateway"}
	bad := func(words string) refusalCase {
		return refusalCase{reason: BadSender, text: "ws_open: the IC refused it: " + words, poll: "refuses the requests of this gateway, ask its operator: " + words}
	}
	for _, tt := range []struct {
		name   string
		status int
		header string
		body   string
		want   refusalCase
	}{
		{"header alone", 400, "canister_not_found", "", gone},
		{"header in capitals", 400, " Canister_Not_Found ", "", gone},
		{"header none, in capitals", 400, "None", "error: canister_not_found\ndetails: x", gone},
		{"header counts before the body", 400, "subnet_not_found", "error: load_shed\ndetails: x", gone},
		{"header that cannot be a cause", 400, "canister not found", "Invalid signature", bad("Invalid signature")},
		{"one line without details", 400, "", "error: canister_not_found", gone},
		{"lines that end as in DOS", 400, "", "error: canister_not_found\r\ndetails: x\r\n", gone},
		{"old form", 400, "", "canister_not_found: no such canister\n", gone},
		{"old form, name alone", 400, "", "subnet_not_found\n", gone},
		{"no old form: not a cause", 400, "", "signature: bad", bad("signature: bad")},
		{"route not found", 404, "canister_route_not_found", "", gone},

		{"denylisted", 451, "", json("denylisted", "Access to this resource is denied due to a violation of the code of conduct."), denied},
		{"denylisted, header", 451, "denylisted", "", denied},
		{"451 of somebody else", 451, "", "<html>", between(451)},
		{"gateway for other canisters", 400, "", json("client_domain_canister_mismatch", "This canister is not served through this gateway."), elsewhere},
		{"gateway under another name", 400, "", json("client_unknown_domain", "The requested domain is not served"), outage},
		{"gateway: subnet", 503, "", json("subnet_updating", "The protocol currently upgrades this part"), upgrading},
		{"gateway: backend", 503, "", json("backend_connect", "The HTTP gateway is temporarily unable"), down},
		{"gateway: forbidden", 403, "", json("forbidden", "denied by the current set of firewall rules"), barred},
		{"gateway: load", 429, "", json("load_shed", "high load"), slower},
		{"gateway: its own fault", 500, "", json("internal_server_error", "Something went wrong"), down},
		{"gateway: too large", 413, "", json("client_body_too_large", "too large"), large},
		{"gateway: canister", 404, "", json("canister_not_found", "does not exist"), gone},
		{"gateway: malformed", 400, "", `{"error_type":"client_malformed_request","description":"not correctly formed","details":"missing field"}`, bad("missing field")},
		{"gateway: a cause of tomorrow", 503, "", json("moon_in_the_way", "x"), down},
		{"JSON of somebody else", 400, "", `{"message":"error: canister_not_found"}`, between(400)},
		{"JSON that breaks off", 400, "", `{"error_type":"canister_not_found"`, between(400)},

		{"busy by another status", 503, "rate_limited_normal", "", slower},
		{"rate limited", 429, "", "error: rate_limited\ndetails: slow down", slower},
		{"rate limited by a proxy", 429, "", "<html>", slower},
		{"replica does not answer", 503, "replica_timeout", "error: replica_error", down},
		{"no routing table", 503, "no_routing_table", "", down},
		{"unknown cause", 500, "", "error: cosmic_rays\ndetails: x", down},
		{"unknown cause of a request", 400, "cosmic_rays", "no", bad("no")},
		{"unknown cause, not found", 404, "", "error: cosmic_rays", outage},
		{"proxy: bad gateway", 502, "", "<html>bad gateway</html>", down},
		{"proxy: TLS", 525, "", "", down},
		{"proxy: wrong door", 421, "", "", between(421)},
		{"proxy: wants a password", 401, "", "", between(401)},
		{"proxy: elsewhere", 302, "", "", down},
		{"path is not served", 404, "none", "Not Found", between(404)},
		{"method is not served", 405, "", "", between(405)},
		{"proxy: page", 400, "", "<html>bad request</html>", between(400)},
		{"firewall: page", 403, "", "<html>blocked</html>", between(403)},
		{"firewall: nothing", 403, "", "", between(403)},
		{"proxy: log in to it", 407, "", "authenticate", between(407)},
		{"endpoint is gone", 410, "", "", between(410)},
		{"too large, by status", 413, "", "<html>", large},

		{"delegation has expired", 400, "none", "Invalid delegation expiry: Specified sender delegation has expired:\nProvided expiry: x",
			refusalCase{reason: BadSender, text: "ws_open: the sender's delegation has expired, log in again", poll: "Invalid delegation expiry"}},
		{"signature", 400, "", "Invalid signature: Invalid basic signature", bad("Invalid signature")},
		{"nothing said", 400, "", "", between(400)},
		{"hostile bytes", 400, "\x00\xff", "\x00\x1b[31m\xff\xfe" + strings.Repeat("x", 1<<20), bad("??[31m")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.check(t, tt.status, tt.header, tt.body)
		})
	}
}

// Every meaning has what clients are told of it, in what a close frame can carry.
func TestRefusalsAreTellable(t *testing.T) {
	for m := upstream.Failing; m < upstream.MeaningEnd; m++ {
		r := upstream.Refusal{Status: 400, Text: strings.Repeat("w", 200), Means: m}
		for _, c := range []*closing{closingForRefusal(&r, methodMessage), closingForRefusedPoll(&r)} {
			if c.text == "" || len(c.text) > maxCloseText || c.reason.Code() < 1000 {
				t.Errorf("%d: %d %q", m, c.reason.Code(), c.text)
			}
		}
		to := refusals[m]
		if to.reason == 0 {
			t.Errorf("%d: nobody has decided what clients are told", m)
		}
		if to.text != "" && len("ws_message: "+to.text) > maxCloseText {
			t.Errorf("%d: %q is cut in a close frame", m, to.text)
		}
	}
}
