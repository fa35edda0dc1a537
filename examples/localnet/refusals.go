package localnet

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// What the network says when it does not answer. There are three who may
// speak: the replica, in bare text; the API boundary node in front of it, in
// two lines of which the first names a cause; and the HTTP gateway in front of
// that one (icp-api.io, icp0.io, ic0.app), in JSON. Only the boundary node has
// a header for the cause, and the HTTP gateway takes it away.

const (
	textType = "text/plain; charset=utf-8"
	jsonType = "application/json"
)

// boundaryError is how a boundary node tells of a cause: with fewer words for
// clients than in its header.
type boundaryError struct {
	shown   string // in the body; the cause itself if empty
	status  int
	details string
}

const (
	replicaError = "An unexpected error occurred while communicating with the upstream replica node. Please try again later."
	rateLimited  = "Rate limit exceeded. Please slow down requests and try again later."
)

var boundaryErrors = map[string]boundaryError{
	"body_timed_out":           {"", http.StatusRequestTimeout, "Reading the request body timed out due to data arriving too slowly."},
	"canister_not_found":       {"", http.StatusBadRequest, "The specified canister does not exist."},
	"forbidden":                {"", http.StatusForbidden, "Request is forbidden according to currently active policy, it might work later."},
	"internal_server_error":    {"", http.StatusInternalServerError, "Internal Server Error"},
	"load_shed":                {"", http.StatusTooManyRequests, "Temporarily unable to handle the request due to high load. Please try again later."},
	"malformed_request":        {"", http.StatusBadRequest, ""},
	"no_healthy_nodes":         {"", http.StatusServiceUnavailable, "There are currently no healthy replica nodes available to handle the request. This may be due to an ongoing upgrade of the replica software in the subnet. Please try again later."},
	"no_routing_table":         {"service_unavailable", http.StatusServiceUnavailable, "The API boundary node is temporarily unable to process the request. Please try again later."},
	"payload_too_large":        {"", http.StatusRequestEntityTooLarge, fmt.Sprintf("Payload is too large: maximum body size is %d bytes.", maxBody)},
	"rate_limited_bouncer":     {"rate_limited", http.StatusTooManyRequests, rateLimited},
	"rate_limited_generic":     {"rate_limited", http.StatusTooManyRequests, rateLimited},
	"rate_limited_normal":      {"rate_limited", http.StatusTooManyRequests, rateLimited},
	"replica_error_connect":    {"replica_error", http.StatusServiceUnavailable, replicaError},
	"replica_error_dns":        {"replica_error", http.StatusServiceUnavailable, replicaError},
	"replica_error_other":      {"replica_error", http.StatusServiceUnavailable, replicaError},
	"replica_timeout":          {"replica_error", http.StatusServiceUnavailable, replicaError},
	"replica_tls_error_cert":   {"replica_error", http.StatusServiceUnavailable, replicaError},
	"replica_tls_error_other":  {"replica_error", http.StatusServiceUnavailable, replicaError},
	"subnet_not_found":         {"", http.StatusBadRequest, "The specified subnet cannot be found."},
	"unable_to_parse_cbor":     {"", http.StatusBadRequest, ""},
	"unable_to_parse_http_arg": {"", http.StatusBadRequest, ""},
}

// gatewayErrors are the HTTP gateway's own refusals of API requests by their
// error_type.
var gatewayErrors = map[string]struct {
	status      int
	description string
}{
	"backend_connect":            {http.StatusServiceUnavailable, upstreamUnavailable},
	"backend_timeout":            {http.StatusServiceUnavailable, upstreamUnavailable},
	"client_incorrect_principal": {http.StatusBadRequest, "The principal in the request is incorrectly formatted."},
	"denylisted":                 {http.StatusUnavailableForLegalReasons, "Access to this resource is denied due to a violation of the code of conduct."},
	"forbidden":                  {http.StatusForbidden, "Access to this resource is denied by the current set of application firewall rules."},
	"internal_server_error":      {http.StatusInternalServerError, "Something went wrong. Please try again later."},
	"load_shed":                  {http.StatusTooManyRequests, "The HTTP gateway is experiencing high load and cannot process your request right now. Please try again later."},
	"rate_limited":               {http.StatusTooManyRequests, "Your request has exceeded the rate limit. Please slow down your requests and try again in a moment."},
	"subnet_updating":            {http.StatusServiceUnavailable, "The protocol currently upgrades this part of the Internet Computer. It should be back momentarily."},
}

const upstreamUnavailable = "The HTTP gateway is temporarily unable to process the request. Please try again later."

// BoundaryError is the refusal of an API boundary node with the given cause,
// such as no_healthy_nodes, rate_limited_normal or replica_timeout. It panics
// if there is no such cause.
func BoundaryError(cause string) Fault {
	e, ok := boundaryErrors[cause]
	if !ok {
		panic("no cause of a boundary node: " + cause)
	}
	return Fault{Status: e.status, Cause: cause}
}

// GatewayError is the refusal of the HTTP gateway in front of the boundary
// nodes, such as rate_limited, load_shed or denylisted. It panics if there is
// no such type of error.
func GatewayError(errorType string) Fault {
	e, ok := gatewayErrors[errorType]
	if !ok {
		panic("no error of the HTTP gateway: " + errorType)
	}
	body, err := json.MarshalIndent(struct {
		Type        string  `json:"error_type"`
		Description string  `json:"description"`
		Details     *string `json:"details"`
	}{Type: errorType, Description: e.description}, "", "  ")
	if err != nil { // texts only
		panic(err)
	}
	return Fault{Status: e.status, ContentType: jsonType, Body: body}
}

// boundaryBody is the text of a boundary node's refusal.
func boundaryBody(cause, details string) string {
	e := boundaryErrors[cause]
	shown := cause
	if e.shown != "" {
		shown = e.shown
	}
	if details == "" {
		details = e.details
	}
	return fmt.Sprintf("error: %s\ndetails: %s", shown, details)
}

// refuseAs is the refusal of a boundary node; details are those of the cause
// if empty.
func refuseAs(cause, details string) *answer {
	a := textAnswer(boundaryErrors[cause].status, boundaryBody(cause, details))
	a.cause = cause
	return a
}
