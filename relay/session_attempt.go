package relay

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay/internal/pause"
	"github.com/icws-gateway/caddy-icws/relay/internal/quorum"
	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
	"github.com/icws-gateway/caddy-icws/verify"
)

// Pauses between attempts to submit one envelope.
const (
	submitBackoffMin = 250 * time.Millisecond
	submitBackoffMax = 5 * time.Second
	// repostPause is the pause before an envelope is posted again that the network has, but has not certified yet. The
	// replica holds the request itself until there is news.
	repostPause = 500 * time.Millisecond
)

// routingPatience is how long hosts must say that a canister does not exist that has sessions, and none of whose pages were
// verified lately.
const routingPatience = 10 * time.Second

// submitUntilOutcome posts e until its outcome is known or it has expired. The same bytes are posted each time: to the
// IC they are one request, so a repetition never executes twice.
func (s *session) submitUntilOutcome(ctx context.Context, e *envelope, sent func()) (Outcome, *closing) {
	if !time.Now().Before(e.expiry) {
		return OutcomeExpired, newClosing(OverCapacity, e.method()+": expired behind the client's earlier messages, which took too long")
	}
	ctx, cancel := context.WithDeadline(ctx, e.expiry)
	defer cancel()
	var avoid *upstream.Host
	var refused quorum.Claim
	var last *closing      // why it is not accepted, as far as is known
	maybeExecuted := false // the network may have taken it: without the outcome nothing may follow
	st := upstream.Stages{Sent: sent}
	if e.open {
		st.Going = s.openMaySend
	}
	for failures := 0; ; {
		r := s.submitOnce(ctx, e, avoid, st)
		maybeExecuted = maybeExecuted || r.taken
		switch {
		case r.refusedBy != nil:
			r.final = s.believes(&refused, &r, e.open, time.Now())
		case r.accepted:
			refused.Contradict()
		}
		certain := r.final && r.refusedBy == nil
		if e.open && !certain && s.hasHeard() {
			return OutcomeOK, nil // the canister's own message says so
		}
		if r.final {
			// Who refuses it does not know of an earlier attempt whose answer was lost.
			return r.outcome, r.closing.orUnsure(!certain && maybeExecuted)
		}
		last = cmp.Or(r.last, last)
		if e.open && !s.openFailed(last, maybeExecuted) {
			return outcomeNone, newClosing(ClientGone, "")
		}
		avoid = r.avoid
		wait := repostPause
		if r.failed {
			failures++
			wait = s.pauseAfter(&r, failures)
			if ce := s.g.log().Check(zap.DebugLevel, "relaying failed, trying again"); ce != nil {
				ce.Write(zap.Stringer("canister_id", s.canister.id), zap.Uint64("session", s.id), zap.Int("failures", failures), zap.Error(r.err))
			}
		}
		switch err := pause.Sleep(ctx, wait); {
		case e.open && s.hasHeard():
			return OutcomeOK, nil
		case err == nil:
		case errors.Is(err, context.Canceled):
			return outcomeNone, newClosing(Draining, "")
		case maybeExecuted:
			return OutcomeExpired, newClosing(OutcomeUnknown, "").orUnsure(true)
		case last != nil:
			return OutcomeExpired, last
		default: // it was never sent: its turn has not come
			return OutcomeExpired, noTurn(e.method())
		}
	}
}

// noTurn is the closing for a request that waited in vain for upstream_rate.
func noTurn(method string) *closing {
	return newClosing(OverCapacity, method+": the gateway has more requests than it may make, try again later")
}

// believes counts the refusal that r brought, and reports whether it is believed now. That the canister does not exist must
// have been said for a while, unless it is said to a client that opens: boundary nodes that are late with the routing table say
// so of a canister that has moved. Of one whose pages were verified lately that is an outage, and no longer than one.
func (s *session) believes(refused *quorum.Claim, r *attempt, open bool, now time.Time) bool {
	patience := time.Duration(0)
	switch {
	case !r.absent:
	case s.canister.verifiedLately(now):
		patience = s.g.cfg.OutageTimeout
	case !open:
		patience = routingPatience
	}
	vote := quorum.Vote{Host: quorum.Host(r.refusedBy.Name()), Alone: r.alone}
	return refused.Add(vote, now) && now.Sub(refused.Since()) >= patience
}

