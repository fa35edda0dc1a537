package verify

import (
	"crypto/sha256"
	"crypto/subtle"
	"sync"
	"time"
)

// Frame is one canister frame as a gateway sends it to a client (PROTOCOL 2.3). The fields alias the parsed bytes.
type Frame struct {
	// Key is the message's key in the canister's queue: the gateway's principal text, "_" and 20 digits.
	Key []byte
	// Content is the CBOR of the message; Cert and Tree prove it.
	Content, Cert, Tree []byte
}

// VerifiedFrame is what a frame proved.
type VerifiedFrame struct {
	// Nonce is the message's place in the gateway's queue.
	Nonce uint64
	// Message is the decoded content. Its own content aliases the frame.
	Message WebsocketMessage
	// Time is the subnet's time in the certificate.
	Time time.Time
	// Delegated tells whether the certificate came from a subnet other than the root subnet. Flat is true if deployed SDKs
	// can verify it: no delegation, or canister ranges in the older layout.
	Delegated, Flat bool
}

// treePool keeps the memory of parsed witnesses between frames.
var treePool = sync.Pool{New: func() any { return new(Tree) }}

// ParseFrame reads a canister frame, with or without the self-describe tag. It is as strict as the deployed SDK about
// the byte strings, which must be of definite length and not empty, and stricter about what follows the frame. Unknown
// fields are skipped. Errors wrap ErrMalformed.
func ParseFrame(raw []byte) (Frame, error) {
	var f Frame
	c := cborReader{buf: raw}
	c.selfDescribe()
	for m := c.fields(); m.next(); {
		switch string(m.key) {
		case "key":
			f.Key = c.text()
		case "content":
			f.Content = c.bytes()
		case "cert":
			f.Cert = c.bytes()
		case "tree":
			f.Tree = c.bytes()
		default:
			c.skip()
		}
	}
	if err := c.done(); err != nil {
		return Frame{}, failWith(CauseMalformed, "reading a canister frame", err)
	}
	if len(f.Key) == 0 || len(f.Content) == 0 || len(f.Cert) == 0 || len(f.Tree) == 0 {
		return Frame{}, failWith(CauseMalformed, "reading a canister frame: key, content, cert or tree is missing or empty", ErrMalformed)
	}
	return f, nil
}

// VerifyFrame proves one frame as a client does: the certificate is the network's and fresh, it certifies the witness for
// the canister, the witness proves the content under the frame's key, and the key is one of gateway's queue. Whom the
// message is for and whether its sequence number is the next one is left to the caller. Errors are *Error.
func (a *Authority) VerifyFrame(f Frame, canister, gateway Principal, now time.Time) (*VerifiedFrame, error) {
	v := new(VerifiedFrame)
	var ok bool
	if v.Nonce, ok = keyNonce(f.Key, gateway); !ok {
		return nil, fail(CauseKey, "the frame's key is not one of the gateway's queue")
	}
	cert, err := a.Certificate(f.Cert, canister, now)
	if err != nil {
		return nil, failWith(CauseMalformed, "verifying a frame's certificate", err)
	}
	v.Time, v.Flat = cert.Time(), cert.Flat()
	_, v.Delegated = cert.Subnet()

	tree := treePool.Get().(*Tree)
	defer treePool.Put(tree)
	if err := tree.Parse(f.Tree); err != nil {
		return nil, failWith(CauseMalformed, "reading a frame's witness", err)
	}
	root := tree.Digest()
	certified, found := cert.Lookup([]byte("canister"), canister.Bytes(), []byte("certified_data"))
	if found != Found || subtle.ConstantTimeCompare(certified, root[:]) == 0 {
		return nil, fail(CauseCertifiedData, "the certificate does not certify the frame's witness")
	}
	leaf, found := tree.Lookup([]byte("websocket"), f.Key)
	digest := sha256.Sum256(f.Content)
	if found != Found || subtle.ConstantTimeCompare(leaf, digest[:]) == 0 {
		return nil, fail(CauseWitness, "the witness does not prove the frame's content")
	}
	if v.Message, err = ParseContent(f.Content); err != nil {
		return nil, failWith(CauseMalformed, "reading a frame's content", err)
	}
	return v, nil
}
