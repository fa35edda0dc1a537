package verify

import "time"

// CallStatus is the status of an update call in certified state (IC interface specification, "Request status").
type CallStatus string

// The statuses. Any other is refused as malformed.
const (
	// CallUnknown means that the certificate proves that the network does not know the request.
	CallUnknown CallStatus = "unknown"
	// CallReceived and CallProcessing mean that the outcome is not known yet.
	CallReceived   CallStatus = "received"
	CallProcessing CallStatus = "processing"
	// CallReplied means that the canister replied.
	CallReplied CallStatus = "replied"
	// CallRejected means that the call was rejected.
	CallRejected CallStatus = "rejected"
	// CallDone means that the call is over and its outcome forgotten.
	CallDone CallStatus = "done"
)

// Final reports whether the status will not change any more.
func (s CallStatus) Final() bool { return s == CallReplied || s == CallRejected || s == CallDone }

// Outcome is what a certificate says about an update call.
type Outcome struct {
	// Time is the time of the certificate: the status is that of then.
	Time time.Time
	// Status is how far the call is.
	Status CallStatus
	// Reply is the canister's answer, Candid, if Status is CallReplied. It aliases the certificate.
	Reply []byte
	// RejectCode and RejectMessage say why, if Status is CallRejected. ErrorCode is empty if there is none.
	RejectCode    uint64
	RejectMessage string
	ErrorCode     string
}

// Outcome verifies a certificate for a canister as Certificate does, and reads from it what became of the request with
// the given id. Errors are *Error: those of Certificate, and the cause request if the certificate is about another one.
func (a *Authority) Outcome(cert []byte, canister Principal, requestID [32]byte, now time.Time) (*Outcome, error) {
	c, err := a.Certificate(cert, canister, now)
	if err != nil {
		return nil, err
	}
	return c.Outcome(requestID)
}

// Outcome reads what became of the request with the given id. Errors are *Error with the causes request, if the
// certificate proves nothing about that request, and malformed.
func (c *Certificate) Outcome(requestID [32]byte) (*Outcome, error) {
	at, r := c.tree.find(labelRequestStatus, requestID[:])
	switch r {
	case Absent:
		return &Outcome{Time: c.Time(), Status: CallUnknown}, nil
	case Found:
	default:
		return nil, fail(CauseRequest, "certificate says nothing about the request")
	}
	leaf := func(label string) ([]byte, bool) {
		i, r := c.tree.findFrom(at, []byte(label))
		if r != Found || c.tree.nodes[i].kind != treeLeaf {
			return nil, false
		}
		return c.tree.span(i), true
	}
	status, ok := leaf("status")
	if !ok {
		return nil, fail(CauseRequest, "certificate does not tell the status of the request")
	}
	o := &Outcome{Time: c.Time(), Status: CallStatus(status)}
	switch o.Status {
	case CallReceived, CallProcessing, CallUnknown, CallDone:
	case CallReplied:
		if o.Reply, ok = leaf("reply"); !ok {
			return nil, fail(CauseMalformed, "certificate has a replied request without reply")
		}
	case CallRejected:
		code, ok := leaf("reject_code")
		if !ok {
			return nil, fail(CauseMalformed, "certificate has a rejected request without reject code")
		}
		var err error
		if o.RejectCode, err = parseLEB128(code); err != nil {
			return nil, failWith(CauseMalformed, "reading reject code", err)
		}
		if text, ok := leaf("reject_message"); ok {
			o.RejectMessage = string(text)
		}
		if text, ok := leaf("error_code"); ok {
			o.ErrorCode = string(text)
		}
	default:
		return nil, fail(CauseMalformed, "certificate has a request of unknown status")
	}
	return o, nil
}
