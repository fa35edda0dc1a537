package relay

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/icws-gateway/caddy-icws/relay/internal/pause"
	"github.com/icws-gateway/caddy-icws/verify"
)

// enqueue queues e behind the client's earlier envelopes. While the inbox is full the caller, which is the reader, waits, and
// so does the client; that time is not held against its pongs.
func (s *session) enqueue(e *envelope) {
	s.mu.Lock()
	s.in.arrived(e)
	for s.in.phase == inboxOpen && !s.in.takes(e, s.g.memory) {
		space := make(chan struct{})
		s.in.space = space
		s.mu.Unlock()
		<-space
		s.seen()
		s.mu.Lock()
		s.in.heldUp = time.Now()
	}
	defer s.mu.Unlock()
	if s.in.phase != inboxOpen {
		s.in.done(e)
		return
	}
	s.in.push(e)
	if !s.in.relaying {
		s.in.relaying = true
		s.g.spawn("relayer", s.relay, func() { s.abort(newClosing(InternalError, "")) })
	}
}

// stalled reports whether the reader waits for the inbox, or for memory.
func (s *session) stalled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.in.space != nil || s.wanted.Load() > 0
}

// heldUpSince reports whether the reader has waited for the inbox since t: what the client sent then may have lain unread.
func (s *session) heldUpSince(t time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.in.heldUp.After(t)
}

