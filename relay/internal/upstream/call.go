package upstream

import (
	"context"
	"net/http"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// callHold is how long a replica keeps a synchronous call waiting before it answers 202; a call may take that much
// longer than other requests.
const callHold = 10 * time.Second

// Stages are told how far a request has come.
type Stages struct {
	MaySend func() bool // before it goes out to a host; false stops it there. nil = always true
	Sent    func()      // when it has been written to a connection; nil = not told
}

// Call submits an envelope (with its CBOR tag) to canister. It goes to the host avoid only where no other gives an answer; avoid
// may be nil. A nil answer means that the hosts have only version 2 of the endpoint and one accepted the call there: nobody but
// its sender can learn the outcome. The error is an *Error, or that of ctx.
func (n *Network) Call(ctx context.Context, canister verify.Principal, envelope []byte, avoid *Host, st Stages) (*Answer, error) {
	r := &request{
		endpoint: EndpointCall,
		canister: canister,
		class:    ClassCall,
		body:     envelope,
		timeout:  n.timeout + callHold,
		stages:   st,
		avoid:    avoid,
	}
	a, err := n.do(ctx, r)
	if !servedNowhere(err) {
		return a, err
	}
	r.versions = unansweredCall
	if a, err = n.do(ctx, r); err == nil && a.Status == http.StatusAccepted {
		a.Release()
		return nil, nil
	}
	return a, err
}
