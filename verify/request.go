package verify

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/aviate-labs/agent-go/principal"
)

// Types of a request.
const (
	RequestCall      = "call"
	RequestQuery     = "query"
	RequestReadState = "read_state"
)

// Signer holds a key and signs with it. The identities of agent-go satisfy it.
type Signer interface {
	// Sender is the principal derived from the public key.
	Sender() principal.Principal
	// PublicKey is the public key in DER form.
	PublicKey() []byte
	// Sign signs a message as the Internet Computer wants it for this kind of key.
	Sign(msg []byte) ([]byte, error)
}

// Request is a request to the Internet Computer before it is signed.
type Request struct {
	// Type is RequestCall, RequestQuery or RequestReadState.
	Type string
	// Canister is the callee of a call or query.
	Canister Principal
	// Method is the method of a call or query.
	Method string
	// Arg is the argument of a call or query, Candid as a rule. Nil counts as empty.
	Arg []byte
	// Paths are what a read_state asks for, each a list of labels.
	Paths [][][]byte
	// Nonce makes otherwise equal requests different: at most 32 bytes, left out if empty.
	Nonce []byte
	// IngressExpiry is the time from which the request is no longer accepted. The Internet Computer allows five and a
	// half minutes from now.
	IngressExpiry time.Time
	// Delegations authorise the signer to act for the holder of RootKey, outermost first.
	Delegations []SignedDelegation
	// RootKey is the public key, in DER form, that signed the first delegation. Without delegations it is not used:
	// the signer acts for itself.
	RootKey []byte
}

// Sign returns the signed envelope, tagged, and the id of the request. Map keys are in the order of the JavaScript
// agent, lengths are definite. A nil signer makes an anonymous request without signature. Errors come from the signer,
// or say that the request cannot be represented.
func (r *Request) Sign(s Signer) (envelope []byte, id [32]byte, err error) {
	sender := Anonymous
	var key []byte
	if s != nil {
		key = s.PublicKey()
		if len(r.Delegations) > 0 {
			key = r.RootKey
		}
		sender = SelfAuthenticating(key)
	}
	nanos := r.IngressExpiry.UnixNano()
	if nanos <= 0 {
		return nil, id, fmt.Errorf("signing request: ingress expiry is not set")
	}
	content := r.appendContent(nil, sender, uint64(nanos))
	if id, err = hashCBOR(content, maxHashValues); err != nil {
		return nil, id, fmt.Errorf("signing request: %w", err)
	}
	entries := uint64(1)
	var signature []byte
	if s != nil {
		if signature, err = s.Sign(requestMessage(id)); err != nil {
			return nil, id, fmt.Errorf("signing request: %w", err)
		}
		entries = 3
		if len(r.Delegations) > 0 {
			entries = 4
		}
	}
	size := len(content) + len(key) + len(signature) + 64
	envelope = append(make([]byte, 0, size), selfDescribeTag...)
	envelope = appendCBORHead(envelope, cborMap, entries)
	envelope = appendCBORText(envelope, "content")
	envelope = append(envelope, content...)
	if s == nil {
		return envelope, id, nil
	}
	if len(r.Delegations) > 0 {
		envelope = appendCBORText(envelope, "sender_delegation")
		envelope = appendCBORHead(envelope, cborArray, uint64(len(r.Delegations)))
		for i := range r.Delegations {
			envelope = r.Delegations[i].appendCBOR(envelope)
		}
	}
	envelope = appendCBORText(envelope, "sender_pubkey")
	envelope = appendCBORBytes(envelope, key)
	envelope = appendCBORText(envelope, "sender_sig")
	return appendCBORBytes(envelope, signature), id, nil
}

// appendContent appends the request's content, a map with sorted keys.
func (r *Request) appendContent(dst []byte, sender Principal, expiry uint64) []byte {
	calls := r.Type != RequestReadState
	entries := uint64(4) // ingress_expiry, paths, request_type, sender
	if calls {
		entries = 6 // arg, canister_id, ingress_expiry, method_name, request_type, sender
	}
	if len(r.Nonce) > 0 {
		entries++
	}
	dst = appendCBORHead(dst, cborMap, entries)
	if calls {
		dst = appendCBORText(dst, "arg")
		dst = appendCBORBytes(dst, r.Arg)
		dst = appendCBORText(dst, "canister_id")
		dst = appendCBORPrincipal(dst, r.Canister)
	}
	dst = appendCBORText(dst, "ingress_expiry")
	dst = appendCBORHead(dst, cborUint, expiry)
	if calls {
		dst = appendCBORText(dst, "method_name")
		dst = appendCBORText(dst, r.Method)
	}
	if len(r.Nonce) > 0 {
		dst = appendCBORText(dst, "nonce")
		dst = appendCBORBytes(dst, r.Nonce)
	}
	if !calls {
		dst = appendCBORText(dst, "paths")
		dst = appendCBORHead(dst, cborArray, uint64(len(r.Paths)))
		for _, path := range r.Paths {
			dst = appendCBORHead(dst, cborArray, uint64(len(path)))
			for _, label := range path {
				dst = appendCBORBytes(dst, label)
			}
		}
	}
	dst = appendCBORText(dst, "request_type")
	dst = appendCBORText(dst, r.Type)
	dst = appendCBORText(dst, "sender")
	return appendCBORPrincipal(dst, sender)
}

