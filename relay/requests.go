package relay

import (
	"context"
	"net/http"
	"net/http/httptrace"

	"github.com/icws-gateway/caddy-icws/verify"
)

// withSent arranges for sent to be called as soon as the request has been written to its connection.
func withSent(ctx context.Context, sent func()) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			if info.Err == nil {
				sent()
			}
		},
	})
}

// stages are told how far a request has come.
type stages struct {
	going func() bool // before it goes out to a host; false stops it there. nil = always true
	sent  func()      // when it has been written to a connection; nil = not told
}

// call submits an envelope (with its CBOR tag) to canister. A nil answer means that the hosts have only version 2 of the
// endpoint and one accepted the call there: nobody but its sender can learn the outcome.
func (u *upstream) call(ctx context.Context, canister verify.Principal, envelope []byte, avoid *host, st stages) (*answer, error) {
	r := &request{
		endpoint: EndpointCall,
		canister: canister,
		class:    classCall,
		body:     envelope,
		timeout:  u.timeout + callHold,
		stages:   st,
		avoid:    avoid,
	}
	a, err := u.do(ctx, r)
	if servedNowhere(err) && avoid != nil {
		r.avoid = nil // it has not been asked
		a, err = u.do(ctx, r)
	}
	if !servedNowhere(err) {
		return a, err
	}
	r.versions = unansweredCall
	if a, err = u.do(ctx, r); err == nil && a.status == http.StatusAccepted {
		a.release()
		return nil, nil
	}
	return a, err
}

// query asks canister.
func (u *upstream) query(ctx context.Context, canister verify.Principal, cl class, envelope []byte, avoid *host) (*answer, error) {
	return u.do(ctx, u.queryRequest(canister, cl, envelope, avoid))
}

// queryAdmitted is query for a caller that has taken the first attempt's token from the budget, see admit.
func (u *upstream) queryAdmitted(ctx context.Context, canister verify.Principal, cl class, envelope []byte, avoid *host) (*answer, error) {
	r := u.queryRequest(canister, cl, envelope, avoid)
	r.admitted = true
	return u.do(ctx, r)
}

func (u *upstream) queryRequest(canister verify.Principal, cl class, envelope []byte, avoid *host) *request {
	return &request{
		endpoint: EndpointQuery,
		canister: canister,
		class:    cl,
		body:     envelope,
		timeout:  u.timeout,
		avoid:    avoid,
	}
}

// readState reads certified state. shape may change the request before it goes out; nil = as it is.
func (u *upstream) readState(ctx context.Context, canister verify.Principal, envelope []byte, shape func(*request)) (*answer, error) {
	r := &request{
		endpoint: EndpointReadState,
		canister: canister,
		class:    classCall,
		body:     envelope,
		timeout:  u.timeout,
	}
	if shape != nil {
		shape(r)
	}
	return u.do(ctx, r)
}

// flatAt makes it a request to h whose certificate should have the routing table in the older layout.
func flatAt(h *host) func(*request) {
	return func(r *request) { r.versions, r.only, r.timeout = flatReadState, h, min(r.timeout, donorPatience) }
}

// status asks for the network's status, which names its root key.
func (u *upstream) status(ctx context.Context) (*answer, error) {
	return u.do(ctx, &request{
		endpoint: EndpointStatus,
		class:    classCall,
		timeout:  u.timeout,
	})
}
