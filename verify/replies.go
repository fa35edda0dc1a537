package verify

import "fmt"

var (
	errReplyStatus  = fmt.Errorf("%w: answer of unknown status", ErrMalformed)
	errReplyParts   = fmt.Errorf("%w: answer with a field missing", ErrMalformed)
	errReplySigners = fmt.Errorf("%w: answer with more than %d node signatures", ErrMalformed, maxNodeSignatures)
)

// maxNodeSignatures bounds the signatures of one query reply. The Internet Computer sends one.
const maxNodeSignatures = 64

// QueryReply is the answer to a query, not verified. Slices alias the body.
type QueryReply struct {
	// Replied says that the canister replied; otherwise the query was rejected.
	Replied bool
	// Arg is the canister's answer, Candid, if Replied.
	Arg []byte
	// RejectCode, RejectMessage and ErrorCode say why, if not Replied. ErrorCode is empty if there is none.
	RejectCode    uint64
	RejectMessage string
	ErrorCode     string
	// Signatures are the signatures of the nodes that answered. VerifyNode checks them.
	Signatures []NodeSignature

	hasErrorCode bool // tells an absent error code from an empty one: they are signed differently
}

// NodeSignature is a replica node's signature of a query reply. Slices alias the body.
type NodeSignature struct {
	// Timestamp is the node's time, nanoseconds since 1970.
	Timestamp uint64
	// Signature is an Ed25519 signature.
	Signature []byte
	// Node is the principal of the node.
	Node Principal
}

// rejection is the part that all rejections on the wire share.
type rejection struct {
	code           uint64
	message        string
	errorCode      string
	hasCode, hasEC bool
}

// field reads the value of key if it is one of a rejection's.
func (r *rejection) field(c *cborReader, key []byte) bool {
	switch string(key) {
	case "reject_code":
		r.code, r.hasCode = c.uint(), true
	case "reject_message":
		if !c.null() {
			r.message = string(c.text())
		}
	case "error_code":
		if !c.null() {
			r.errorCode, r.hasEC = string(c.text()), true
		}
	default:
		return false
	}
	return true
}

// ParseQueryReply decodes the body of a query's 200 answer. The error wraps ErrMalformed.
func ParseQueryReply(body []byte) (*QueryReply, error) {
	q := &QueryReply{}
	var status []byte
	var rej rejection
	c := cborReader{buf: body}
	c.selfDescribe()
	for m := c.fields(); m.next(); {
		switch string(m.key) {
		case "status":
			status = c.text()
		case "reply":
			for r := c.fields(); r.next(); {
				if string(r.key) == "arg" {
					q.Arg = c.bytes()
				} else {
					c.skip()
				}
			}
		case "signatures":
			q.readSignatures(&c)
		default:
			if !rej.field(&c, m.key) {
				c.skip()
			}
		}
	}
	err := c.done()
	switch {
	case err != nil:
	case string(status) == "replied":
		q.Replied = true
		if q.Arg == nil {
			err = errReplyParts
		}
	case string(status) == "rejected":
		q.Arg = nil
		q.RejectCode, q.RejectMessage = rej.code, rej.message
		q.ErrorCode, q.hasErrorCode = rej.errorCode, rej.hasEC
		if !rej.hasCode {
			err = errReplyParts
		}
	default:
		err = errReplyStatus
	}
	if err != nil {
		return nil, failWith(CauseMalformed, "reading query answer", err)
	}
	return q, nil
}

// readSignatures reads the list of node signatures.
func (q *QueryReply) readSignatures(c *cborReader) {
	n := c.array()
	if n > maxNodeSignatures {
		c.fail(errReplySigners)
		return
	}
	for range n {
		var s NodeSignature
		signed := 0
		for m := c.fields(); m.next(); {
			switch string(m.key) {
			case "timestamp":
				s.Timestamp = c.uint()
				signed++
			case "signature":
				s.Signature = c.bytes()
				signed++
			case "identity":
				s.Node = c.principal()
				signed++
			default:
				c.skip()
			}
		}
		if signed != 3 {
			c.fail(errReplyParts)
			return
		}
		q.Signatures = append(q.Signatures, s)
	}
}

// CallReply is the answer to an update call with status 200, not verified. Slices alias the body.
type CallReply struct {
	// Certificate proves the outcome, if not Rejected. Authority.Outcome reads it; it may say that the call was rejected.
	Certificate []byte
	// Rejected says that one replica refused the call before it was submitted. Nothing proves that.
	Rejected bool
	// RejectCode, RejectMessage and ErrorCode say why, if Rejected. ErrorCode is empty if there is none.
	RejectCode    uint64
	RejectMessage string
	ErrorCode     string
}

// ParseCallReply decodes the body of an update call's 200 answer, of all call endpoints. The error wraps ErrMalformed.
func ParseCallReply(body []byte) (*CallReply, error) {
	r := &CallReply{}
	var status []byte
	var rej rejection
	c := cborReader{buf: body}
	c.selfDescribe()
	for m := c.fields(); m.next(); {
		switch string(m.key) {
		case "status":
			status = c.text()
		case "certificate":
			r.Certificate = c.bytes()
		default:
			if !rej.field(&c, m.key) {
				c.skip()
			}
		}
	}
	err := c.done()
	switch {
	case err != nil:
	case string(status) == "replied":
		if r.Certificate == nil {
			err = errReplyParts
		}
	// The answer of the oldest endpoint has a reject code and no status.
	case string(status) == "non_replicated_rejection", status == nil && rej.hasCode:
		r.Certificate, r.Rejected = nil, true
		r.RejectCode, r.RejectMessage, r.ErrorCode = rej.code, rej.message, rej.errorCode
		if !rej.hasCode {
			err = errReplyParts
		}
	default:
		err = errReplyStatus
	}
	if err != nil {
		return nil, failWith(CauseMalformed, "reading call answer", err)
	}
	return r, nil
}

// ParseStatusReply decodes the body of /api/v2/status and returns the root key in it, in DER form, checked to be a
// BLS12-381 key. The key aliases the body. It is only to be trusted on a network for tests. The error wraps ErrMalformed.
func ParseStatusReply(body []byte) (rootKeyDER []byte, err error) {
	rootKeyDER, err = onlyBytes(body, "root_key")
	if err == nil {
		_, err = parseBLSKey(rootKeyDER)
	}
	if err != nil {
		return nil, failWith(CauseMalformed, "reading status answer", err)
	}
	return rootKeyDER, nil
}

// ParseReadStateReply decodes the body of read_state's 200 answer and returns the certificate in it, not verified. It
// aliases the body. The error wraps ErrMalformed.
func ParseReadStateReply(body []byte) (cert []byte, err error) {
	if cert, err = onlyBytes(body, "certificate"); err != nil {
		return nil, failWith(CauseMalformed, "reading read_state answer", err)
	}
	return cert, nil
}

// onlyBytes reads the one byte string that matters of an answer and skips all else. It aliases the body.
func onlyBytes(body []byte, name string) (value []byte, err error) {
	c := cborReader{buf: body}
	c.selfDescribe()
	for m := c.fields(); m.next(); {
		if string(m.key) == name {
			value = c.optionalBytes()
		} else {
			c.skip()
		}
	}
	if err = c.done(); err == nil && value == nil {
		err = missingField(name)
	}
	return value, err
}
