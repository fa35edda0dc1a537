package relay

import (
	"time"

	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
	"github.com/icws-gateway/caddy-icws/verify"
)

// Endpoint names what a request to the network asks for. It is a metric label.
type Endpoint = upstream.Endpoint

// The endpoints the gateway uses (IC interface specification, HTTPS interface).
const (
	EndpointCall      = upstream.EndpointCall
	EndpointQuery     = upstream.EndpointQuery
	EndpointReadState = upstream.EndpointReadState
	EndpointStatus    = upstream.EndpointStatus
)

// Outcome says in one word how a request, a relay or a poll went. It is a metric label, from the closed set below.
type Outcome = upstream.Outcome

// The outcomes.
const (
	OutcomeOK          = upstream.OutcomeOK
	OutcomeRateLimited = upstream.OutcomeRateLimited // HTTP 429
	OutcomeUnavailable = upstream.OutcomeUnavailable // HTTP 5xx
	OutcomeBadRequest  = upstream.OutcomeBadRequest  // any other HTTP 4xx
	OutcomeTimeout     = upstream.OutcomeTimeout
	OutcomeOutrun      = upstream.OutcomeOutrun  // another host was asked as well, and answered first
	OutcomeNetwork     = upstream.OutcomeNetwork // refused, reset, no such host

	OutcomeEmpty      Outcome = "empty"      // a poll without messages
	OutcomePending    Outcome = "pending"    // a call that was accepted and has no outcome yet
	OutcomeRefused    Outcome = "refused"    // the canister or the IC said no
	OutcomeUnverified Outcome = "unverified" // an answer that failed verification
	OutcomeExpired    Outcome = "expired"    // given up at the ingress expiry
)

// Metrics receives what the gateway counts. Implementations must be fast, must not block, and are called concurrently.
// The canister is the zero value where none is known yet.
type Metrics interface {
	// SessionStarted counts an upgraded connection, before its ws_open.
	SessionStarted()
	// SessionOpened counts a session whose first canister frame was relayed; took is the time since the upgrade.
	SessionOpened(canister verify.Principal, took time.Duration)
	// SessionClosed counts the end of every started session.
	SessionClosed(canister verify.Principal, reason CloseReason, lasted time.Duration)
	// Received counts a client frame that passed all checks.
	Received(canister verify.Principal, bytes int)
	// Delivered counts a frame written to a client; age is the time since the canister made the message, by the
	// canister's clock and ours.
	Delivered(canister verify.Principal, bytes int, age time.Duration)
	// Relayed counts a client envelope with its final outcome; took runs from its arrival to the certified outcome.
	Relayed(canister verify.Principal, outcome Outcome, took time.Duration)
	// Polled counts one poll; messages is what it brought, lag the age of its certificate (zero for an empty one).
	Polled(canister verify.Principal, outcome Outcome, messages int, took, lag time.Duration)
	// Upstream counts one HTTP request to a boundary node.
	Upstream(host string, endpoint Endpoint, outcome Outcome, took time.Duration)
	// VerificationFailed counts an answer of a canister or boundary node that was discarded.
	VerificationFailed(canister verify.Principal, cause verify.Cause)
	// QueueReset counts a canister queue that was found to have started again.
	QueueReset(canister verify.Principal)
	// BudgetWait counts how long one request waited for upstream_rate or upstream_call_rate.
	BudgetWait(waited time.Duration)
}

// NopMetrics counts nothing.
type NopMetrics struct{}

var _ Metrics = NopMetrics{}

func (NopMetrics) SessionStarted()                                                     {}
func (NopMetrics) SessionOpened(verify.Principal, time.Duration)                       {}
func (NopMetrics) SessionClosed(verify.Principal, CloseReason, time.Duration)          {}
func (NopMetrics) Received(verify.Principal, int)                                      {}
func (NopMetrics) Delivered(verify.Principal, int, time.Duration)                      {}
func (NopMetrics) Relayed(verify.Principal, Outcome, time.Duration)                    {}
func (NopMetrics) Polled(verify.Principal, Outcome, int, time.Duration, time.Duration) {}
func (NopMetrics) Upstream(string, Endpoint, Outcome, time.Duration)                   {}
func (NopMetrics) VerificationFailed(verify.Principal, verify.Cause)                   {}
func (NopMetrics) QueueReset(verify.Principal)                                         {}
func (NopMetrics) BudgetWait(time.Duration)                                            {}
