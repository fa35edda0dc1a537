package upstream

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// maxTries bounds the hosts that one request is tried on: where so many fail, it is not the hosts.
const maxTries = 8

// request is one request to the network; it may be tried on several hosts.
type request struct {
	endpoint Endpoint
	canister verify.Principal
	class    Class
	versions []int // of the endpoint, where not all will do; see host.order
	body     []byte
	timeout  time.Duration
	stages   Stages
	avoid    *Host // not this one, if there is another; may be nil
	only     *Host // this one and no other; nil = any
	admitted bool  // the token of the first attempt has been taken, see Admit
}

// Answer is the response to a request. Its body comes from a pool: release it when nothing refers to it any more.
type Answer struct {
	Host   *Host
	Status int // 200 or 202
	Body   []byte

	version int // of the endpoint
	buf     *bytes.Buffer
}

// Release gives the body back. The answer may be nil.
func (a *Answer) Release() {
	if a != nil && a.buf != nil {
		if a.buf.Cap() <= 1<<20 {
			bodies.Put(a.buf)
		}
		a.buf, a.Body = nil, nil
	}
}

var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// do sends r to the best host, and to the others in turn while they fail for reasons of their own. A host that does not
// serve one version of the endpoint is asked for the others first. Each attempt takes its own token from the budget. The
// error is an *Error, or that of ctx where nothing was sent; it says that no host serves the endpoint only if all
// that were asked say so.
func (n *Network) do(ctx context.Context, r *request) (*Answer, error) {
	all := n.Hosts()
	if r.only != nil {
		all = Hosts{r.only}
	}
	var tried []*Host
	if len(all) > 1 && slices.Contains(all, r.avoid) { // it may have been a discovered one that has gone
		tried = append(tried, r.avoid)
	}
	var h *Host
	var left []int   // versions of the endpoint to try at h
	var lacking bool // h does not serve one of them
	var failure *Error
	for admitted := r.admitted; len(left) > 0 || len(tried) < min(len(all), maxTries); admitted = false {
		var err error
		if !admitted {
			err = n.Admit(ctx, r.canister, r.class)
		}
		switch {
		case err != nil && failure != nil:
			return nil, failure
		case err != nil:
			return nil, err
		case r.stages.Going != nil && !r.stages.Going():
			return nil, context.Canceled
		}
		if len(left) == 0 {
			h = all.pick(tried) // now: their health may have changed while the request waited
			tried = append(tried, h)
			left, lacking = r.versions, false
			if left == nil {
				left = h.order(r.endpoint, time.Now())
			}
		}
		version := left[0]
		left = left[1:]
		a, ue := n.try(ctx, h, version, r, len(left) > 0)
		if ue == nil || !ue.Transient() {
			h.serves(r.endpoint, version, lacking, time.Now())
		}
		if ue == nil {
			return a, nil
		}
		ue.Taken = ue.mayBeTaken() || failure != nil && failure.Taken
		if ctx.Err() != nil || !ue.Transient() {
			return nil, ue
		}
		if lacking = ue.Means == NoEndpoint; !lacking {
			left = nil
		}
		if failure == nil || failure.Means == NoEndpoint || !lacking {
			failure = ue // what fails for another reason than that the endpoint is not there may come back
		}
	}
	return nil, failure
}

// Admit takes a token from the budget for one request, and waits until there is one. The error is that of ctx.
func (n *Network) Admit(ctx context.Context, canister verify.Principal, cl Class) error {
	waited, err := n.budget.wait(ctx, canister, cl)
	n.recorder.BudgetWait(waited)
	return err
}

// try sends r to h once, to a version of its endpoint, and keeps the books of h. more says that other versions are left to
// try.
func (n *Network) try(ctx context.Context, h *Host, version int, r *request, more bool) (*Answer, *Error) {
	h.begin()
	began := time.Now()
	a, ue := n.exchange(ctx, h, version, r)
	took := time.Since(began)
	outcome := OutcomeOK
	switch {
	case ue == nil && r.endpoint == EndpointCall:
		h.succeeded(0) // a synchronous call takes as long as its canister does
	case ue == nil:
		h.succeeded(took)
	case ctx.Err() != nil:
		h.abandoned()
		return nil, ue // given up by the caller: no outcome to count
	case !ue.Transient():
		h.succeeded(0) // the host works, it is the request that it does not like
		outcome = ue.Outcome
	case ue.Means == NoEndpoint && (more || r.versions != nil || r.endpoint == EndpointCall):
		h.abandoned() // it may serve what is left, or what is asked for next, see call
		outcome = ue.Outcome
	default:
		h.failed(ue.Error(), began, ue.RetryAfter)
		outcome = ue.Outcome
	}
	n.recorder.Upstream(h.name, r.endpoint, outcome, took)
	return a, ue
}
