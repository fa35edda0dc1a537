package relay

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay/internal/queue"
	"github.com/icws-gateway/caddy-icws/relay/internal/quorum"
	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
	"github.com/icws-gateway/caddy-icws/verify"
)

// poll is one poll under way.
type poll struct {
	ask    queue.Question
	class  upstream.Class
	demand demand       // that it is to meet
	sentAt atomic.Int64 // when it left for the network, in unix nanoseconds; 0 while it waits for upstream_rate
}

// pollResult is what a poll brought. Its memory is the answer's: release it.
type pollResult struct {
	answer upstream.QueryAnswer
	reply  verify.Reply
	said   queue.Answer  // what the queue is told of it
	err    error         // why there is no answer to go by
	demand demand        // that it was to meet
	waited time.Duration // for upstream_rate
	began  time.Time
	took   time.Duration
}

func (r *pollResult) release() { r.answer.Release() }

var errPanic = errors.New("fault in the gateway while polling")

// runPoll makes one poll and verifies what comes, in a goroutine of its own: nothing that takes time holds up what others bring.
// Where it asks from is decided once upstream_rate admits it, so that a page that was delivered meanwhile is not fetched again.
func (c *canister) runPoll(ctx context.Context, p *poll) *pollResult {
	began := time.Now()
	if err := c.g.up.Admit(ctx, c.id, p.class); err != nil {
		return &pollResult{said: queue.Answer{Question: &p.ask, Failure: queue.Failure{Kind: queue.Unreachable}}, err: err}
	}
	sent := time.Now()
	p.sentAt.Store(sent.UnixNano())
	c.mu.Lock()
	nonce, met := c.queue.Nonce(&p.ask), p.demand
	if p.ask.Purpose == queue.News {
		met.any = met.any || c.demand.any
		c.demand = demand{} // of the time for which it waited
	}
	c.mu.Unlock()
	r := c.fetch(ctx, &p.ask, nonce, p.class, true)
	r.demand, r.waited = met, sent.Sub(began)
	if p.ask.Install && (p.ask.Purpose == queue.Beginning || r.err == nil && len(r.reply.Messages) == 0) {
		r.said.Install = c.readInstall(ctx, p.ask.InstallAvoid)
	}
	return r
}

// fetch polls once from nonce, and verifies the answer. admitted says that upstream_rate has admitted it.
func (c *canister) fetch(ctx context.Context, ask *queue.Question, nonce uint64, cl upstream.Class, admitted bool) *pollResult {
	r := &pollResult{said: queue.Answer{Question: ask, Nonce: nonce}, began: time.Now()}
	r.answer, r.err = c.g.up.Query(ctx, upstream.Question{
		Canister: c.id,
		Method:   methodPoll,
		Arg:      verify.AppendPollArg(nil, nonce),
		Class:    cl,
		Avoid:    c.avoided(ask),
		Admitted: admitted,
	})
	if r.answer.Answer != nil {
		r.said.Vote = quorum.Vote{Host: quorum.Host(r.answer.Host.Name()), Alone: r.answer.Alone}
	}
	if r.err == nil {
		r.err = c.read(ctx, r)
	}
	if r.err != nil {
		r.said.Failure = failureOf(r)
	}
	r.took = time.Since(r.began)
	return r
}

// avoided returns the host that a question is not to go to, if there is one.
func (c *canister) avoided(ask *queue.Question) *upstream.Host {
	hosts := c.g.up.Hosts()
	h := hosts.Named(string(ask.Avoid))
	if ask.Lightly && !hosts.Besides(h, c.id, upstream.EndpointQuery) {
		return nil
	}
	return h
}

// read reads an answer. The error is why there is none to go by.
func (c *canister) read(ctx context.Context, r *pollResult) error {
	if q := r.answer.Reply; !q.Replied {
		return &rejectedPoll{host: r.answer.Host, rejection: diagnose(q.RejectCode, q.ErrorCode, q.RejectMessage)}
	} else if err := r.reply.Decode(q.Arg); err != nil {
		return r.answer.Bad(err)
	}
	switch {
	case r.reply.Failed:
		return &rejectedPoll{host: r.answer.Host, rejection: rejection{
			reason: CanisterRefused, final: true,
			text: "canister's CDK is 0.3.0 or older and does not list this gateway, update it",
		}}
	case len(r.reply.Messages) == 0:
		return c.readEmpty(ctx, r)
	}
	return c.readPage(ctx, r)
}

// readEmpty checks who signed an answer without messages, where that matters.
func (c *canister) readEmpty(ctx context.Context, r *pollResult) error {
	doubted := r.answer.Doubted()
	if !r.said.Question.Signed && !c.g.cfg.VerifyEmpty && !doubted {
		return nil
	}
	err := c.g.up.CheckNode(ctx, c.id, &r.answer)
	_, bad := errors.AsType[*upstream.BadAnswer](err)
	switch {
	case err == nil:
		sig := r.answer.Reply.Signatures[0]
		r.said.Signature = &queue.Signature{Node: sig.Node, Time: queue.StampTime(sig.Timestamp), Nodes: c.g.up.NodeCount(c.id)}
		return nil
	case c.g.cfg.VerifyEmpty, doubted && bad:
		return err
	}
	c.logger().Debug("node signature of an empty reply does not hold", zap.Error(err))
	return nil
}