// SignedDelegation lets the holder of one key sign for the holder of another.
type SignedDelegation struct {
	// PublicKey is the key that may sign, in DER form.
	PublicKey []byte
	// Expiration is the last moment at which it may.
	Expiration time.Time
	// Targets are the canisters it may call; none means all.
	Targets []Principal
	// Permissions is "queries" to forbid calls; empty or "all" allows everything.
	Permissions string
	// Signature is by the delegating key over the fields above. Sign sets it.
	Signature []byte
}

// Sign signs the delegation with the delegating key and keeps the signature.
func (d *SignedDelegation) Sign(s Signer) error {
	nanos := d.Expiration.UnixNano()
	if nanos <= 0 {
		return fmt.Errorf("signing delegation: expiration is not set")
	}
	hash, err := hashCBOR(d.appendDelegation(nil), maxDelegationValues)
	if err != nil {
		return fmt.Errorf("signing delegation: %w", err)
	}
	if d.Signature, err = s.Sign(delegationMessage(hash)); err != nil {
		return fmt.Errorf("signing delegation: %w", err)
	}
	return nil
}

func (d *SignedDelegation) appendCBOR(dst []byte) []byte {
	dst = appendCBORHead(dst, cborMap, 2)
	dst = appendCBORText(dst, "delegation")
	dst = d.appendDelegation(dst)
	dst = appendCBORText(dst, "signature")
	return appendCBORBytes(dst, d.Signature)
}

// appendDelegation appends the signed part, with the keys in the order of the JavaScript agent.
func (d *SignedDelegation) appendDelegation(dst []byte) []byte {
	entries := uint64(2)
	if len(d.Targets) > 0 {
		entries++
	}
	if d.Permissions != "" {
		entries++
	}
	dst = appendCBORHead(dst, cborMap, entries)
	dst = appendCBORText(dst, "pubkey")
	dst = appendCBORBytes(dst, d.PublicKey)
	dst = appendCBORText(dst, "expiration")
	dst = appendCBORHead(dst, cborUint, uint64(d.Expiration.UnixNano()))
	if len(d.Targets) > 0 {
		dst = appendCBORText(dst, "targets")
		dst = appendCBORHead(dst, cborArray, uint64(len(d.Targets)))
		for _, target := range d.Targets {
			dst = appendCBORPrincipal(dst, target)
		}
	}
	if d.Permissions != "" {
		dst = appendCBORText(dst, "permissions")
		dst = appendCBORText(dst, d.Permissions)
	}
	return dst
}

// AppendClientFrame appends the frame in which clients send an envelope, tagged or not, to a gateway.
func AppendClientFrame(dst, envelope []byte) []byte {
	c := cborReader{buf: envelope}
	c.selfDescribe()
	dst = append(dst, selfDescribeTag...)
	dst = appendCBORHead(dst, cborMap, 1)
	dst = appendCBORText(dst, "envelope")
	return append(dst, c.buf...)
}

// requestMessage is what the sender of a request signs.
func requestMessage(id [sha256.Size]byte) []byte {
	message := make([]byte, 0, len("\x0aic-request")+len(id))
	return append(append(message, "\x0aic-request"...), id[:]...)
}

// delegationMessage is what a delegating key signs.
func delegationMessage(hash [sha256.Size]byte) []byte {
	return append([]byte("\x1aic-request-auth-delegation"), hash[:]...)
}

// nanosOf is t as the Internet Computer counts time. Times before 1970 count as zero.
func nanosOf(t time.Time) uint64 { return uint64(max(t.UnixNano(), 0)) }

// appendLEB128 appends v as unsigned LEB128.
func appendLEB128(dst []byte, v uint64) []byte { return binary.AppendUvarint(dst, v) }
