package verify

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"time"
)

// SenderChain is the verified way from a sender's public key to the key that signs its requests: the delegations between
// them, or nothing if the sender signs itself. It is immutable, safe for concurrent use, small, and does not alias the
// envelope it was made from.
type SenderChain struct {
	digest   [sha256.Size]byte // of public key, delegations, sender and canister
	key      publicKey         // signs requests
	terms    chainTerms
	readOnly bool // verified for a read_state, whose canister is not known, so targets were not judged
}

// VerifySender checks that a request comes from its sender: that the sender is not anonymous and derived from the public
// key, that every delegation from that key on is signed, unexpired and covers the request, and that the last key signed
// it. It does not judge the ingress expiry; see Envelope.CheckExpiry.
//
// The authority a is for canister signatures, with which sessions of Internet Identity begin; with nil they count as an
// unknown scheme.
//
// The chain returned may be given to later calls as cached. If the envelope then has the same public key, delegations and
// canister byte for byte, a call costs one signature; if not, the cached chain is ignored. A cached chain that has expired
// is refused.
//
// Errors are *Error with the causes anonymous, sender, signature, delegation, delegation_expired, targets, permissions,
// malformed, and scheme for a kind of key that cannot be checked, in which case they wrap ErrUnknownScheme and all cheaper
// checks have passed.
func VerifySender(e *Envelope, now time.Time, a *Authority, cached *SenderChain) (*SenderChain, error) {
	if e.Sender.IsAnonymous() {
		return nil, fail(CauseAnonymous, "sender is anonymous, sign in or create an identity first")
	}
	if len(e.PublicKey) == 0 || len(e.Signature) == 0 {
		return nil, fail(CauseSignature, "request is not signed")
	}
	digest := chainDigest(e)
	chain := cached
	if chain == nil || chain.digest != digest || chain.readOnly != (e.RequestType == RequestReadState) {
		var err error
		if chain, err = newSenderChain(e, digest, now, a); err != nil {
			return nil, err
		}
	} else if err := chain.terms.check(e, now); err != nil {
		return nil, err
	}
	if err := chain.key.verify(requestMessage(e.RequestID), e.Signature, a, now); err != nil {
		return nil, failWith(CauseSignature, "checking request signature", err)
	}
	return chain, nil
}

// Expires returns the last moment at which the chain is good, and whether there is one: a sender that signs itself has none.
func (c *SenderChain) Expires() (time.Time, bool) {
	if c.terms.expires == math.MaxUint64 {
		return time.Time{}, false
	}
	return time.Unix(0, int64(min(c.terms.expires, math.MaxInt64))), true
}

// newSenderChain verifies the way from the sender's key to the one that signs, cheap checks first.
func newSenderChain(e *Envelope, digest [sha256.Size]byte, now time.Time, a *Authority) (*SenderChain, error) {
	if SelfAuthenticating(e.PublicKey) != e.Sender {
		return nil, fail(CauseSender, "sender is not derived from the public key, use the principal of the signing identity")
	}
	chain := &SenderChain{digest: digest, readOnly: e.RequestType == RequestReadState}
	var links []link
	if e.Delegations != nil {
		var err error
		if links, err = parseChain(e.Delegations, e.Canister); err != nil {
			return nil, failWith(CauseMalformed, "decoding sender delegations", err)
		}
	}
	var err error
	if chain.terms, err = checkLinks(e, links, now); err != nil {
		return nil, err
	}
	if chain.key, err = parsePublicKey(e.PublicKey); err != nil {
		return nil, failWith(CauseMalformed, "reading the sender's public key", err)
	}
	for i := range links {
		l := &links[i]
		if err := chain.key.verify(delegationMessage(l.hash), l.signature, a, now); err != nil {
			return nil, &Error{Cause: causeOfLink(err), Text: "checking signature of sender delegation", Err: err}
		}
		if chain.key, err = parsePublicKey(l.publicKey); err != nil {
			return nil, failWith(CauseMalformed, "reading public key of sender delegation", err)
		}
	}
	return chain, nil
}

// causeOfLink is the cause of a delegation whose signature fails with err.
func causeOfLink(err error) Cause {
	if CauseOf(err) == CauseScheme {
		return CauseScheme
	}
	return CauseDelegation
}

// chainDigest names everything that decides about a chain: two envelopes with the same digest have the same one. Lengths
// go first, so that no two combinations give the same bytes.
func chainDigest(e *Envelope) [sha256.Size]byte {
	h := sha256.New()
	var head [2*8 + 2 + 2*MaxPrincipalBytes]byte
	binary.BigEndian.PutUint64(head[0:], uint64(len(e.PublicKey)))
	binary.BigEndian.PutUint64(head[8:], uint64(len(e.Delegations)))
	head[16], head[17] = e.Sender.n, e.Canister.n
	copy(head[18:], e.Sender.b[:])
	copy(head[18+MaxPrincipalBytes:], e.Canister.b[:])
	h.Write(head[:])
	h.Write(e.PublicKey)
	h.Write(e.Delegations)
	var digest [sha256.Size]byte
	h.Sum(digest[:0])
	return digest
}
