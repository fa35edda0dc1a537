package relay

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
	"github.com/icws-gateway/caddy-icws/verify"
)

const (
	methodClose = "ws_close"
	methodPoll  = "ws_get_messages"

	// closePatience is how long a ws_close is tried. After that the canister has found out by itself: a CDK sends acks every
	// 5 minutes, and removes who has not answered a minute later.
	closePatience = 6 * time.Minute
	// closeBackoffMax bounds the pause of a canister after failures, drainBackoffMax while the gateway drains.
	closeBackoffMax = 15 * time.Second
	drainBackoffMax = time.Second
	// drainRefusals is how many refusals that may pass one ws_close is tried for while the gateway drains: a canister that is
	// stopped must not hold up the drain.
	drainRefusals = 4
	// closeWorkers bounds the ws_close calls of one canister under way, drainWorkers while the gateway drains: a call takes
	// about 2 s, and the time for all of them is short. They are no more than the sessions that have left.
	closeWorkers = 32
	drainWorkers = 256
	// maxCloses bounds the calls that wait, some 200 bytes each.
	maxCloses = 100_000
)

// closer tells canisters that clients have gone, in the background. Each canister has a lane, so that one that is slow, or
// refuses, holds up no other.
type closer struct {
	g *Gateway

	mu      sync.Mutex
	lanes   map[verify.Principal]*closeLane // those with calls
	waiting int                             // calls that wait, in all lanes
	left    int                             // calls that are not done, in all lanes
	tally   tally                           // of the calls that are done
	drains  chan struct{}                   // closed once the gateway drains
	idle    chan struct{}                   // closed when no call is left; nil if nobody asked
}

// tally is of how many sessions the canisters have heard that they ended, and of how many not: the call was given up, or the canister
// said neither Ok nor Err. Those for which no call was needed are in neither.
type tally struct{ told, untold int }

// closeLane is the calls to one canister. The closer's lock guards it.
type closeLane struct {
	canister verify.Principal
	waiting  []*closeCall // the next one first
	calls    map[verify.ClientKey]*closeCall
	workers  int
	failures int // attempts in a row that failed
}

// closeCall is a ws_close that is due. Who carries it out owns it, except for needless.
type closeCall struct {
	key      verify.ClientKey
	until    time.Time
	sub      *submission // nil = it must be signed
	expiry   time.Time   // of sub
	refusals int         // that may pass, while the gateway drains
	needless bool        // the canister has removed the client by itself; guarded by the closer's lock
}

func newCloser(g *Gateway) *closer {
	return &closer{g: g, lanes: make(map[verify.Principal]*closeLane), drains: make(chan struct{})}
}

// startDrain lets more calls be under way from now on, and ends the pauses. It returns the tally so far.
func (c *closer) startDrain() tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.draining() {
		close(c.drains)
	}
	for _, l := range c.lanes {
		c.startWorkers(l)
	}
	return c.tally
}

func (c *closer) draining() bool {
	select {
	case <-c.drains:
		return true
	default:
		return false
	}
}

// add queues a ws_close whose turn has come, see turns, and reports whether it did. It never blocks.
func (c *closer) add(canister verify.Principal, key verify.ClientKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.push(canister, key)
}

// push is add for a caller that holds mu.
func (c *closer) push(canister verify.Principal, key verify.ClientKey) bool {
	if c.g.ctx.Err() != nil {
		return false
	}
	l := c.lanes[canister]
	if l == nil {
		l = &closeLane{canister: canister, calls: make(map[verify.ClientKey]*closeCall)}
		c.lanes[canister] = l
	}
	if l.calls[key] != nil {
		return true
	}
	if c.waiting >= maxCloses {
		c.dropOne()
	}
	call := &closeCall{key: key, until: time.Now().Add(closePatience)}
	l.calls[key] = call
	l.waiting = append(l.waiting, call)
	c.waiting++
	c.left++
	c.startWorkers(l)
	return true
}

// dropOne drops the oldest call of the lane where most wait: its canister is the one that takes the room. The caller holds mu.
func (c *closer) dropOne() {
	var longest *closeLane
	for _, l := range c.lanes {
		if longest == nil || len(l.waiting) > len(longest.waiting) {
			longest = l
		}
	}
	c.tally.untold++
	c.done(longest, c.pop(longest))
}

// forget notes that the canister has removed the client by itself: no ws_close is needed any more.
func (c *closer) forget(canister verify.Principal, key verify.ClientKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.lanes[canister]; l != nil && l.calls[key] != nil {
		l.calls[key].needless = true
	}
}

// startWorkers starts the workers that l may have and has calls for. A canister that fails gets one call at a time, until
// there is a success; a drain has no time for that. The caller holds mu.
func (c *closer) startWorkers(l *closeLane) {
	limit := closeWorkers
	switch {
	case c.draining():
		limit = drainWorkers
	case l.failures > 0:
		limit = 1
	}
	for range min(len(l.waiting), limit-l.workers) {
		l.workers++
		var call *closeCall
		c.g.spawn("closer", func() {
			for call = c.next(l); call != nil; call = c.next(l) {
				if !c.carryOut(l, call) {
					return
				}
			}
		}, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if call != nil {
				c.tally.untold++
				c.done(l, call)
			}
			c.countOut(l)
		})
	}
}

// next takes the next call of l for a worker. If there is none, the worker is counted out under the same lock: otherwise a call
// that is added in between would be left with no worker.
func (c *closer) next(l *closeLane) *closeCall {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(l.waiting) > 0 {
		call := c.pop(l)
		if c.g.turns.closeBegins(l.canister, call.key) {
			return call
		}
		c.remove(l, call) // a newer ws_open goes out first
	}
	c.countOut(l)
	return nil
}

