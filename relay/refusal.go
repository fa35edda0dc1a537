package relay

import (
	"encoding/json"
	"net/http"
	"strings"
)

// Boundary nodes, the HTTP gateway before them and the replicas behind them refuse requests each in their own way. What a
// refusal says is read here, once, and what it means for sessions and polls is in one table.

// refusal is an answer of the network that is neither 200 nor 202.
type refusal struct {
	cause string // the network's name for it; empty if it gave none
	text  string // its words, printable and short
	means *meaning
}

// meaning is what a refusal means.
type meaning struct {
	passing bool        // the same request may do better later or elsewhere
	final   bool        // it is about the canister, and no waiting cures it
	busy    bool        // the host has more requests than it takes, and has not passed this one on
	reason  CloseReason // of the end of a session whose own request it was, if it stays like this
	text    string      // for the client; empty = the usual one of reason
	quoting bool        // with the network's words
}

var (
	troubled   = &meaning{passing: true, reason: Outage}
	busy       = &meaning{passing: true, busy: true, reason: Outage, text: "the Internet Computer asks for fewer requests, try again later"}
	suspended  = &meaning{passing: true, reason: Outage, text: "the canister's subnet is being upgraded or has no healthy node, try again later"}
	forbidden  = &meaning{passing: true, reason: Outage, text: "the Internet Computer forbids requests to this canister for now, try again later"}
	noEndpoint = &meaning{passing: true, reason: Outage}
	noCanister = &meaning{final: true, reason: CanisterUnusable, text: "canister does not exist, check its id"}
	denylisted = &meaning{final: true, reason: CanisterUnusable, text: "canister is denylisted by the network's gateways for a violation of their code of conduct"}
	mismatched = &meaning{final: true, reason: CanisterUnusable, text: "canister is not served by the network's gateways that are asked for it"}
	oversized  = &meaning{reason: TooLarge}
	unreadable = &meaning{reason: NotAnEnvelope, text: "the IC cannot read it", quoting: true}
	expired    = &meaning{reason: BadExpiry, text: "the IC refused it", quoting: true}
	loggedOut  = &meaning{reason: BadSender, text: "the sender's delegation has expired, log in again"}
	refusedAsk = &meaning{reason: BadSender, text: "the IC refused it", quoting: true}
)

// causes are the names that the network has for its refusals. Those that are not here mean what their status does.
var causes = map[string]*meaning{
	// API boundary nodes, as clients see them (dfinity/ic, ic_boundary errors.rs).
	"body_timed_out":           troubled,
	"canister_not_found":       noCanister,
	"canister_route_not_found": noCanister,
	"forbidden":                forbidden,
	"internal_server_error":    troubled,
	"load_shed":                busy,
	"malformed_request":        refusedAsk,
	"no_healthy_nodes":         suspended,
	"payload_too_large":        oversized,
	"rate_limited":             busy,
	"replica_error":            troubled,
	"service_unavailable":      troubled,
	"subnet_not_found":         noCanister,
	"unable_to_parse_cbor":     unreadable,
	"unable_to_parse_http_arg": refusedAsk,

	// Their names of before 2024, and those that only the header has.
	"general_error":           troubled,
	"no_routing_table":        troubled,
	"rate_limited_bouncer":    busy,
	"rate_limited_generic":    busy,
	"rate_limited_normal":     busy,
	"replica_error_connect":   troubled,
	"replica_error_dns":       troubled,
	"replica_error_other":     troubled,
	"replica_timeout":         troubled,
	"replica_tls_error":       troubled,
	"replica_tls_error_cert":  troubled,
	"replica_tls_error_other": troubled,
	"unable_to_read_body":     troubled,

	// The HTTP gateway (dfinity/ic-gateway, error_cause.rs).
	"backend_body":                    troubled,
	"backend_body_timeout":            troubled,
	"backend_boundary_node":           troubled,
	"backend_connect":                 troubled,
	"backend_dns":                     troubled,
	"backend_error_connect":           troubled,
	"backend_error_dns":               troubled,
	"backend_error_other":             troubled,
	"backend_http_gateway":            troubled,
	"backend_other":                   troubled,
	"backend_response_verification":   troubled,
	"backend_timeout":                 troubled,
	"backend_tls_cert":                troubled,
	"backend_tls_error":               troubled,
	"backend_tls_error_cert":          troubled,
	"backend_tls_other":               troubled,
	"client_body":                     troubled,
	"client_body_timeout":             troubled,
	"client_body_too_large":           oversized,
	"client_domain_canister_mismatch": mismatched,
	"client_incorrect_principal":      noCanister,
	"client_malformed_request":        refusedAsk,
	"client_no_authority":             troubled, // the host was asked under a name that it does not know
	"client_subnet_not_found":         noCanister,
	"client_unknown_domain":           troubled,
	"denylisted":                      denylisted,
	"domain_canister_mismatch":        mismatched,
	"subnet_updating":                 suspended,
	"unknown_domain":                  troubled,
	"upstream_error":                  troubled,
}

