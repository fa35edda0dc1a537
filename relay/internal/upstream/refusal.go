package upstream

import (
	"encoding/json"
	"net/http"
	"strings"
)

// Boundary nodes, the HTTP gateway before them and the replicas behind them refuse requests each in their own way. What a
// refusal says is read here, once. What sessions are told of it is the business of package relay.

// Refusal is an answer of the network that is neither 200 nor 202.
type Refusal struct {
	Status int    // HTTP status, 0 if there was no answer
	Cause  string // the network's name for it; empty if it gave none
	Text   string // its words, printable and short
	Means  Meaning
}

// Meaning is what a refusal means.
type Meaning uint8

// The meanings. Those up to NoEndpoint pass: the same request may do better later or elsewhere. NoCanister, Denylisted and
// Mismatched are about the canister. The others are about this one request.
const (
	Failing     Meaning = iota + 1 // the host, or something behind it, fails
	Busy                           // the host has more requests than it takes, and has not passed this one on
	Suspended                      // the canister's subnet is being upgraded, or has no healthy node
	Forbidden                      // requests to this canister are forbidden for now
	Intercepted                    // something before the network refuses it, in words of its own or none
	NoEndpoint                     // the host does not serve this version of the endpoint
	NoCanister                     // the canister, or its subnet, does not exist
	Denylisted                     // the canister is denylisted
	Mismatched                     // the canister is not served by this gateway of the network
	Oversized                      // the request is too large
	Unreadable                     // the request cannot be read
	Expired                        // the ingress expiry is not in the window that the IC accepts
	LoggedOut                      // the sender's delegation has expired
	RefusedAsk                     // the request is refused for another reason
	MeaningEnd                     // is none: the length of tables by meaning
)

// Passes reports whether the same request may do better later or elsewhere.
func (m Meaning) Passes() bool { return m <= NoEndpoint }

// OfCanister reports whether the refusal is about the canister, and no waiting cures it.
func (m Meaning) OfCanister() bool { return m == NoCanister || m == Denylisted || m == Mismatched }

// causes are the names that the network has for its refusals. Those that are not here mean what their status does.
var causes = map[string]Meaning{
	// API boundary nodes, as clients see them (dfinity/ic, ic_boundary errors.rs).
	"body_timed_out":           Failing,
	"canister_not_found":       NoCanister,
	"canister_route_not_found": NoCanister,
	"forbidden":                Forbidden,
	"internal_server_error":    Failing,
	"load_shed":                Busy,
	"malformed_request":        RefusedAsk,
	"no_healthy_nodes":         Suspended,
	"payload_too_large":        Oversized,
	"rate_limited":             Busy,
	"replica_error":            Failing,
	"service_unavailable":      Failing,
	"subnet_not_found":         NoCanister,
	"unable_to_parse_cbor":     Unreadable,
	"unable_to_parse_http_arg": RefusedAsk,

	// Their names of before 2024, and those that only the header has.
	"general_error":           Failing,
	"no_routing_table":        Failing,
	"rate_limited_bouncer":    Busy,
	"rate_limited_generic":    Busy,
	"rate_limited_normal":     Busy,
	"replica_error_connect":   Failing,
	"replica_error_dns":       Failing,
	"replica_error_other":     Failing,
	"replica_timeout":         Failing,
	"replica_tls_error":       Failing,
	"replica_tls_error_cert":  Failing,
	"replica_tls_error_other": Failing,
	"unable_to_read_body":     Failing,

	// The HTTP gateway (dfinity/ic-gateway, error_cause.rs).
	"backend_body":                    Failing,
	"backend_body_timeout":            Failing,
	"backend_boundary_node":           Failing,
	"backend_connect":                 Failing,
	"backend_dns":                     Failing,
	"backend_error_connect":           Failing,
	"backend_error_dns":               Failing,
	"backend_error_other":             Failing,
	"backend_http_gateway":            Failing,
	"backend_other":                   Failing,
	"backend_response_verification":   Failing,
	"backend_timeout":                 Failing,
	"backend_tls_cert":                Failing,
	"backend_tls_error":               Failing,
	"backend_tls_error_cert":          Failing,
	"backend_tls_other":               Failing,
	"client_body":                     Failing,
	"client_body_timeout":             Failing,
	"client_body_too_large":           Oversized,
	"client_domain_canister_mismatch": Mismatched,
	"client_incorrect_principal":      NoCanister,
	"client_malformed_request":        RefusedAsk,
	"client_no_authority":             Failing, // the host was asked under a name that it does not know
	"client_subnet_not_found":         NoCanister,
	"client_unknown_domain":           Failing,
	"denylisted":                      Denylisted,
	"domain_canister_mismatch":        Mismatched,
	"subnet_updating":                 Suspended,
	"unknown_domain":                  Failing,
	"upstream_error":                  Failing,
}

// maxRefusal is how much of the body of a refusal is read, in bytes.
const maxRefusal = 4 << 10

// maxRefusalText bounds its words, in bytes.
const maxRefusalText = 200

// readRefusal reads an answer that is neither 200 nor 202. The header's cause counts before the body's: the HTTP gateway
// in front of the boundary nodes removes the header.
func readRefusal(status int, header http.Header, body []byte) Refusal {
	r := Refusal{Status: status, Cause: causeName(header.Get("x-ic-error-cause"))}
	cause, words := refusalWords(string(body[:min(len(body), maxRefusal)]))
	if r.Cause == "" {
		r.Cause = cause
	}
	r.Text = Printable(words, maxRefusalText)
	if r.Means = causes[r.Cause]; r.Means == 0 {
		r.Means = byStatus(status, r.Cause, r.Text)
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
	if name, words, _ := strings.Cut(first, ":"); causes[name] != 0 {
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

// byStatus is the meaning of a refusal whose cause says nothing, or that has none. Only 400 and 413 are about the request; with the
// rest a host, or something before it, speaks of itself. Replicas explain what they refuse in plain words; pages, foreign JSON and
// silence come from a proxy, a firewall or a captive portal.
func byStatus(status int, cause, text string) Meaning {
	foreign := cause == "" && (text == "" || text[0] == '<' || text[0] == '{')
	switch status {
	case http.StatusBadRequest:
		if !foreign {
			return byWords(text)
		}
	case http.StatusForbidden:
		if !foreign {
			return Forbidden
		}
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone:
		switch {
		case strings.HasPrefix(text, "Invalid path"): // a replica's word on a path of the state tree
			return RefusedAsk
		case cause == "":
			return NoEndpoint
		}
	case http.StatusRequestEntityTooLarge:
		return Oversized
	case http.StatusTooManyRequests:
		return Busy
	}
	if status >= 400 && status < 500 && cause == "" {
		return Intercepted
	}
	return Failing
}

// byWords tells apart what a replica refuses with status 400: it has words for that and no names.
func byWords(text string) Meaning {
	switch {
	case strings.Contains(text, "delegation") && strings.Contains(text, "expire"):
		return LoggedOut
	case strings.Contains(text, "expiry"):
		return Expired
	}
	return RefusedAsk
}