// pop takes the next call out of l. The caller holds mu.
func (c *closer) pop(l *closeLane) *closeCall {
	call := l.waiting[0]
	l.waiting[0] = nil
	l.waiting = l.waiting[1:]
	c.waiting--
	return call
}

// done notes that nothing is left to do for call. The caller holds mu.
func (c *closer) done(l *closeLane, call *closeCall) {
	delete(l.calls, call.key)
	if next, due := c.g.turns.closeEnds(l.canister, call.key); due {
		c.push(l.canister, next)
	}
	c.countDone()
}

// remove takes call out of l whose turn is over; it is queued again when its turn comes. The caller holds mu.
func (c *closer) remove(l *closeLane, call *closeCall) {
	delete(l.calls, call.key)
	c.countDone()
}

// countDone counts a call less. The caller holds mu.
func (c *closer) countDone() {
	c.left--
	if c.left == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

// countOut counts out a worker of l, and drops l with the last one. The caller holds mu.
func (c *closer) countOut(l *closeLane) {
	l.workers--
	c.startWorkers(l)
	if l.workers == 0 && c.lanes[l.canister] == l {
		delete(c.lanes, l.canister)
	}
}

// carryOut tries call until it is done, and reports whether its worker may go on; if not, that is counted out and call is left to
// another.
func (c *closer) carryOut(l *closeLane, call *closeCall) (more bool) {
	ctx, cancel := context.WithDeadline(c.g.ctx, call.until)
	defer cancel()
	for !c.over(ctx, l, call) {
		r := c.attempt(ctx, l.canister, call)
		wait, v := c.judge(l, call, &r)
		switch v {
		case closeDone:
			return true
		case closeLeft:
			return false
		}
		if c.pause(ctx, wait); !c.resume(l, call) {
			return true
		}
	}
	return true
}

// resume takes call up again after a pause, and reports whether that may be: not if a newer ws_open goes out first.
func (c *closer) resume(l *closeLane, call *closeCall) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.g.turns.closeBegins(l.canister, call.key) {
		return true
	}
	c.remove(l, call)
	return false
}

// over reports whether call, which has no outcome, is done all the same: it is needless, or has been refused too often for a drain,
// or ctx has ended.
func (c *closer) over(ctx context.Context, l *closeLane, call *closeCall) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	unknown := !call.needless && (ctx.Err() != nil || call.refusals >= drainRefusals)
	if unknown {
		c.tally.untold++
		c.g.log().Debug("ws_close has no outcome, the canister will notice by itself", zap.Stringer("canister_id", l.canister))
	}
	if unknown || call.needless {
		c.done(l, call)
		return true
	}
	return false
}

// attempt submits call once. It is signed anew if the request has expired, or has been rejected.
func (c *closer) attempt(ctx context.Context, canister verify.Principal, call *closeCall) attempt {
	if now := time.Now(); call.sub == nil || !now.Before(call.expiry) {
		body, id, err := c.g.up.SignCall(canister, methodClose, verify.AppendCloseArg(nil, call.key))
		if err != nil {
			return attempt{final: true, err: err}
		}
		call.sub = &submission{canister: canister, method: methodClose, key: call.key, body: body, id: id}
		call.expiry = now.Add(upstream.OwnExpiry)
	}
	r := c.g.attempt(ctx, call.sub, upstream.Stages{}, c.g.cfg.OutageTimeout)
	if r.final && r.passing {
		call.sub = nil
	}
	return r
}

// closeVerdict is what becomes of a call after an attempt.
type closeVerdict int

const (
	closeAgain closeVerdict = iota // after a pause
	closeDone
	closeLeft // to another worker
)

// judge says what becomes of call after the attempt that brought r, and how long the pause before the next one is. Whether the
// canister says Ok or Err, it does not have the client. Where it rejects the call for good or traps, a repetition would do no better.
func (c *closer) judge(l *closeLane, call *closeCall, r *attempt) (time.Duration, closeVerdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	failed := r.failed && !r.final || r.passing
	if failed {
		l.failures++
	} else {
		l.failures = 0
		c.startWorkers(l)
	}
	switch {
	case r.final && !r.passing:
		if r.answered {
			c.tally.told++
		} else {
			c.tally.untold++
		}
		c.done(l, call)
		return 0, closeDone
	case failed && (call.sub == nil || !call.sub.taken):
		c.g.turns.closeRests(l.canister, call.key)
	}
	switch {
	case c.draining():
		if r.passing {
			call.refusals++
		}
		return min(c.g.pauseAfter(r, l.failures, drainBackoffMax), drainBackoffMax), closeAgain
	case failed && l.workers > 1:
		l.waiting = slices.Insert(l.waiting, 0, call)
		c.waiting++
		l.workers--
		return 0, closeLeft
	}
	return c.g.pauseAfter(r, l.failures, closeBackoffMax), closeAgain
}

// pause waits for d or the end of ctx. A drain ends a pause that is longer than those it makes itself.
func (c *closer) pause(ctx context.Context, d time.Duration) {
	var drains chan struct{}
	if d > drainBackoffMax {
		drains = c.drains
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-drains:
	case <-ctx.Done():
	}
}

// wait returns when every queued ws_close is done, or ctx ends; and then the tally of those that are done, and how many are not.
func (c *closer) wait(ctx context.Context) (done tally, left int) {
	c.mu.Lock()
	if c.left > 0 {
		if c.idle == nil {
			c.idle = make(chan struct{})
		}
		idle := c.idle
		c.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
		}
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	return c.tally, c.left
}
