package verify

import "errors"

// ErrMalformed is wrapped by every error that says bytes could not be decoded: wrong type, truncated, over a bound,
// duplicate keys, trailing bytes. Test for it with errors.Is.
var ErrMalformed = errors.New("malformed")

// Cause names why a check failed. It is a closed set, fit for a metric label: the constants below and nothing else.
type Cause string

// The causes that checks of this package report.
const (
	// CauseMalformed means that bytes could not be decoded.
	CauseMalformed Cause = "malformed"

	// CauseCertificateOld means that a certificate's time is more than MaxCertificateAge in the past.
	CauseCertificateOld Cause = "certificate_old"
	// CauseCertificateFuture means that a certificate's time is more than MaxClockSkew in the future.
	CauseCertificateFuture Cause = "certificate_future"
	// CauseSignature means that a signature (BLS, node, or sender) does not verify, or is not a valid encoding.
	CauseSignature Cause = "signature"
	// CauseDelegation means that a subnet or sender delegation is not acceptable (nested, too long, not derivable).
	CauseDelegation Cause = "delegation"
	// CauseRange means that a subnet's certified canister ranges do not contain the canister.
	CauseRange Cause = "range"
	// CauseCertifiedData means that a canister's certified data is missing or is not the root hash of the witness.
	CauseCertifiedData Cause = "certified_data"
	// CauseWitness means that a witness does not prove the content beside it.
	CauseWitness Cause = "witness"

	// CauseKey means that a message key does not name our gateway or is not in its canonical form.
	CauseKey Cause = "key"
	// CauseNonce means that message nonces are not contiguous or lie before the one asked for.
	CauseNonce Cause = "nonce"
	// CauseClientKey means that the routing key beside a message differs from the certified one inside it.
	CauseClientKey Cause = "client_key"
	// CauseRequest means that an answer is not about the request it was given for.
	CauseRequest Cause = "request"

	// CauseExpired means that a request's ingress expiry has passed.
	CauseExpired Cause = "expired"
	// CauseNotYet means that a request's ingress expiry is too far ahead, usually a fast client clock.
	CauseNotYet Cause = "not_yet"
	// CauseAnonymous means that a request's sender is the anonymous principal.
	CauseAnonymous Cause = "anonymous"
	// CauseSender means that a request's sender is not derived from its public key.
	CauseSender Cause = "sender"
	// CauseDelegationExpired means that a sender delegation has expired.
	CauseDelegationExpired Cause = "delegation_expired"
	// CauseTargets means that a sender delegation does not cover the canister.
	CauseTargets Cause = "targets"
	// CausePermissions means that a sender delegation does not permit the request.
	CausePermissions Cause = "permissions"
	// CauseScheme means that a key is of a type this package cannot check.
	CauseScheme Cause = "scheme"

	// CauseNode means that a replica node's key is not known, so its signature cannot be checked.
	CauseNode Cause = "node"
	// CauseOther is what CauseOf returns for an error that does not come from this package.
	CauseOther Cause = "other"
)

// Error is a failed check. Its text is fit for logs: it never holds payloads, keys, signatures or client nonces.
type Error struct {
	// Cause is the reason in machine-readable form.
	Cause Cause
	// Text is what was being checked and what was wrong, lower-case.
	Text string
	// Err is the underlying error, or nil.
	Err error
}

// Error returns the text, followed by the underlying error if there is one.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Text
	}
	return e.Text + ": " + e.Err.Error()
}

// Unwrap returns the underlying error, or nil.
func (e *Error) Unwrap() error { return e.Err }

// CauseOf returns the cause of the outermost *Error in err's chain. Without one it is CauseMalformed for errors that wrap
// ErrMalformed, the empty cause for nil, and CauseOther for anything else.
func CauseOf(err error) Cause {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Cause
	}
	if errors.Is(err, ErrMalformed) {
		return CauseMalformed
	}
	return CauseOther
}

// fail returns an *Error without an underlying error.
func fail(cause Cause, text string) error { return &Error{Cause: cause, Text: text} }

// failWith returns an *Error around err. An *Error inside keeps its own cause: the innermost check knows best.
func failWith(cause Cause, text string, err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		cause = e.Cause
	}
	return &Error{Cause: cause, Text: text, Err: err}
}
