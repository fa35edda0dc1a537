package verify

import (
	"crypto/sha256"
	"fmt"
	"time"
)

// Bounds the Internet Computer sets on requests.
const (
	// MaxIngressExpiry is how far ahead of its time the Internet Computer accepts an ingress expiry: five minutes and
	// thirty seconds of tolerance for drifting clocks.
	MaxIngressExpiry = 5*time.Minute + 30*time.Second
	// MaxRequestNonce is the longest nonce of a request in bytes.
	MaxRequestNonce = 32
)

// Envelope is the parsed view of a signed request. Every slice aliases the bytes it was parsed from. Nothing is
// verified yet: VerifySender does that.
type Envelope struct {
	// Raw is the exact encoding of the envelope without self-describe tag. With the tag in front it is what is posted
	// to the Internet Computer: encoding it again could lose fields that we do not know, and with them the signature.
	Raw []byte
	// Content is the exact encoding of the signed part.
	Content []byte
	// RequestType is RequestCall, RequestQuery, RequestReadState or something newer.
	RequestType string
	// Canister is the callee of a call or query, otherwise the zero value.
	Canister Principal
	// MethodName is the method of a call or query, otherwise empty.
	MethodName string
	// Arg is the argument of a call or query, Candid as a rule.
	Arg []byte
	// Sender is the principal on whose behalf the request is made.
	Sender Principal
	// Nonce makes otherwise equal requests different: at most MaxRequestNonce bytes, nil if there is none.
	Nonce []byte
	// IngressExpiry is the last time at which the request is accepted, in nanoseconds since 1970.
	IngressExpiry uint64
	// PublicKey is the sender's key in DER form, nil for an anonymous request.
	PublicKey []byte
	// Signature is by PublicKey or, if there are delegations, by the last key of their chain.
	Signature []byte
	// Delegations is the exact encoding of the chain, a CBOR array, or nil if there is none.
	Delegations []byte
	// RequestID identifies the request: the representation-independent hash of Content.
	RequestID [sha256.Size]byte
}

// ParseClientFrame parses the frame in which a client sends an envelope: a map with the key "envelope", tagged or not.
// Other keys are skipped. Errors have CauseMalformed.
func ParseClientFrame(frame []byte) (*Envelope, error) {
	c := readClient(frame)
	c.selfDescribe()
	var raw []byte
	f := c.fields()
	for f.next() {
		if string(f.key) == "envelope" {
			raw = c.raw()
		} else {
			c.skip()
		}
	}
	if err := c.done(); err != nil {
		return nil, failWith(CauseMalformed, "decoding client frame", err)
	}
	if raw == nil {
		return nil, failWith(CauseMalformed, "decoding client frame: no envelope in it", ErrMalformed)
	}
	return ParseEnvelope(raw)
}

// ParseEnvelope parses an envelope, tagged or not, and computes its request id. Unknown keys are kept: in Raw, in Content
// and in the hash. Errors have CauseMalformed.
func ParseEnvelope(raw []byte) (*Envelope, error) {
	c := readClient(raw)
	c.selfDescribe()
	e := &Envelope{Raw: c.buf}
	f := c.fields()
	for f.next() {
		switch string(f.key) {
		case "content":
			e.Content = c.raw()
		case "sender_pubkey":
			e.PublicKey = c.optionalBytes()
		case "sender_sig":
			e.Signature = c.optionalBytes()
		case "sender_delegation":
			if !c.null() {
				e.Delegations = c.raw()
			}
		default:
			c.skip()
		}
	}
	if err := c.done(); err != nil {
		return nil, failWith(CauseMalformed, "decoding envelope", err)
	}
	if e.Content == nil {
		return nil, failWith(CauseMalformed, "decoding envelope: no content in it", ErrMalformed)
	}
	if err := e.parseContent(); err != nil {
		return nil, failWith(CauseMalformed, "decoding request", err)
	}
	var err error
	if e.RequestID, err = hashCBOR(e.Content, maxHashValues); err != nil {
		return nil, failWith(CauseMalformed, "hashing request", err)
	}
	return e, nil
}

// parseContent reads the fields of the signed part that we understand.
func (e *Envelope) parseContent() error {
	c := readClient(e.Content)
	var hasType, hasCanister, hasMethod, hasArg, hasSender, hasExpiry bool
	f := c.fields()
	for f.next() {
		switch string(f.key) {
		case "request_type":
			e.RequestType, hasType = string(c.text()), true
		case "canister_id":
			e.Canister, hasCanister = c.principal(), true
		case "method_name":
			e.MethodName, hasMethod = string(c.text()), true
		case "arg":
			e.Arg, hasArg = c.bytes(), true
		case "sender":
			e.Sender, hasSender = c.principal(), true
		case "ingress_expiry":
			e.IngressExpiry, hasExpiry = c.uint(), true
		case "nonce":
			e.Nonce = c.optionalBytes()
		default:
			c.skip()
		}
	}
	if err := c.done(); err != nil {
		return err
	}
	switch {
	case !hasType:
		return missingField("request_type")
	case !hasSender:
		return missingField("sender")
	case !hasExpiry:
		return missingField("ingress_expiry")
	case len(e.Nonce) > MaxRequestNonce:
		return fmt.Errorf("%w: nonce longer than %d bytes", ErrMalformed, MaxRequestNonce)
	}
	if e.RequestType == RequestCall || e.RequestType == RequestQuery {
		switch {
		case !hasCanister:
			return missingField("canister_id")
		case !hasMethod:
			return missingField("method_name")
		case !hasArg:
			return missingField("arg")
		}
	}
	return nil
}

// usualExpiry is how far ahead clients put the ingress expiry: the SDK 4 minutes, rounded down to the minute.
const usualExpiry = 3*time.Minute + 30*time.Second

// CheckExpiry checks the ingress expiry against the time of the Internet Computer, for which a well-kept clock is good
// enough. The error has CauseExpired or CauseNotYet, and its text says about how wrong the client's clock is.
func (e *Envelope) CheckExpiry(now time.Time) error {
	at := nanosOf(now)
	if e.IngressExpiry < at { // replicas take a request in its last nanosecond
		late := at - e.IngressExpiry
		return fail(CauseExpired, fmt.Sprintf("expired %s ago by IC time, check the clock (about %s slow)",
			span(late), span(late+uint64(usualExpiry))))
	}
	if ahead := e.IngressExpiry - at; ahead > uint64(MaxIngressExpiry) {
		return fail(CauseNotYet, fmt.Sprintf("expiry %s ahead of IC time, check the clock (about %s fast)",
			span(ahead), span(ahead-uint64(usualExpiry))))
	}
	return nil
}

// span is a number of nanoseconds as text: in whole seconds, whole minutes from ten on, and hours from a hundred on.
func span(nanos uint64) string {
	seconds := nanos / uint64(time.Second)
	switch {
	case seconds < 600:
		return fmt.Sprintf("%d s", seconds)
	case seconds < 100*3600:
		return fmt.Sprintf("%d min", seconds/60)
	}
	return fmt.Sprintf("%d h", seconds/3600)
}

// optionalBytes reads a byte string, or null as nil.
func (c *cborReader) optionalBytes() []byte {
	if c.null() {
		return nil
	}
	return c.bytes()
}

func missingField(name string) error {
	return fmt.Errorf("%w: no %s in it", ErrMalformed, name)
}
