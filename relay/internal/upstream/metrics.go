package upstream

import (
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// Endpoint names what a request to the network asks for. It is a metric label.
type Endpoint string

// The endpoints the gateway uses (IC interface specification, HTTPS interface).
const (
	EndpointCall      Endpoint = "call"
	EndpointQuery     Endpoint = "query"
	EndpointReadState Endpoint = "read_state"
	EndpointStatus    Endpoint = "status"
)

// Outcome says in one word how something went: a request, a relay or a poll. It is a metric label. Those of requests are
// below; package relay has the others.
type Outcome string

// The outcomes of requests.
const (
	OutcomeOK          Outcome = "ok"
	OutcomeRateLimited Outcome = "rate_limit"  // HTTP 429
	OutcomeUnavailable Outcome = "unavailable" // HTTP 5xx
	OutcomeBadRequest  Outcome = "bad_request" // any other HTTP 4xx
	OutcomeTimeout     Outcome = "timeout"
	OutcomeOutrun      Outcome = "outrun"  // another host was asked as well, and answered first
	OutcomeNetwork     Outcome = "network" // refused, reset, no such host
)

// Recorder receives what a [Network] counts. Implementations must be fast, must not block, and are called concurrently.
type Recorder interface {
	// Upstream counts one HTTP request to a host.
	Upstream(host string, endpoint Endpoint, outcome Outcome, took time.Duration)
	// BudgetWait counts how long one request waited for the rate.
	BudgetWait(waited time.Duration)
	// VerificationFailed counts an answer of a host, asked for canister, that was discarded.
	VerificationFailed(canister verify.Principal, cause verify.Cause)
}
