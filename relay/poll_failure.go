package relay

import (
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay/internal/pause"
	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
	"github.com/icws-gateway/caddy-icws/verify"
)

const (
	// finalTries is how many polls in a row must find that a canister can never work before its clients are closed.
	finalTries = 3
	// absencePatience is how long they must find it of one that did work: boundary nodes that are late with the routing
	// table say for a moment that it does not exist.
	absencePatience = 10 * time.Second
)

// failed notes a poll that brought nothing, decides when to try again, and closes the canister's clients once it has
// been failing for too long.
func (p *poller) failed(err error, took time.Duration) {
	now := time.Now()
	outcome, cl, final := p.explain(err)
	p.g.cfg.Metrics.Polled(p.id, outcome, 0, took, 0)
	p.mu.Lock()
	st := &p.poll
	if st.failures == 0 {
		st.failedSince = now
	}
	st.failures++
	st.err, st.trouble = err.Error(), cl
	failures, since, worked := st.failures, st.failedSince, !st.last.IsZero()
	p.mu.Unlock()
	p.due = now.Add(pause.Backoff(failures, p.g.cfg.PollInterval, pollBackoffMax))

	log := p.logger().With(zap.Error(err), zap.Int("failures", failures))
	if failures == 1 {
		log.Warn("polling failed, trying again")
	} else {
		log.Debug("polling failed again", zap.Duration("failing_for", now.Sub(since)))
	}
	p.trySkipping(err, failures)
	final = final && p.denied.add(p.avoid, p.g.up.Hosts()) && failures >= finalTries &&
		(!worked || p.denied.lasted(absencePatience))
	if final || now.Sub(since) >= p.g.cfg.OutageTimeout {
		if all := p.all(); len(all) > 0 {
			log.Error("closing the canister's sessions", zap.String("reason", cl.reason.Label()), zap.Int("sessions", len(all)))
			p.endAll(cl)
		}
	}
}

// explain says what a failed poll means: for metrics, for the clients if it goes on, and whether waiting cannot help.
func (p *poller) explain(err error) (Outcome, *closing, bool) {
	var bad *upstream.BadAnswer
	var rejected *rejectedPoll
	var ue *upstream.Error
	switch {
	case errors.As(err, &bad):
		p.avoid = bad.Host
		p.logBad(bad)
		return OutcomeUnverified, newClosing(Unverifiable, ""), false
	case errors.As(err, &rejected):
		p.avoid = rejected.host
		t := rejected.rejection
		return OutcomeRefused, newClosing(t.reason, methodPoll+": "+t.text), t.final
	case errors.As(err, &ue):
		p.avoid = ue.Host
		if !ue.Transient() {
			p.refused = ue
		}
		return ue.Outcome, closingForRefusedPoll(&ue.Refusal), ue.Means.OfCanister()
	}
	return OutcomeNetwork, newClosing(Outage, ""), false
}

// logBad logs an answer that does not verify.
func (c *canister) logBad(bad *upstream.BadAnswer) {
	c.logger().Warn("discarded an answer that does not verify", zap.String("host", bad.Host.Name()),
		zap.String("cause", string(verify.CauseOf(bad.Err))), zap.Error(bad.Err))
}