// pauseAfter returns the pause after a failed attempt, the last of several.
func (s *session) pauseAfter(r *attempt, failures int) time.Duration {
	wait := pause.Backoff(failures, submitBackoffMin, submitBackoffMax)
	switch {
	case r.refusedBy != nil && r.alone:
		wait = max(wait, quorum.LonePause)
	case len(s.g.up.Hosts()) == 1: // where there are others, the host's health sees to it
		wait = max(wait, r.pause)
	}
	return wait
}

// attempt is what one attempt to submit brought.
type attempt struct {
	final   bool // the outcome is known, or can not be
	outcome Outcome
	closing *closing // for a final outcome that ends the session

	refusedBy *upstream.Host // says without proof that outcome and closing are final; nil = nobody
	alone     bool           // and no other host could be asked
	absent    bool           // because it knows no such canister
	taken     bool           // the network has the envelope, or may have
	accepted  bool           // a host says so
	failed    bool           // the attempt failed, as opposed to: no outcome yet
	avoid     *upstream.Host // the next attempt should go elsewhere; it gave no outcome
	pause     time.Duration  // what the host asked for
	err       error
	last      *closing // what to tell the client if it stays like this until the expiry
}

// submitOnce posts e once, to another host than avoid if one answers.
func (s *session) submitOnce(ctx context.Context, e *envelope, avoid *upstream.Host, st upstream.Stages) attempt {
	id := s.canister.id
	a, err := s.g.up.Call(ctx, id, e.body, avoid, st)
	if err != nil {
		return failedAttempt(e, err)
	}
	if a == nil {
		s.g.noticeUncertified()
		return attempt{final: true, outcome: OutcomePending}
	}
	defer a.Release()
	if a.Status == 202 { // accepted or still running
		return attempt{taken: true, accepted: true, avoid: a.Host}
	}
	reply, err := verify.ParseCallReply(a.Body)
	if err != nil {
		return s.badAnswer(a, err)
	}
	if reply.Rejected {
		// One replica's word before consensus; not certified, and not executed.
		return rejectedAttempt(e, reply.RejectCode, reply.ErrorCode, s.discreet(reply.RejectMessage), a)
	}
	authority, err := s.g.up.Authority(ctx)
	if err != nil {
		return attempt{taken: true, failed: true, err: err}
	}
	outcome, err := authority.Outcome(reply.Certificate, id, e.id, time.Now())
	if err != nil {
		return s.badAnswer(a, err)
	}
	a.Good()
	switch outcome.Status {
	case verify.CallReplied:
		e.executed = outcome.Time
		return repliedAttempt(e, outcome.Reply, s.discreet)
	case verify.CallRejected:
		return rejectedAttempt(e, outcome.RejectCode, outcome.ErrorCode, s.discreet(outcome.RejectMessage), nil)
	case verify.CallDone:
		return attempt{final: true, outcome: OutcomeExpired, closing: newClosing(OutcomeUnknown, "").orUnsure(true)}
	}
	// Received, processing, or unknown. A node that lags or lies can prove the last, with a certificate of any moment before;
	// it is not believed, and the envelope goes to another host.
	return attempt{taken: true, accepted: outcome.Status != verify.CallUnknown, avoid: a.Host}
}

// discreet takes the session's client nonce out of a canister's text: such texts name client keys, and they are logged. It
// comes before any cut, which could leave a part of it.
func (s *session) discreet(text string) string {
	return strings.ReplaceAll(text, "_"+strconv.FormatUint(s.key.Nonce, 10), "")
}

// badAnswer handles an answer that is not what the IC would say: the host gave it, another may do better.
func (s *session) badAnswer(a *upstream.Answer, err error) attempt {
	a.Bad(err)
	s.g.log().Warn("boundary node gave a bad answer", zap.String("host", a.Host.Name()), zap.Stringer("canister_id", s.canister.id),
		zap.String("endpoint", string(EndpointCall)), zap.String("cause", string(verify.CauseOf(err))), zap.Error(err))
	return attempt{taken: true, failed: true, avoid: a.Host, err: err, last: newClosing(Unverifiable, "")}
}
