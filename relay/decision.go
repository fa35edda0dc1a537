package relay

import (
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay/internal/pause"
	"github.com/icws-gateway/caddy-icws/relay/internal/queue"
	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
	"github.com/icws-gateway/caddy-icws/verify"
)

// What the queue decides is carried out here: messages are handed out, sessions end, and the next poll gets its time.

// finishPoll tells the queue what a poll brought, and carries out what it decides.
func (p *poller) finishPoll(r *pollResult) {
	defer r.release()
	c := p.c
	if c.ctx.Err() != nil {
		return
	}
	now := time.Now()
	outcome, messages, lag := OutcomeOK, 0, time.Duration(0)
	var why *closing
	if r.err != nil {
		outcome, why = explain(r.err)
	}
	c.mu.Lock()
	d := c.queue.Step(now, &r.said)
	failures, failing, _ := c.queue.Failing()
	switch {
	case r.err != nil && failures > 0:
		c.lastError, c.failure = r.err.Error(), why
	case d.Good:
		c.lastPoll = now
		if failures == 0 {
			c.lastError, c.failure = "", nil
		}
	}
	if d.Do == queue.Deliver {
		c.active = now
	}
	c.mu.Unlock()

	if page := r.said.Page; page != nil {
		lag = max(0, now.Sub(page.Time))
	} else if r.err == nil && !r.said.Repeated {
		outcome = OutcomeEmpty
	}
	if d.Good && r.err == nil && p.refused != nil {
		p.refused.Contradicted(r.answer.Host)
		p.refused = nil
	}
	if d.Recovered {
		p.due = now
		c.logger().Info("canister can be polled again")
	}
	p.logDoubts(&d, r)
	switch d.Do {
	case queue.Deliver:
		messages = len(r.said.Page.Messages) - d.From
		c.handOut(r.said.Page, d.From)
		p.quicken()
		if r.said.More {
			p.due = now
		}
	case queue.AskOther:
		p.due = now.Add(d.Pause)
	case queue.AskOn:
		p.due = now
	case queue.Begin:
		p.due = now
		c.begin(&d)
	case queue.Rewind:
		p.due = now
		c.logger().Warn("the first message of a session was missed, reading the queue again from there")
	case queue.Restart:
		p.due = now
		c.restart(&d.Reset)
	case queue.Skip:
		p.due = now
		c.logger().Error("messages are skipped that the canister cannot deliver; their clients will be closed",
			zap.Uint64("messages", d.Skipped))
	case queue.TryAgain, queue.GiveUp:
		if d.Stale {
			why = newClosing(Unverifiable, "the canister's messages are not in the order of their times")
		} else {
			p.due = now.Add(max(d.Pause, pause.Backoff(failures, c.g.cfg.PollInterval, pollBackoffMax)))
			p.logFailure(r, failures, now.Sub(failing))
		}
		if d.Do == queue.GiveUp {
			c.giveUp(why)
		}
	}
	if r.err == nil && r.said.Question.Purpose == queue.News {
		p.noteWorth(r, d.Do == queue.Deliver)
		if d.Do == queue.Deliver && r.reply.EndOfQueue && r.reply.EndStated {
			p.noteComplete(r.said.Page.Time)
		}
		if d.Do == queue.Deliver || d.Do == queue.Nothing {
			p.hasten() // a poll that is asked for may have waited for the place of this one
			if !r.said.More {
				c.noteCaughtUp(r.began)
			}
		}
	}
	if d.Good {
		c.mu.Lock()
		c.acks.polled = now
		c.mu.Unlock()
	}
	c.g.cfg.Metrics.Polled(c.id, outcome, messages, r.took, lag)
}

// handOut hands out the messages of a page, beginning with message from. What is for one client leaves together.
func (c *canister) handOut(page *verify.Page, from int) {
	var writes []*session
	defer func() { c.g.handOut(writes) }() // also of those before one that panics
	for i := from; i < len(page.Messages); i++ {
		if s := c.receive(page, i); s != nil {
			writes = append(writes, s)
		}
	}
}

