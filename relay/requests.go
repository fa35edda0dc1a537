package relay

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"time"

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

// call submits an envelope (with its CBOR tag) to canister. A nil answer means that the host has only version 2 of the
// endpoint and accepted the call there: nobody but its sender can learn the outcome.
func (u *upstream) call(ctx context.Context, canister verify.Principal, envelope []byte, avoid *host, st stages) (*answer, error) {
	for {
		version := 0
		a, err := u.do(ctx, &request{
			endpoint: EndpointCall,
			canister: canister,
			class:    classCall,
			method:   http.MethodPost,
			path: func(h *host) string {
				version = h.callVersion(time.Now())
				return fmt.Sprintf("/api/v%d/canister/%s/call", version, canister)
			},
			body:    envelope,
			timeout: u.timeout + callHold,
			stages:  st,
			avoid:   avoid,
		})
		if h := missingEndpoint(err); h != nil && h.olderCall(version, time.Now()) != 0 {
			continue
		}
		if err == nil && version == oldestCall && a.status == http.StatusAccepted {
			a.release()
			return nil, nil
		}
		return a, err
	}
}

// missingEndpoint returns the host that says it has no such endpoint, nil if that is not what err means. Boundary
// nodes explain their own 4xx with a cause; a bare 404 or 405 is a path that is not served.
func missingEndpoint(err error) *host {
	var ue *upstreamError
	if !errors.As(err, &ue) || ue.cause != "" || ue.status != http.StatusNotFound && ue.status != http.StatusMethodNotAllowed {
		return nil
	}
	return ue.host
}

// query asks canister. Version 2 certifies the routing table in the layout that deployed clients understand; see
// DESIGN, decision 4.
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
		method:   http.MethodPost,
		path:     func(*host) string { return "/api/v2/canister/" + canister.String() + "/query" },
		body:     envelope,
		timeout:  u.timeout,
		avoid:    avoid,
	}
}

// readState reads certified state, with the certificate's routing table in the older layout.
func (u *upstream) readState(ctx context.Context, canister verify.Principal, envelope []byte) (*answer, error) {
	return u.do(ctx, &request{
		endpoint: EndpointReadState,
		canister: canister,
		class:    classCall,
		method:   http.MethodPost,
		path:     func(*host) string { return "/api/v2/canister/" + canister.String() + "/read_state" },
		body:     envelope,
		timeout:  u.timeout,
	})
}

// status asks for the network's status, which names its root key.
func (u *upstream) status(ctx context.Context) (*answer, error) {
	return u.do(ctx, &request{
		endpoint: EndpointStatus,
		class:    classCall,
		method:   http.MethodGet,
		path:     func(*host) string { return "/api/v2/status" },
		timeout:  u.timeout,
	})
}