// relay submits what waits in the inbox, in order, and ends when nothing waits. With relay_window 1 the next envelope
// goes out when the outcome of the one before is certified: the IC orders nothing, and a canister that follows the CDK
// drops a client on the first message out of order. With a larger window it goes out when the one before has been written
// to a host, so that the order of submission is kept as far as nothing fails after that.
func (s *session) relay() {
	for {
		s.mu.Lock()
		e := s.in.pop()
		if e == nil {
			s.in.relaying = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		if !e.open {
			s.pace()
		}
		if e.open || s.window == nil {
			s.submitOne(e, nil)
			continue
		}
		s.window <- struct{}{}
		sent := make(chan struct{})
		s.g.spawn("submission", func() {
			defer func() { <-s.window }()
			s.submitOne(e, sync.OnceFunc(func() { close(sent) }))
		}, func() { s.abort(newClosing(InternalError, "")) })
		<-sent
	}
}

// pace waits until one more message may go out by client_rate. Messages of a session that has ended do not wait: there are not many.
func (s *session) pace() {
	now := time.Now()
	s.paced = later(s.paced, now.Add(-time.Second)).Add(time.Second / time.Duration(s.g.cfg.ClientRate))
	if !s.ended() {
		pause.Sleep(s.lifetime(), s.paced.Sub(now)) // an error is the end of the session, which the submission notices
	}
}

// submitOne sees one envelope through to its outcome, and ends the session if that is not good. sent is called once the
// next may go out; it may be called more than once. It may be nil.
func (s *session) submitOne(e *envelope, sent func()) {
	if sent != nil {
		defer sent()
	}
	defer s.envelopeDone(e)
	ctx, done := s.submission(e)
	defer done()
	endSpan := func(*closing) {}
	if s.traced {
		ctx, endSpan = s.startSpan(ctx, e)
	}
	var outcome Outcome
	var c *closing
	if e.open {
		outcome, c = s.submitOpen(ctx, e, sent)
		s.openDone(e, c)
	} else {
		outcome, c = s.submitUntilOutcome(ctx, e, sent)
	}
	if outcome != outcomeNone {
		s.g.cfg.Metrics.Relayed(s.canister.id, outcome, time.Since(e.arrived))
	}
	endSpan(c)
	if c == nil {
		s.canister.nudge(e.executed)
		return
	}
	if c.removed {
		if c.reason == Superseded && s.g.turns.overlapped(s.turn) {
			c = newClosing(Forgotten, "").andRemoved() // perhaps by an older session, see endReplaced
		}
		s.noteRemoved()
		if c.reason == Forgotten {
			s.canister.suspect() // others may be forgotten, too
		}
		s.awaitCloseMessage()
	}
	if !s.closedByCanister() {
		s.end(c)
	}
	s.dropSent() // nothing may follow it, even where the session ended before for a reason that let it be submitted
}

// startSpan begins the span of a submission. Its end is told why the session ends, nil if it does not.
func (s *session) startSpan(ctx context.Context, e *envelope) (context.Context, func(*closing)) {
	name := "icws.call"
	if e.open {
		name = "icws.open"
	}
	ctx, end := s.g.cfg.Tracer.Start(ctx, name, "canister_id", s.canister.id.String())
	return ctx, func(c *closing) {
		if c == nil {
			end(nil)
		} else {
			end(errors.New(c.text))
		}
	}
}

// outcomeNone is the outcome of an envelope that was given up before anything was known of it.
const outcomeNone Outcome = ""

// submitOpen submits a ws_open as soon as its canister's poller is ready for it.
func (s *session) submitOpen(ctx context.Context, e *envelope, sent func()) (Outcome, *closing) {
	if !s.canister.ready(s.lifetime(), e.expiry) && !s.ended() {
		return OutcomeExpired, s.canister.unreadyBecause()
	}
	if s.turn != nil {
		s.g.turns.await(ctx, s.turn)
	}
	if !s.openBegins() {
		return outcomeNone, newClosing(ClientGone, "")
	}
	outcome, c := s.submitUntilOutcome(ctx, e, sent)
	if outcome == outcomeNone {
		c = c.orUnsure(s.openMayBeTaken())
	}
	if c == nil && outcome == OutcomePending && e.late {
		c = s.checkLate(ctx, e)
	}
	return outcome, c
}

// checkLate checks the sender of a ws_open that could not be checked when it came, and whose acceptance is not certified:
// one host's word does not let anybody in. What was missing then may have been the root key.
func (s *session) checkLate(ctx context.Context, e *envelope) *closing {
	env, err := verify.ParseEnvelope(e.body)
	if err != nil {
		return newClosing(InternalError, "").orUnsure(true) // it was parsed before
	}
	authority, err := s.g.up.Authority(ctx)
	if err != nil {
		return newClosing(Outage, "").orUnsure(true)
	}
	switch _, err = verify.VerifySender(env, time.Now(), authority, nil); {
	case err == nil:
		return nil
	case isUnknownScheme(err):
		return newClosing(BadSender, "ws_open: kind of key not known here, and this network certifies no outcomes").orUnsure(true)
	}
	return badSender(methodOpen, err).orUnsure(true)
}

// envelopeDone notes that e is not under way any more.
func (s *session) envelopeDone(e *envelope) {
	s.mu.Lock()
	s.in.underway--
	s.in.done(e)
	s.in.outcome = time.Now()
	s.in.release()
	if s.cancel != nil && s.in.idle() {
		s.cancel() // an idle session keeps no context
		s.life, s.cancel = nil, nil
	}
	s.mu.Unlock()
	s.leave()
}

// submission makes the context of one submission: it carries the session's trace and ends with the session, except
// for a ws_open that has gone out: its outcome must be known before the canister can be told that the client has left.
func (s *session) submission(e *envelope) (context.Context, func()) {
	if e.open {
		ctx, cancel := s.newContext()
		s.mu.Lock()
		s.opening.abandon = cancel
		s.mu.Unlock()
		return ctx, cancel
	}
	return s.lifetime(), func() {}
}

// lifetime returns the context of what the session submits. It ends with the gateway, and with the session unless the
// end lets what waits be submitted.
func (s *session) lifetime() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life == nil {
		s.life, s.cancel = s.newContext()
		if s.in.phase == inboxDropped {
			s.cancel()
		}
	}
	return s.life
}

// newContext makes a context that ends with the gateway. It carries the session's trace if that is kept.
func (s *session) newContext() (context.Context, context.CancelFunc) {
	if !s.traced {
		return context.WithCancel(s.g.ctx)
	}
	ctx, cancel := context.WithCancel(s.trace)
	stop := context.AfterFunc(s.g.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}
