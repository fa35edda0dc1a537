package relay

import (
	"context"
	"errors"
	"time"

	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
	"github.com/icws-gateway/caddy-icws/verify"
)

// Pauses after failed polls.
const pollBackoffMax = 5 * time.Second

// poller is the goroutine that polls one canister and hands out its messages. Polls may overlap; their answers are
// handled one after the other, here.
type poller struct {
	*canister
	results   chan *pollResult
	flying    []*flight       // the polls under way
	due       time.Time       // when the next poll starts
	started   time.Time       // when the last one did
	avoid     *upstream.Host  // gave the last bad answer
	refused   *upstream.Error // the last refusal since the last good answer
	denied    denials         // who says that the canister can never be polled
	gap       gapDoubt
	poison    map[uint64]*poisonDoubt // by nonce
	quiet     *upstream.Host          // gave the last empty answer
	quietFor  int                     // and how many in a row
	probed    time.Time               // when the queue was last probed for a reset
	prober    *upstream.Host          // gave the answer
	ghosts    time.Time               // since when all pages have been of a queue that has ended
	unordered bool                    // times do not grow with nonces in this canister
	present   presence
	install   installWatch
}

// pollResult is the answer to one poll. Its memory is the answer's: release it.
type pollResult struct {
	flight  *flight // nil for one that was waited for
	nonce   uint64  // asked for
	answer  upstream.QueryAnswer
	reply   verify.Reply
	empty   bool            // a reply without messages
	nodeErr error           // why they do not hold, if that was to be checked
	install *installReading // read with a look at the queue, or nil
	err     error
	took    time.Duration
}

func (r *pollResult) release() { r.answer.Release() }

// run polls until the gateway ends, or until the canister has had no sessions for a while.
func (c *canister) run() {
	p := newPoller(c)
	for {
		if !p.prime() {
			if c.g.ctx.Err() != nil || c.g.forget(c) {
				return
			}
			continue
		}
		p.loop()
		if c.g.ctx.Err() != nil || c.g.forget(c) {
			return
		}
	}
}

func newPoller(c *canister) *poller {
	return &poller{canister: c, results: make(chan *pollResult, maxFlying), poison: make(map[uint64]*poisonDoubt)}
}

// loop polls until there is nobody left to poll for. It never waits for an answer: one node that hangs would hold up all
// messages.
func (p *poller) loop() {
	p.due = time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(max(0, time.Until(p.due)))
		select {
		case <-p.g.ctx.Done():
			return
		case r := <-p.results:
			p.landed(r)
			p.handle(r)
		case <-p.wake:
			p.hurry()
		case <-timer.C:
			if p.deserted() {
				return
			}
			p.tick()
		}
	}
}

// deserted reports whether nobody has needed the poller for a while.
func (p *poller) deserted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.sessions) == 0 && time.Since(p.emptied) > lingerFor
}

// hurry moves the next poll forward, after something was submitted. A burst of outcomes makes one poll.
func (p *poller) hurry() {
	p.mu.Lock()
	p.active = time.Now()
	failing := p.poll.failures > 0
	p.mu.Unlock()
	if failing {
		return // the backoff decides
	}
	if soon := p.started.Add(p.g.cfg.PollInterval / 4); p.due.After(soon) {
		p.due = soon
	}
}

// tick starts the poll that is due.
func (p *poller) tick() {
	now := time.Now()
	p.check(now)
	p.mu.Lock()
	silent := now.Sub(p.active)
	failing := p.poll.failures > 0
	p.mu.Unlock()
	p.due = now.Add(pace(silent, p.g.cfg.PollInterval, p.g.cfg.PollIdleInterval))
	if !p.mayFly(now, failing) {
		return
	}
	p.started = now
	cl := upstream.ClassBusy
	if silent >= busyFor {
		cl = upstream.ClassIdle
	}
	p.fly(&flight{purpose: forNews}, cl, p.avoid)
}

// ask polls once and waits for the answer.
func (c *canister) ask(ctx context.Context, nonce uint64, cl upstream.Class, avoid *upstream.Host) *pollResult {
	return c.fetch(ctx, nonce, cl, avoid, false)
}

// fetch polls once. admitted says that the token of the first attempt has been taken from the budget.
func (c *canister) fetch(ctx context.Context, nonce uint64, cl upstream.Class, avoid *upstream.Host, admitted bool) *pollResult {
	began := time.Now()
	r := &pollResult{nonce: nonce}
	defer func() { r.took = time.Since(began) }()
	r.answer, r.err = c.g.up.Query(ctx, upstream.Question{
		Canister: c.id,
		Method:   methodPoll,
		Arg:      verify.AppendPollArg(nil, nonce),
		Class:    cl,
		Avoid:    avoid,
		Admitted: admitted,
	})
	if r.err != nil {
		return r
	}
	if q := r.answer.Reply; !q.Replied {
		r.err = &rejectedPoll{host: r.answer.Host, rejection: diagnose(q.RejectCode, q.ErrorCode, q.RejectMessage), code: q.RejectCode}
	} else if err := r.reply.Decode(q.Arg); err != nil {
		r.err = r.answer.Bad(err)
	} else if len(r.reply.Messages) == 0 {
		r.empty = true
		doubted := r.answer.Doubted()
		if c.g.cfg.VerifyEmpty || doubted {
			r.nodeErr = c.g.up.CheckNode(ctx, c.id, &r.answer)
		}
		if bad, ok := errors.AsType[*upstream.BadAnswer](r.nodeErr); ok && doubted {
			r.err = bad
		}
	}
	return r
}

