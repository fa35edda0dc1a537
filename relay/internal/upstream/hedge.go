package upstream

import (
	"context"
	"sync"
	"time"
)

// A host that hangs must not hold up what another could answer. So a request that takes clearly longer than its host usually does,
// and longer than another host would take, goes to that one as well. The first that answers it wins.

const (
	// hedgeMin and hedgeMax bound how long a host may take before another is asked as well; hedgeUnknown is that time for a
	// host that has not answered often enough to know what is usual.
	hedgeMin     = 100 * time.Millisecond
	hedgeMax     = 2 * time.Second
	hedgeUnknown = time.Second
	// callWatch is the pause between looks at whether the host that has a call answers anything; callSilence is for how long it
	// must not have.
	callWatch   = 500 * time.Millisecond
	callSilence = time.Second
	// callLate is when a call goes to another host in any case: a replica answers within callHold.
	callLate = callHold + time.Second

	// A request that may be hedged pays for hedgeShare of a hedge; what is paid for and not used is kept, up to hedgeStock.
	hedgeShare = 0.1
	hedgeStock = 32
)

// hedgeCredit bounds the hedges of a network: few requests more than there would be without.
type hedgeCredit struct {
	mu    sync.Mutex
	stock float64
}

func newHedgeCredit() *hedgeCredit { return &hedgeCredit{stock: hedgeStock} }

// pay adds the share of one request.
func (c *hedgeCredit) pay() {
	c.mu.Lock()
	c.stock = min(hedgeStock, c.stock+hedgeShare)
	c.mu.Unlock()
}

// take takes one hedge, and reports whether there was one.
func (c *hedgeCredit) take() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stock < 1 {
		return false
	}
	c.stock--
	return true
}

// race is one request at one host, and perhaps at a second one.
type race struct {
	n        *Network
	r        request
	ctx      context.Context
	first    *Host
	patience time.Duration
	all      Hosts
	tried    []*Host // of all; with first
	began    time.Time

	mu      sync.Mutex
	stop    context.CancelFunc // ends the exchange with the first host; nil before it begins
	outrun  bool               // the second host has answered first
	timer   *time.Timer
	over    bool               // the first host is done: no second one is asked any more
	decided bool               // it has answered: what the second one brings is not wanted
	second  *Host              // nil until it is asked
	cancel  context.CancelFunc // ends the request at the second host
	done    chan struct{}      // closed when the second host is done
	answer  *Answer            // of the second host
	err     *Error             // of the second host
}

// racing is how a race ended.
type racing struct {
	answer *Answer
	err    *Error // instead of an answer
	second *Host  // that was asked as well, if there was one
	beside *Error // how the other of the two failed; nil if it was not given the time to
}

// race sends r to h, and to one of all that is not in tried as well if h lets it wait. A refusal of either is an answer, too.
func (n *Network) race(ctx context.Context, h *Host, r *request, patience time.Duration, all Hosts, tried []*Host) racing {
	n.hedges.pay()
	c := &race{n: n, r: *r, ctx: ctx, first: h, patience: patience, all: all, tried: tried, began: time.Now()}
	c.mu.Lock()
	c.timer = time.AfterFunc(c.delay(), c.late)
	c.mu.Unlock()
	a, ue := n.ask(ctx, h, r, terms{patience, c})
	answers := answers(ue)

	c.mu.Lock()
	c.timer.Stop()
	c.over, c.decided = true, answers
	second := c.second
	c.mu.Unlock()
	if second == nil {
		return racing{answer: a, err: ue}
	}
	defer c.cancel()
	if answers {
		select {
		case <-c.done:
			c.answer.Release()
			return racing{answer: a, err: ue, second: second, beside: c.err}
		default:
			return racing{answer: a, err: ue, second: second}
		}
	}
	<-c.done
	if c.lost() {
		ue = nil
	}
	return racing{answer: c.answer, err: c.err, second: second, beside: ue}
}

// answers reports whether a host that brought ue, or nil, has given an answer.
func answers(ue *Error) bool { return ue == nil || !ue.Transient() }

// delay is how long the first host has before the second one is thought of.
func (c *race) delay() time.Duration {
	if c.r.endpoint == EndpointCall {
		return callWatch
	}
	if usual := c.first.usual(c.r.endpoint); usual > 0 {
		return min(max(usual+usual/4, hedgeMin), hedgeMax)
	}
	return hedgeUnknown
}

// late has the second host asked, if it is time for that.
func (c *race) late() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	waited := time.Since(c.began)
	// How long a call takes is up to its canister. Another host is asked if this one answers nothing else either.
	if c.r.endpoint == EndpointCall && !c.first.silentFor(callSilence) && waited < callLate {
		c.timer.Reset(callWatch)
		return
	}
	h := c.all.second(c.r.canister, c.tried, c.r.endpoint == EndpointCall)
	if h == nil {
		return
	}
	if takes := h.State().Latency; takes > waited { // this one may be done by then
		c.timer.Reset(takes - waited)
		return
	}
	if !c.r.maySend() || !c.n.hedges.take() || !c.n.budget(c.r.class).spare() {
		return
	}
	c.second, c.done = h, make(chan struct{})
	var ctx context.Context
	ctx, c.cancel = context.WithCancel(c.ctx)
	c.n.spawn("hedge", func() { c.finish(c.n.ask(ctx, h, &c.r, terms{patience: c.patience})) },
		func() {
			c.finish(nil, &Error{Outcome: OutcomeNetwork, Host: h, Refusal: Refusal{Means: Failing}, Err: errPanic})
		})
}

// finish takes what the second host brought.
func (c *race) finish(a *Answer, ue *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.decided {
		a.Release()
		a = nil
	}
	c.answer, c.err = a, ue
	if answers(ue) {
		c.outrun = true
		if c.stop != nil {
			c.stop()
		}
	}
	close(c.done)
}

// terms are the conditions on which one host is asked.
type terms struct {
	patience time.Duration // bounds the time of one exchange
	race     *race         // that the host is the first in; nil = it runs no race
}

// begins notes how to end an exchange with the first host. c may be nil.
func (c *race) begins(stop context.CancelFunc) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop = stop; c.outrun {
		stop()
	}
}

// lost reports whether the second host has answered before the first. c may be nil.
func (c *race) lost() bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.outrun
}
