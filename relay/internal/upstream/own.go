package upstream

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// OwnExpiry is how long the gateway's own requests are valid from when they are signed: less than the 5 minutes that the IC
// takes, to leave room for clocks that are fast.
const OwnExpiry = 4 * time.Minute

// SignCall makes an envelope of the gateway's own that calls a method of canister, for [Network.Call]. Every one is a request
// of its own to the IC.
func (n *Network) SignCall(canister verify.Principal, method string, arg []byte) (envelope []byte, id [32]byte, err error) {
	return n.sign(&verify.Request{Type: verify.RequestCall, Canister: canister, Method: method, Arg: arg, Nonce: randomNonce()})
}

// sign completes r as the gateway's own request.
func (n *Network) sign(r *verify.Request) (envelope []byte, id [32]byte, err error) {
	r.IngressExpiry = time.Now().Add(OwnExpiry)
	return r.Sign(n.identity)
}

// keptKey is a signer whose public key is encoded once.
type keptKey struct {
	verify.Signer
	key []byte
}

func (k *keptKey) PublicKey() []byte { return k.key }

// randomNonce makes a request unique: the IC takes requests that are equal for the same one.
func randomNonce() []byte {
	nonce := make([]byte, 16)
	rand.Read(nonce) // never fails (crypto/rand)
	return nonce
}

// Question is a query of the gateway's own.
type Question struct {
	Canister verify.Principal
	Method   string
	Arg      []byte
	Class    Class
	Avoid    *Host // asked only where no other host gives an answer; may be nil
	Admitted bool  // the token of the first attempt has been taken, see [Network.Admit]
}

// QueryAnswer is the answer to a [Question]. Its memory is that of the embedded answer: release it.
type QueryAnswer struct {
	*Answer
	ID    [32]byte           // of the request
	Reply *verify.QueryReply // aliases the body; not verified
}

// Query asks a canister. The error is a *BadAnswer if the answer cannot be read, an *Error, or that of ctx. With a *BadAnswer
// there is an answer to release as well.
func (n *Network) Query(ctx context.Context, q Question) (QueryAnswer, error) {
	body, id, err := n.sign(&verify.Request{Type: verify.RequestQuery, Canister: q.Canister, Method: q.Method, Arg: q.Arg, Nonce: randomNonce()})
	if err != nil {
		return QueryAnswer{}, err
	}
	a, err := n.do(ctx, &request{
		endpoint: EndpointQuery,
		canister: q.Canister,
		class:    q.Class,
		body:     body,
		timeout:  n.timeout,
		avoid:    q.Avoid,
		admitted: q.Admitted,
	})
	if err != nil {
		return QueryAnswer{}, err
	}
	reply, err := verify.ParseQueryReply(a.Body)
	if err != nil {
		err = a.Bad(err)
	}
	return QueryAnswer{Answer: a, ID: id, Reply: reply}, err
}

// stateAnswer is a certificate of one path of the certified state, which holds. Whether what it certifies is any good is for the
// caller to say, see [Answer.Good]. What refers to it keeps the memory of the answer.
type stateAnswer struct {
	*Answer
	raw  []byte
	cert *verify.Certificate
}

// readState reads one path of the certified state as the canister's subnet certifies it. shape may change the request before it
// goes out; nil = as it is. The error is a *BadAnswer if the certificate does not hold, an *Error, or that of ctx.
func (n *Network) readState(ctx context.Context, canister verify.Principal, shape func(*request), path ...[]byte) (stateAnswer, error) {
	authority, err := n.Authority(ctx)
	if err != nil {
		return stateAnswer{}, err
	}
	body, _, err := n.sign(&verify.Request{Type: verify.RequestReadState, Canister: canister, Paths: [][][]byte{path}})
	if err != nil {
		return stateAnswer{}, err
	}
	r := &request{
		endpoint: EndpointReadState,
		canister: canister,
		class:    ClassRead,
		body:     body,
		timeout:  n.timeout,
	}
	if shape != nil {
		shape(r)
	}
	a, err := n.do(ctx, r)
	if err != nil {
		return stateAnswer{}, err
	}
	s := stateAnswer{Answer: a}
	if s.raw, err = verify.ParseReadStateReply(a.Body); err == nil {
		s.cert, err = authority.Certificate(s.raw, canister, time.Now())
	}
	if err != nil {
		return stateAnswer{}, a.Bad(err)
	}
	return s, nil
}

// avoiding makes it a request that goes to h only where no other host gives an answer; nil changes nothing.
func avoiding(h *Host) func(*request) { return func(r *request) { r.avoid = h } }
