package relay

import (
	"cmp"
	"context"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay/internal/pause"
	"github.com/icws-gateway/caddy-icws/relay/internal/quorum"
	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
	"github.com/icws-gateway/caddy-icws/verify"
)

// Pauses between attempts to submit one request.
const (
	submitBackoffMin = 250 * time.Millisecond
	submitBackoffMax = 5 * time.Second
	// repostPause is the pause before a request is posted again that the network has, but has not certified yet. The
	// replica holds the request itself until there is news.
	repostPause = 500 * time.Millisecond
)

// submission is one request on its way to its certified outcome: a client's envelope, or a ws_close of the gateway. The same
// bytes are posted each time: to the IC they are one request, so a repetition never executes twice. It is not safe for
// concurrent use.
type submission struct {
	canister verify.Principal
	method   string
	key      verify.ClientKey // whose it is
	body     []byte
	id       [32]byte

	avoid    *upstream.Host // the next attempt should go elsewhere; it gave no outcome
	lightly  bool           // but only if another is in good health
	refused  quorum.Claim   // that it is refused for good
	taken    bool           // the network may have it: without the outcome nothing may follow
	failures int            // attempts that failed
	last     *closing       // why it is not accepted, as far as is known
}

// attempt is what one attempt to submit brought.
type attempt struct {
	final    bool // the outcome is known, or can not be
	outcome  Outcome
	closing  *closing  // for a final outcome that ends the session
	executed time.Time // a certified time by which the canister had executed it; zero = none is known
	answered bool      // the canister has replied, or nobody can prove that it did: a host says that it has taken the request
	passing  bool      // the canister rejects it for a cause that may pass; a new request may do better later

	refusedBy *upstream.Host // says without proof that outcome and closing are final; nil = nobody
	alone     bool           // and no other host could be asked
	absent    bool           // because it knows no such canister
	taken     bool           // the network has the request, or may have
	accepted  bool           // a host says so
	failed    bool           // the attempt failed, as opposed to: no outcome yet
	avoid     *upstream.Host // the next attempt should go elsewhere; it gave no outcome
	lightly   bool           // but only if another is in good health
	pause     time.Duration  // what the host asked for
	err       error
	last      *closing // what to tell the client if it stays like this until the expiry
}

// certain reports whether a final outcome is proven, or cannot be proven by anybody.
func (a *attempt) certain() bool { return a.final && a.refusedBy == nil }

// attempt posts sub once. A refusal without proof is final once it is believed; if it says that there is no such canister, not
// before it has been said for absentFor.
func (g *Gateway) attempt(ctx context.Context, sub *submission, st upstream.Stages, absentFor time.Duration) attempt {
	r := g.post(ctx, sub, st)
	sub.taken = sub.taken || r.taken
	switch now := time.Now(); {
	case r.refusedBy != nil:
		believed := sub.refused.Add(quorum.Vote{Host: quorum.Host(r.refusedBy.Name()), Alone: r.alone}, now)
		r.final = believed && (!r.absent || now.Sub(sub.refused.Since()) >= absentFor)
	case r.accepted:
		sub.refused.Contradict()
	}
	sub.avoid, sub.lightly = r.avoid, r.lightly
	sub.last = cmp.Or(r.last, sub.last)
	if r.failed {
		sub.failures++
	}
	return r
}

// pauseAfter returns the pause after the attempt that brought r, the last of several failures. It does not grow beyond limit, unless
// the host asks for more.
func (g *Gateway) pauseAfter(r *attempt, failures int, limit time.Duration) time.Duration {
	if !r.failed {
		return repostPause
	}
	wait := pause.Backoff(failures, submitBackoffMin, limit)
	switch {
	case r.refusedBy != nil && r.alone:
		wait = max(wait, quorum.LonePause)
	case len(g.up.Hosts()) == 1: // where there are others, the host's health sees to it
		wait = max(wait, r.pause)
	}
	return wait
}

// post posts sub to another host than the one to be avoided, if one answers.
func (g *Gateway) post(ctx context.Context, sub *submission, st upstream.Stages) attempt {
	avoid := sub.avoid
	if sub.lightly && !g.up.Hosts().Besides(avoid, sub.canister, upstream.EndpointCall) {
		avoid = nil
	}
	a, err := g.up.Call(ctx, sub.canister, sub.body, avoid, st)
	if err != nil {
		return failedAttempt(sub.method, err)
	}
	if a == nil {
		g.noticeUncertified()
		return attempt{final: true, outcome: OutcomePending, answered: true}
	}
	defer a.Release()
	if a.Status == 202 { // accepted or still running
		return attempt{taken: true, accepted: true, avoid: a.Host, lightly: true}
	}
	reply, err := verify.ParseCallReply(a.Body)
	if err != nil {
		return g.badAnswer(sub, a, err)
	}
	if reply.Rejected {
		// One replica's word before consensus; not certified, and not executed.
		return rejectedAttempt(sub.method, reply.RejectCode, reply.ErrorCode, sub.discreet(reply.RejectMessage), a)
	}
	authority, err := g.up.Authority(ctx)
	if err != nil {
		return attempt{taken: true, failed: true, err: err}
	}
	outcome, err := authority.Outcome(reply.Certificate, sub.canister, sub.id, time.Now())
	if err != nil {
		return g.badAnswer(sub, a, err)
	}
	a.Good()
	switch outcome.Status {
	case verify.CallReplied:
		r := repliedAttempt(sub.method, outcome.Reply, sub.discreet)
		r.executed = outcome.Time
		return r
	case verify.CallRejected:
		return rejectedAttempt(sub.method, outcome.RejectCode, outcome.ErrorCode, sub.discreet(outcome.RejectMessage), nil)
	case verify.CallDone:
		return attempt{final: true, outcome: OutcomeExpired, closing: newClosing(OutcomeUnknown, "").orUnsure(true)}
	}
	// Received, processing, or unknown. A node that lags or lies can prove the last, with a certificate of any moment before;
	// it is not believed, and the request goes to another host.
	return attempt{taken: true, accepted: outcome.Status != verify.CallUnknown, avoid: a.Host, lightly: true}
}

// discreet takes the client nonce out of a canister's text: such texts name client keys, and they are logged. It comes before
// any cut, which could leave a part of it.
func (sub *submission) discreet(text string) string {
	return strings.ReplaceAll(text, "_"+strconv.FormatUint(sub.key.Nonce, 10), "")
}

// badAnswer handles an answer that is not what the IC would say: the host gave it, another may do better.
func (g *Gateway) badAnswer(sub *submission, a *upstream.Answer, err error) attempt {
	a.Bad(err)
	g.log().Warn("boundary node gave a bad answer", zap.String("host", a.Host.Name()), zap.Stringer("canister_id", sub.canister),
		zap.String("endpoint", string(EndpointCall)), zap.String("cause", string(verify.CauseOf(err))), zap.Error(err))
	return attempt{taken: true, failed: true, avoid: a.Host, err: err, last: newClosing(Unverifiable, "")}
}
