package upstream

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// maxTries bounds the hosts that one request is tried on: where so many fail, the hosts are not the cause.
const maxTries = 8

// request is one request to the network; it may be tried on several hosts.
type request struct {
	endpoint Endpoint
	canister verify.Principal
	class    Class
	versions []int // of the endpoint, where not all will do; see Host.order
	body     []byte
	timeout  time.Duration
	stages   Stages
	avoid    *Host // the last one to be asked; may be nil
	only     *Host // this one and no other; nil = any
	admitted bool  // the token of the first attempt has been taken, see Admit
}

// Answer is the response to a request. Its body comes from a pool: release it when nothing refers to it any more.
type Answer struct {
	Host   *Host
	Status int // 200 or 202
	Body   []byte
	// Alone says that no other host can be asked about it now: there is none, or all of them were asked in the same request (or
	// as many as a request is tried on) and gave no answer.
	Alone bool

	network  *Network
	canister verify.Principal
	began    time.Time // of the request
	judged   bool      // see Good and Bad
	version  int       // of the endpoint
	buf      *bytes.Buffer
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

// do sends r to the best host, and to the others in turn while they fail for reasons of their own; the one to be avoided comes
// last. Each attempt takes its own token from the budget. The error is an *Error, or that of ctx where nothing was sent; it says
// that no host serves the endpoint only if all that were asked say so.
func (n *Network) do(ctx context.Context, r *request) (*Answer, error) {
	all := n.Hosts()
	onlyHost := len(all) == 1
	if r.only != nil {
		all = Hosts{r.only}
	}
	limit := min(len(all), maxTries)
	var last *Host
	var tried []*Host
	if len(all) > 1 && slices.Contains(all, r.avoid) { // it may have been a discovered one that has gone
		last, tried = r.avoid, append(tried, r.avoid)
	}
	calls := r.endpoint == EndpointCall
	var failure *Error
	failed := 0 // hosts that gave no answer
	for asked := 0; asked < limit; {
		if asked > 0 || !r.admitted {
			if err := n.Admit(ctx, r.canister, r.class); err != nil {
				if failure != nil {
					return nil, failure
				}
				return nil, err
			}
		}
		if !r.maySend() {
			return nil, context.Canceled
		}
		h, patience := last, r.timeout
		if last == nil || asked < limit-1 {
			h = all.pick(r.canister, tried, calls) // now: their health may have changed while the request waited
			tried = append(tried, h)
			if last != nil {
				patience = min(patience, h.patience(r.endpoint))
			}
		}
		asked++
		var end racing
		if asked == limit {
			end.answer, end.err = n.ask(ctx, h, r, terms{patience: patience})
		} else {
			end = n.race(ctx, h, r, patience, all, tried)
		}
		if end.second != nil {
			asked++
			tried = append(tried, end.second)
		}
		for _, ue := range [...]*Error{end.beside, end.err} {
			if answers(ue) {
				continue
			}
			failed++
			ue.Taken = ue.mayBeTaken() || failure != nil && failure.Taken
			if failure == nil || failure.Means == NoEndpoint || ue.Means != NoEndpoint {
				failure = ue // what fails for another reason than that the endpoint is not there may come back
			}
			failure.Taken = ue.Taken
		}
		alone := onlyHost || r.only == nil && failed >= limit-1
		switch ue := end.err; {
		case ue == nil:
			end.answer.Alone = alone
			return end.answer, nil
		case !ue.Transient():
			ue.Alone = alone
			// A second host that was not given the time to answer may have passed it on.
			ue.Taken = failure != nil && failure.Taken || end.second != nil && end.beside == nil
			return nil, ue
		case ctx.Err() != nil:
			return nil, ue
		}
		failure.Alone = alone
	}
	return nil, failure
}

// maySend reports whether r may still go out.
func (r *request) maySend() bool { return r.stages.MaySend == nil || r.stages.MaySend() }

// ask sends r to h. If h does not serve one version of the endpoint, it is asked for the others, each with a token of its own.
func (n *Network) ask(ctx context.Context, h *Host, r *request, on terms) (*Answer, *Error) {
	versions := r.versions
	if versions == nil {
		versions = h.order(r.endpoint, time.Now())
	}
	for i, version := range versions {
		last := i == len(versions)-1
		a, ue := n.try(ctx, h, version, r, on, !last)
		if ue == nil || !ue.Transient() {
			h.serves(r.endpoint, version, i > 0, time.Now())
		}
		if ue == nil || ue.Means != NoEndpoint || last || n.Admit(ctx, r.canister, r.class) != nil || !r.maySend() {
			return a, ue
		}
	}
	panic("an endpoint without versions")
}

// Admit takes a token from the budget for one request, and waits until there is one. The error is that of ctx.
func (n *Network) Admit(ctx context.Context, canister verify.Principal, cl Class) error {
	waited, err := n.budget(cl).wait(ctx, canister, cl)
	n.recorder.BudgetWait(waited)
	n.notePressure(cl, waited)
	return err
}

// try sends r to h once, to a version of its endpoint, and keeps the books of h. more says that other versions are left to
// try.
func (n *Network) try(ctx context.Context, h *Host, version int, r *request, on terms, more bool) (*Answer, *Error) {
	h.begin(r.canister)
	began := time.Now()
	a, ue := n.exchange(ctx, h, version, r, on)
	if ue != nil {
		ue.canister, ue.began = r.canister, began
	} else {
		a.network, a.canister, a.began = n, r.canister, began
	}
	took := time.Since(began)
	outcome := OutcomeOK
	switch {
	case ue == nil:
		h.answered(r.endpoint, took)
	case on.race.lost():
		h.outrun(r.endpoint, took)
		outcome = OutcomeOutrun
	case ctx.Err() != nil:
		h.abandoned()
		return nil, ue // given up by the caller: no outcome to count
	case !ue.Transient():
		h.answered(r.endpoint, 0) // the host works, it is the request that it does not like
		outcome = ue.Outcome
	case ue.Means == NoEndpoint && (more || r.versions != nil || r.endpoint == EndpointCall):
		h.abandoned() // it may serve what is left, or what is asked for next, see Network.Call
		outcome = ue.Outcome
	default:
		h.failed(ue.Error(), began, ue.RetryAfter)
		if r.endpoint == EndpointCall && ue.Outcome == OutcomeTimeout {
			h.hungOnCall()
		}
		outcome = ue.Outcome
	}
	n.recorder.Upstream(h.name, r.endpoint, outcome, took)
	return a, ue
}
