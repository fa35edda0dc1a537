package relay

import (
	"fmt"

	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
)

// refusals says what sessions are told of each kind of refusal of the network. Which refusals may pass, package upstream knows.
var refusals = [upstream.MeaningEnd]struct {
	reason  CloseReason // of the end of a session whose own request it was, if it stays like this
	text    string      // for the client; empty = the usual one of reason
	quoting bool        // with the network's words
	status  bool        // behind the HTTP status
}{
	upstream.Failing:     {reason: Outage},
	upstream.Busy:        {reason: Outage, text: "the Internet Computer asks for fewer requests, try again later"},
	upstream.Suspended:   {reason: Outage, text: "the canister's subnet is being upgraded or has no healthy node, try again later"},
	upstream.Forbidden:   {reason: Outage, text: "the Internet Computer forbids requests to this canister for now, try again later"},
	upstream.NoEndpoint:  {reason: Outage, text: notTheIC, status: true},
	upstream.Intercepted: {reason: Outage, text: notTheIC, status: true},
	upstream.NoCanister:  {reason: CanisterUnusable, text: "canister does not exist, check its id"},
	upstream.Denylisted:  {reason: CanisterUnusable, text: "canister is denylisted by the network's gateways for a violation of their code of conduct"},
	upstream.Mismatched:  {reason: CanisterUnusable, text: "canister is not served by the network's gateways that are asked for it"},
	upstream.Oversized:   {reason: TooLarge},
	upstream.Unreadable:  {reason: NotAnEnvelope, text: "the IC cannot read it", quoting: true},
	upstream.Expired:     {reason: BadExpiry, text: "the IC refused it", quoting: true},
	upstream.LoggedOut:   {reason: BadSender, text: "the sender's delegation has expired, log in again"},
	upstream.RefusedAsk:  {reason: BadSender, text: "the IC refused it", quoting: true},
}

// notTheIC is what clients are told of a refusal that is not the network's own.
const notTheIC = "HTTP %d in place of an answer of the Internet Computer, try again later or ask the gateway's operator"

// closingForRefusal is the end of a session whose own request, method, was refused.
func closingForRefusal(r *upstream.Refusal, method string) *closing {
	to := refusals[r.Means]
	switch {
	case to.text == "":
		return newClosing(to.reason, "")
	case to.status:
		return newClosing(to.reason, fmt.Sprintf(to.text, r.Status))
	case r.Means.Passes():
		return newClosing(to.reason, to.text)
	case to.quoting:
		return newClosing(to.reason, method+": "+to.text+": "+r.Text)
	}
	return newClosing(to.reason, method+": "+to.text)
}

// closingForRefusedPoll is the end of a canister's sessions if the gateway's polls go on being refused.
func closingForRefusedPoll(r *upstream.Refusal) *closing {
	switch to := refusals[r.Means]; {
	case to.status:
		return newClosing(to.reason, fmt.Sprintf(to.text, r.Status))
	case r.Means.Passes() || r.Means.OfCanister():
		return newClosing(to.reason, to.text)
	case r.Text == "":
		return newClosing(Outage, "the IC refuses the requests of this gateway, ask its operator")
	}
	return newClosing(Outage, "the IC refuses the requests of this gateway, ask its operator: "+r.Text)
}