// readPage verifies messages, and makes sure that clients can, too, as far as that is possible. The error is a
// *upstream.BadAnswer if the answer is at fault; otherwise something could not be had that is needed for the check.
func (c *canister) readPage(ctx context.Context, r *pollResult) error {
	if last, ok := keyNonce(r.reply.Messages[len(r.reply.Messages)-1].Key); ok && r.said.Question.Purpose == queue.News &&
		r.said.Nonce <= last && last < c.position() {
		r.said.Repeated = true // an overlapping poll has brought all of it
		return nil
	}
	authority, err := c.g.up.Authority(ctx)
	if err != nil {
		return err
	}
	page, err := authority.Page(&r.reply, verify.Want{Canister: c.id, Gateway: c.g.Principal(), Nonce: r.said.Nonce}, time.Now())
	if err != nil {
		return r.answer.Bad(err)
	}
	r.answer.Good()
	if err := c.delegation.Fit(page, r.reply.Cert); err != nil {
		return err
	}
	r.said.Page, r.said.More = page, !r.reply.EndOfQueue
	return nil
}

// installPatience bounds a reading of the install time, so that the look at the queue that it goes with is not held up.
const installPatience = 3 * time.Second

// readInstall reads when the canister's program was put in place, if possible not from avoid.
func (c *canister) readInstall(ctx context.Context, avoid quorum.Host) *queue.InstallReading {
	ctx, cancel := context.WithTimeout(ctx, installPatience)
	defer cancel()
	in, err := c.g.up.ReadInstallTime(ctx, c.id, c.g.up.Hosts().Named(string(avoid)))
	if err == nil {
		return &queue.InstallReading{At: in.At, AsOf: in.AsOf, Host: quorum.Host(in.Host.Name())}
	}
	if bad, ok := errors.AsType[*upstream.BadAnswer](err); ok {
		c.logBad(bad)
	}
	c.logger().Debug("reading when the canister was installed failed", zap.Error(err))
	return &queue.InstallReading{Failed: true, Unheard: !upstream.IsTransient(err)}
}

// rejectedPoll is a poll that the canister, or the IC for it, rejected.
type rejectedPoll struct {
	host      *upstream.Host
	rejection rejection
}

func (e *rejectedPoll) Error() string { return e.host.Name() + ": " + e.rejection.text }

// failureOf says what the failure of a poll means for the queue, and who says so.
func failureOf(r *pollResult) queue.Failure {
	if _, ok := errors.AsType[*upstream.BadAnswer](r.err); ok {
		return queue.Failure{Kind: queue.Unverified}
	}
	if rejected, ok := errors.AsType[*rejectedPoll](r.err); ok {
		switch j := &rejected.rejection; {
		case j.absent:
			return queue.Failure{Kind: queue.NotFound}
		case j.final:
			return queue.Failure{Kind: queue.Never}
		case j.reason == CanisterRefused:
			return queue.Failure{Kind: queue.Trapped}
		default:
			return queue.Failure{Kind: queue.Refused, Stopped: j.reason == CanisterUnavailable}
		}
	}
	failure := queue.Failure{Kind: queue.Unreachable}
	if ue, ok := errors.AsType[*upstream.Error](r.err); ok {
		r.said.Vote = quorum.Vote{Host: quorum.Host(ue.Host.Name()), Alone: ue.Alone}
		failure.RetryAfter = ue.RetryAfter
		switch {
		case ue.Means == upstream.NoCanister:
			failure.Kind = queue.NotFound
		case ue.Means.OfCanister():
			failure.Kind = queue.Never
		}
	}
	return failure
}

// explain says what a failed poll means for metrics, and for the clients if it goes on.
func explain(err error) (Outcome, *closing) {
	if _, ok := errors.AsType[*upstream.BadAnswer](err); ok {
		return OutcomeUnverified, newClosing(Unverifiable, "")
	}
	if rejected, ok := errors.AsType[*rejectedPoll](err); ok {
		return OutcomeRefused, newClosing(rejected.rejection.reason, methodPoll+": "+rejected.rejection.text)
	}
	if ue, ok := errors.AsType[*upstream.Error](err); ok {
		return ue.Outcome, closingForRefusedPoll(&ue.Refusal)
	}
	return OutcomeNetwork, newClosing(Outage, "")
}

// logBad logs an answer that does not verify.
func (c *canister) logBad(bad *upstream.BadAnswer) {
	c.logger().Warn("discarded an answer that does not verify", zap.String("host", bad.Host.Name()),
		zap.String("cause", string(verify.CauseOf(bad.Err))), zap.Error(bad.Err))
}

// keyNonce reads the nonce at the end of a message key, before the key is verified.
func keyNonce(key []byte) (nonce uint64, ok bool) {
	const digits = 20
	if len(key) < digits {
		return 0, false
	}
	for _, d := range key[len(key)-digits:] {
		if d < '0' || d > '9' || nonce > (1<<64-1-uint64(d-'0'))/10 {
			return 0, false
		}
		nonce = nonce*10 + uint64(d-'0')
	}
	return nonce, true
}