// logFailure logs a poll that brought nothing.
func (p *poller) logFailure(r *pollResult, failures int, lasted time.Duration) {
	if bad, ok := errors.AsType[*upstream.BadAnswer](r.err); ok {
		p.c.logBad(bad)
	}
	if ue, ok := errors.AsType[*upstream.Error](r.err); ok && !ue.Transient() {
		p.refused = ue
	}
	log := p.c.logger().With(zap.Error(r.err), zap.Int("failures", failures))
	if failures == 1 {
		log.Warn("polling failed, trying again")
	} else {
		log.Debug("polling failed again", zap.Duration("failing_for", lasted))
	}
}

// logDoubts logs what a page lacks, and what in it cannot be used, the first time that is seen.
func (p *poller) logDoubts(d *queue.Decision, r *pollResult) {
	host := zap.String("host", string(r.said.Vote.Host))
	if d.Missing > 0 {
		p.c.logger().Warn("messages are missing before those of a page, asking again", host, zap.Uint64("missing", d.Missing))
	}
	for _, i := range d.Poisoned {
		poison := r.said.Page.Messages[i].Poison
		cause := verify.CauseOf(poison)
		p.c.g.cfg.Metrics.VerificationFailed(p.c.id, cause)
		p.c.logger().Warn("message of the canister cannot be used", host, zap.String("cause", string(cause)), zap.Error(poison))
	}
}

// begin lets the sessions open that waited for the head of the queue, and looks for orphans in what was passed over.
func (c *canister) begin(d *queue.Decision) {
	close(c.primed)
	if d.Next == d.Oldest {
		return
	}
	oldest, next, start := d.Oldest, d.Next, d.Start
	if !c.g.cfg.KeepOrphans && !c.g.cfg.CleanStart {
		c.g.scans.Add(1)
		c.g.spawn("orphan scan", func() {
			defer c.g.scans.Add(-1)
			c.scanOrphans(c.ctx, oldest, next, start)
		}, nil)
	}
	c.logger().Debug("skipped messages of an earlier run", zap.Uint64("messages", next))
}

// giveUp closes the sessions of a canister that has been failing for too long, or will for ever.
func (c *canister) giveUp(why *closing) {
	if all := c.all(); len(all) > 0 {
		c.logger().Error("closing the canister's sessions", zap.String("reason", why.reason.Label()), zap.Int("sessions", len(all)),
			zap.String("text", why.text))
		c.endAll(why)
	}
}

// restart closes the sessions that a queue which began anew leaves behind: the canister does not know them any more. Those that
// wait for their first message may be known.
func (c *canister) restart(reset *queue.Reset) {
	c.g.cfg.Metrics.QueueReset(c.id)
	var forgotten []*session
	c.mu.Lock()
	for _, s := range c.sessions {
		if s.openedBy(reset.Floor) {
			forgotten = append(forgotten, s)
		}
	}
	for _, key := range reset.Forgotten {
		if s := c.sessions[key]; s != nil {
			forgotten = append(forgotten, s)
		}
	}
	c.acks = ackRounds{} // another program may send them at other times, or not at all
	c.mu.Unlock()
	told := resetClosing(reset)
	fields := []zap.Field{zap.String("because", resetReasons[reset.Why]), zap.Int("sessions", len(forgotten)), zap.String("told", told.text)}
	if !reset.Installed.IsZero() {
		fields = append(fields, zap.Time("upgraded_at", reset.Installed))
	}
	c.logger().Warn("the canister's queue began anew; its earlier sessions are closed", fields...)
	for _, s := range forgotten {
		s.endRemoved(told)
	}
}

var resetReasons = [...]string{
	queue.Younger:   "a message is younger than one that came after it",
	queue.Installed: "its program was put in place since",
	queue.Absent:    "nodes of the subnet sign that the newest message is gone",
}

// resetClosing is what the sessions of a queue that began anew are told.
func resetClosing(reset *queue.Reset) *closing {
	switch reset.Cause {
	case queue.Upgrade:
		return newClosing(Forgotten, "canister was upgraded at "+reset.Installed.UTC().Format(time.RFC3339)+" and forgot this session, reconnect")
	case queue.Eviction:
		return newClosing(Forgotten, "the canister dropped its queue and forgot this session, reconnect")
	}
	return newClosing(Forgotten, "the canister was restarted or upgraded and forgot this session, reconnect")
}