// maxRefusal is how much of the body of a refusal is read, in bytes.
const maxRefusal = 4 << 10

// maxRefusalText bounds its words, in bytes.
const maxRefusalText = 200

// readRefusal reads an answer that is neither 200 nor 202. The header's cause counts before the body's: the HTTP gateway
// in front of the boundary nodes removes the header.
func readRefusal(status int, header http.Header, body []byte) refusal {
	r := refusal{cause: causeName(header.Get("x-ic-error-cause"))}
	cause, words := refusalWords(string(body[:min(len(body), maxRefusal)]))
	if r.cause == "" {
		r.cause = cause
	}
	r.text = printable(words, maxRefusalText)
	if r.means = causes[r.cause]; r.means == nil {
		r.means = byStatus(status, r.cause, r.text)
	}
	return r
}

// refusalWords takes a body apart into the cause that it names, if it does, and the words that explain it. There are three
// forms: two lines "error: <cause>" and "details: <words>"; of before mid-2024 one line "<cause>: <words>"; and the JSON of
// the HTTP gateway.
func refusalWords(body string) (cause, words string) {
	body = strings.TrimSpace(body)
	if strings.HasPrefix(body, "{") {
		var m struct {
			ErrorType   string `json:"error_type"`
			Description string `json:"description"`
			Details     string `json:"details"`
		}
		if json.Unmarshal([]byte(body), &m) == nil && causeName(m.ErrorType) != "" {
			if m.Details != "" {
				m.Description = m.Details
			}
			return causeName(m.ErrorType), m.Description
		}
		return "", body
	}
	first, rest, _ := strings.Cut(body, "\n")
	if name, ok := strings.CutPrefix(first, "error: "); ok && causeName(name) != "" {
		return causeName(name), strings.TrimPrefix(rest, "details: ")
	}
	if name, words, _ := strings.Cut(first, ":"); causes[name] != nil {
		return name, words
	}
	return "", body
}

// causeName returns s if it can be the name of a cause: at most 64 lower-case letters, digits and underscores. "none" is
// what boundary nodes write where there is no cause.
func causeName(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	if s == "none" || len(s) > 64 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return ""
	}
	return s
}

// byStatus is the meaning of a refusal whose cause says nothing, or that has none. Only 400, 413 and 451 are about the
// request or its canister; with the rest a host, or something before it, speaks of itself.
func byStatus(status int, cause, text string) *meaning {
	switch status {
	case http.StatusBadRequest:
		return byWords(text)
	case http.StatusForbidden:
		return forbidden
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone:
		switch {
		case strings.HasPrefix(text, "Invalid path"): // a replica's word on a path of the state tree
			return refusedAsk
		case cause == "":
			return noEndpoint
		}
	case http.StatusRequestEntityTooLarge:
		return oversized
	case http.StatusTooManyRequests:
		return busy
	case http.StatusUnavailableForLegalReasons:
		return denylisted
	}
	return troubled
}

// byWords tells apart what a replica refuses with status 400: it has words for that and no names.
func byWords(text string) *meaning {
	switch {
	case strings.Contains(text, "delegation") && strings.Contains(text, "expire"):
		return loggedOut
	case strings.Contains(text, "expiry"):
		return expired
	}
	return refusedAsk
}

// closing is the end of a session whose own request, what, was refused.
func (r *refusal) closing(what string) *closing {
	m := r.means
	switch {
	case m.text == "":
		return because(m.reason, "")
	case m.passing:
		return because(m.reason, m.text)
	case m.quoting:
		return because(m.reason, what+": "+m.text+": "+r.text)
	}
	return because(m.reason, what+": "+m.text)
}

// closingOfOthers is the end of sessions that a request of the gateway itself was made for, if it goes on being refused.
func (r *refusal) closingOfOthers() *closing {
	m := r.means
	switch {
	case m.passing || m.final:
		return because(m.reason, m.text)
	case r.text == "":
		return because(Outage, "the IC refuses the requests of this gateway, ask its operator")
	}
	return because(Outage, "the IC refuses the requests of this gateway, ask its operator: "+r.text)
}
