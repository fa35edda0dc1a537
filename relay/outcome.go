package relay

import (
	"errors"
	"strings"

	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
	"github.com/icws-gateway/caddy-icws/verify"
)

// Reject codes of the IC (interface specification, Reject codes).
const (
	rejectSysFatal           = 1
	rejectSysTransient       = 2
	rejectDestinationInvalid = 3
	rejectCanisterReject     = 4
	rejectCanisterError      = 5
)

// Error codes of the replica that tell more than the reject code (dfinity/ic, error_types).
const (
	codeOutOfCycles      = "IC0207"
	codeCanisterNotFound = "IC0301"
	codeStopped          = "IC0508"
	codeStopping         = "IC0509"
	codeNoMethod         = "IC0536"
	codeNoModule         = "IC0537"
)

// rejection is what a reject says about a canister.
type rejection struct {
	reason  CloseReason
	text    string // for clients and operators; without the name of the method
	passing bool   // the same request may succeed later
	final   bool   // no waiting cures it
	absent  bool   // there is no such canister where the reject comes from
}

// diagnose reads a reject. errorCode may be empty: it is optional in the specification.
func diagnose(code uint64, errorCode, message string) rejection {
	switch {
	case errorCode == codeOutOfCycles || code == rejectSysTransient && strings.Contains(message, "out of cycles"):
		return rejection{reason: CanisterUnavailable, text: "canister is out of cycles, its owner must top it up", passing: true}
	case errorCode == codeStopped:
		return rejection{reason: CanisterUnavailable, text: "canister is stopped, try again later", passing: true}
	case errorCode == codeStopping:
		return rejection{reason: CanisterUnavailable, text: "canister is stopping, try again later", passing: true}
	case errorCode == codeNoModule:
		return rejection{reason: CanisterUnavailable, text: "canister has no module installed, try again later", passing: true}
	case errorCode == codeNoMethod:
		return rejection{reason: CanisterUnusable, text: "canister has no such method, it does not use the IC WebSocket CDK", final: true}
	case errorCode == codeCanisterNotFound || code == rejectDestinationInvalid:
		return rejection{reason: CanisterUnusable, text: "canister does not exist, check its id", final: true, absent: true}
	case code == rejectSysTransient:
		return rejection{reason: CanisterUnavailable, text: "the IC is busy: " + upstream.Printable(message, 80), passing: true}
	case code == rejectCanisterError:
		return rejection{reason: CanisterRefused, text: "canister trapped: " + upstream.Printable(ownWords(message), 100)}
	}
	return rejection{reason: CanisterRefused, text: "canister rejected: " + upstream.Printable(message, 100)}
}

// ownWords drops what every replica puts in front of a canister's error, so that what the canister itself said fits into a
// close frame.
func ownWords(message string) string {
	if rest, ok := strings.CutPrefix(message, "Error from Canister "); ok {
		if _, words, ok := strings.Cut(rest, ": "); ok {
			message = words
		}
	}
	if words, ok := strings.CutPrefix(message, "Canister called `ic0.trap` with message: "); ok {
		message = strings.TrimPrefix(words, "'")
	}
	return message
}

func (e *envelope) method() string {
	if e.open {
		return methodOpen
	}
	return methodMessage
}

// repliedAttempt reads what the canister answered to method; discreet makes its texts fit to be told.
func repliedAttempt(method string, reply []byte, discreet func(string) string) attempt {
	text, ok, err := verify.DecodeResult(reply)
	switch {
	case err != nil:
		return attempt{final: true, outcome: OutcomeRefused,
			closing: newClosing(CanisterUnusable, method+": canister's answer is not {Ok; Err}, it does not use the IC WebSocket CDK")}
	case ok:
		return attempt{final: true, outcome: OutcomeOK, answered: true}
	}
	return attempt{final: true, outcome: OutcomeRefused, answered: true, closing: refused(method, discreet(text))}
}

// refused turns the Err text of a CDK into a closing. The texts are those of PROTOCOL section 3.
func refused(method, text string) *closing {
	t := strings.ToLower(text)
	switch {
	case method == methodMessage && strings.Contains(t, "doesn't have an open connection"):
		return newClosing(Forgotten, "").andRemoved()
	case strings.Contains(t, "different key than the one used"):
		return newClosing(Superseded, "").andRemoved()
	case strings.Contains(t, "authorized gateways") || strings.Contains(t, "no gateway registered"):
		return newClosing(CanisterRefused, method+": canister's CDK is 0.3.0 or older and does not list this gateway, update it")
	}
	c := newClosing(CanisterRefused, method+": "+upstream.Printable(text, maxCloseText))
	if method == methodMessage && strings.Contains(t, "expected") && strings.Contains(t, "sequence number") {
		c = c.andRemoved()
	}
	return c
}

// rejectedAttempt handles a reject. A certified one is final: the request was taken and will not be executed again. One that
// is not certified comes with the answer that it was in; certified ones have nil.
func rejectedAttempt(method string, code uint64, errorCode, message string, uncertified *upstream.Answer) attempt {
	j := diagnose(code, errorCode, message)
	a := attempt{outcome: OutcomeRefused, closing: newClosing(j.reason, method+": "+j.text), passing: j.passing, err: errors.New(j.text)}
	a.last = a.closing
	if uncertified == nil {
		a.final = true
		// It was executed up to where it failed, and a Motoko canister keeps what it did before its first await.
		a.closing = a.closing.orUnsure(code == rejectCanisterError || code == rejectCanisterReject)
		return a
	}
	a.failed, a.avoid = true, uncertified.Host
	if !j.passing {
		a.refuse(uncertified.Host, uncertified.Alone, j.absent)
	}
	return a
}

// failedAttempt handles a request that brought no answer of the IC.
func failedAttempt(method string, err error) attempt {
	var ue *upstream.Error
	if !errors.As(err, &ue) {
		return attempt{failed: true, err: err}
	}
	c := closingForRefusal(&ue.Refusal, method)
	a := attempt{failed: true, taken: ue.Taken, pause: ue.RetryAfter, err: err, last: c}
	if !ue.Transient() {
		a.avoid, a.outcome, a.closing = ue.Host, ue.Outcome, c
		a.refuse(ue.Host, ue.Alone, ue.Means.OfCanister())
	}
	return a
}

// refuse notes that h says, without proof, that the outcome of a is final.
func (a *attempt) refuse(h *upstream.Host, alone, absent bool) {
	a.refusedBy, a.alone, a.absent = h, alone, absent
}
