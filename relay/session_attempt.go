package relay

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay/internal/pause"
	"github.com/icws-gateway/caddy-icws/relay/internal/queue"
	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
)

// expiredBehind is the closing for a call that was good when the client sent it, and had to wait here for too long.
func expiredBehind(method string) *closing {
	return newClosing(OverCapacity, method+": expired behind the client's earlier messages, which took too long")
}

// submitUntilOutcome posts e until its outcome is known or it has expired.
func (s *session) submitUntilOutcome(ctx context.Context, e *envelope, sent func()) (Outcome, *closing) {
	if !time.Now().Before(e.expiry) {
		return OutcomeExpired, expiredBehind(e.method())
	}
	ctx, cancel := context.WithDeadline(ctx, e.expiry)
	defer cancel()
	st := upstream.Stages{Sent: sent}
	if e.open {
		st.MaySend = s.openMaySend
	}
	sub := &submission{canister: s.canister.id, method: e.method(), key: s.key, body: e.body, id: e.id}
	for first := true; ; first = false {
		r := s.tryOnce(ctx, sub, st, e.open, first)
		s.canister.noteCall(&r)
		if e.open && !r.certain() && s.hasHeard() {
			return OutcomeOK, nil // the canister's own message says so
		}
		if r.final {
			e.executed = r.executed
			// Who refuses it does not know of an earlier attempt whose answer was lost.
			return r.outcome, r.closing.orUnsure(!r.certain() && sub.taken)
		}
		if e.open && !s.openFailed(sub.last, sub.taken) {
			return outcomeNone, newClosing(ClientGone, "")
		}
		if r.failed {
			if ce := s.g.log().Check(zap.DebugLevel, "relaying failed, trying again"); ce != nil {
				ce.Write(zap.Stringer("canister_id", s.canister.id), zap.Uint64("session", s.id), zap.Int("failures", sub.failures), zap.Error(r.err))
			}
		}
		switch err := pause.Sleep(ctx, s.g.pauseAfter(&r, sub.failures, submitBackoffMax)); {
		case e.open && s.hasHeard():
			return OutcomeOK, nil
		case err == nil:
		case errors.Is(err, context.Canceled):
			return outcomeNone, newClosing(Draining, "")
		case sub.taken:
			return OutcomeExpired, newClosing(OutcomeUnknown, "").orUnsure(true)
		case sub.last != nil:
			return OutcomeExpired, sub.last
		default: // it was never sent: its turn has not come
			return OutcomeExpired, noTurn(e.method())
		}
	}
}

// tryOnce makes one attempt. A poll for the answer may leave meanwhile if it is the first.
func (s *session) tryOnce(ctx context.Context, sub *submission, st upstream.Stages, open, first bool) attempt {
	if !first {
		return s.g.attempt(ctx, sub, st, s.absentFor(open))
	}
	began := time.Now()
	if ahead := s.canister.foresee(); ahead != nil {
		defer ahead.Stop()
	}
	r := s.g.attempt(ctx, sub, st, s.absentFor(open))
	if !r.executed.IsZero() {
		s.canister.noteOutcome(time.Since(began))
	}
	return r
}

// noteCall notes why an attempt to submit what a client sent has failed, for people who wonder why nothing comes back while the
// polls are answered.
func (c *canister) noteCall(r *attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case r.final:
		c.callError = ""
	case r.failed && r.err != nil:
		c.callError = r.err.Error()
	}
}

// noTurn is the closing for a request that waited in vain for upstream_rate.
func noTurn(method string) *closing {
	return newClosing(OverCapacity, method+": the gateway has more requests than it may make, try again later")
}

// absentFor is how long hosts must say that the canister does not exist until that is believed: boundary nodes that are late with
// the routing table say so of a canister that has moved. Of one whose pages were verified lately it is an outage, and believed
// after outage_timeout. Otherwise a ws_open is refused at once: its client has no session to lose.
func (s *session) absentFor(open bool) time.Duration {
	switch {
	case s.canister.verifiedLately(time.Now()):
		return s.g.cfg.OutageTimeout
	case open:
		return 0
	}
	return queue.AbsencePatience
}