// rejectedPoll is a poll that the canister, or the IC for it, rejected.
type rejectedPoll struct {
	host      *upstream.Host
	code      uint64
	rejection rejection
}

func (e *rejectedPoll) Error() string { return e.host.Name() + ": " + e.rejection.text }

// handle deals with the answer to a poll.
func (p *poller) handle(r *pollResult) {
	defer r.release()
	if p.g.ctx.Err() != nil {
		return
	}
	p.noteInstall(r)
	switch {
	case r.err != nil:
		if r.flight != nil && r.flight.purpose == forProof {
			p.present.last = nil // whoever was asked for a second word gives none
		}
		p.failed(r.err, r.took)
	case r.reply.Failed:
		p.failed(&rejectedPoll{host: r.answer.Host, rejection: rejection{
			reason: CanisterRefused, final: true,
			text: "canister's CDK is 0.3.0 or older and does not list this gateway, update it",
		}}, r.took)
	case len(r.reply.Messages) == 0 && p.g.cfg.VerifyEmpty && r.nodeErr != nil:
		p.failed(r.nodeErr, r.took)
	case r.flight != nil && r.flight.purpose == forProbe:
		p.probeBack(r)
	case r.flight != nil && r.flight.purpose == forProof:
		p.proofBack(r)
	case len(r.reply.Messages) == 0:
		p.works(r, OutcomeEmpty, 0, time.Time{})
		p.noteEmpty(r.answer.Host)
	default:
		p.page(r)
	}
}

// page deals with an answer that has messages.
func (p *poller) page(r *pollResult) {
	last, ok := keyNonce(r.reply.Messages[len(r.reply.Messages)-1].Key)
	if at := p.here(); ok && last < at.next && r.nonce <= last {
		p.works(r, OutcomeOK, 0, time.Time{}) // an overlapping poll has brought all of it
		return
	}
	page, err := p.verify(r)
	if err != nil {
		p.failed(err, r.took)
		return
	}
	n := len(page.Messages)
	at := p.here()
	v, skip := at.place(page.Messages[0].Nonce, page.Messages[n-1].Nonce)
	switch {
	case v == verdictOld, r.nonce > at.next: // or the position has moved back since this was asked for
		p.works(r, OutcomeOK, 0, page.Time)
		return
	case at.outlived(page, skip) && p.haunted():
		p.works(r, OutcomeOK, 0, page.Time)
		p.avoid = r.answer.Host
		return
	case v == verdictGap && !p.acceptGap(page, at, r.answer.Host):
		return
	case !p.acceptPoison(page, skip, r.answer.Host):
		return
	}
	p.settled()
	p.deliver(page, skip, at)
	p.works(r, OutcomeOK, n-skip, page.Time)
	if !r.reply.EndOfQueue {
		p.due = time.Now() // the canister has more
	}
}

// verify checks the messages of an answer, and makes sure that clients can, too, as far as that is possible. The error is a
// *upstream.BadAnswer if the answer is at fault; otherwise something could not be had that is needed for the check.
func (p *poller) verify(r *pollResult) (*verify.Page, error) {
	authority, err := p.g.up.Authority(p.g.ctx)
	if err != nil {
		return nil, err
	}
	page, err := authority.Page(&r.reply, verify.Want{Canister: p.id, Gateway: p.g.Principal(), Nonce: r.nonce}, time.Now())
	if err != nil {
		return nil, r.answer.Bad(err)
	}
	r.answer.Good()
	if err := p.delegation.Fit(page, r.reply.Cert); err != nil {
		return nil, err
	}
	return page, nil
}

// deliver hands out the messages of page from index skip on and moves the position behind them. It stays where it is if
// somebody has moved it back from at meanwhile.
func (p *poller) deliver(page *verify.Page, skip int, at position) {
	for i := skip; i < len(page.Messages); i++ {
		p.receive(page, i)
	}
	p.mu.Lock()
	if p.at.next >= at.next {
		p.at.advance(page)
	}
	p.active = time.Now()
	p.mu.Unlock()
}

// here returns the position.
func (p *poller) here() position {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at
}

// works notes a good answer.
func (p *poller) works(r *pollResult, outcome Outcome, messages int, certified time.Time) {
	now := time.Now()
	var lag time.Duration
	p.mu.Lock()
	recovered := p.poll.failures > 0
	if recovered {
		p.poll.recovered = now
		if p.poll.trouble != nil && p.poll.trouble.reason == CanisterUnavailable {
			p.suspectSince(now) // it was stopped, as for an upgrade
		}
	}
	p.poll.last, p.poll.failures, p.poll.failedSince, p.poll.err, p.poll.trouble = now, 0, time.Time{}, "", nil
	if !certified.IsZero() {
		lag = max(0, now.Sub(certified))
		if certified.After(p.poll.certified) {
			p.poll.certified = certified
		}
	}
	p.mu.Unlock()
	if p.refused != nil {
		p.refused.Contradicted(r.answer.Host)
	}
	p.avoid, p.denied, p.refused = nil, denials{}, nil
	if recovered {
		p.due = now
		p.logger().Info("canister can be polled again")
	}
	p.g.cfg.Metrics.Polled(p.id, outcome, messages, r.took, lag)
}
