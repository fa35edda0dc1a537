package relay

import (
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay/internal/queue"
	"github.com/icws-gateway/caddy-icws/verify"
)

// opening is what is known of the opening of a session. It belongs to the session, whose lock guards it.
type opening struct {
	began             time.Time // when ws_open came from the client
	registration      registration
	registeredAt      time.Time      // when it became registered
	before            queue.Bookmark // the poller's position before ws_open was submitted, for a session that is routed late
	openMessageMissed bool           // a later message came before the first
	lastError         *closing       // why ws_open has not been accepted yet, as far as is known; nil = nothing is
	abandon           func()         // ends the submission of ws_open, which it must not once a host may have taken it
}

// note applies e.
func (o *opening) note(e registrationEvent) {
	if o.registration = o.registration.after(e); o.registration == registered && o.registeredAt.IsZero() {
		o.registeredAt = time.Now()
	}
}

// openBegins notes that the turn of ws_open has come, and reports whether it may be submitted: not if the session has ended.
func (s *session) openBegins() bool {
	before := s.canister.bookmark()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening.before = before
	return s.closing == nil
}

// openMaySend notes that ws_open goes out to a host now, and reports whether it may. Once the client has left it may not: to
// the canister it would be a newer session than one that the same person has opened since. But what a host may have taken is
// sent again, for its outcome.
func (s *session) openMaySend() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &s.opening
	if o.registration == removed || s.closing != nil && o.registration != inFlight {
		return false
	}
	o.note(openGoesOut)
	return true
}

// openFailed notes why an attempt to submit ws_open brought no outcome, and reports whether there may be another.
func (s *session) openFailed(why *closing, taken bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening.lastError = why
	if !taken {
		s.opening.note(openNotTaken)
	}
	return taken || s.closing == nil
}

// openMayBeTaken reports whether a host may have taken ws_open, whose outcome is not known.
func (s *session) openMayBeTaken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opening.registration == inFlight
}

// openDone notes the outcome of ws_open; c is nil if the canister accepted it.
func (s *session) openDone(e *envelope, c *closing) {
	s.mu.Lock()
	if c == nil || c.unsure {
		s.opening.note(openAccepted)
	} else {
		s.opening.note(openRefused)
	}
	before, ended := s.opening.before, s.closing != nil
	s.opening.abandon = nil // an open session does not keep the context
	s.mu.Unlock()
	s.g.turns.finish(s.turn, c == nil)
	if c == nil && !ended {
		if e.late {
			s.canister.route(s, before)
		}
		s.canister.accepted(s, e.executed)
	}
}

// endUnsent ends the session for c if its ws_open has not gone out, which it will not then.
func (s *session) endUnsent(c *closing) {
	s.mu.Lock()
	unsent := s.opening.registration == notSent
	s.mu.Unlock()
	if unsent {
		s.end(c)
	}
}

// noteRemoved notes that the canister has removed the session by itself, so that ws_close is not needed.
func (s *session) noteRemoved() {
	s.mu.Lock()
	s.opening.note(canisterRemoved)
	s.mu.Unlock()
}

// end ends the session for c, unless it has ended before. The client gets a close frame. Before that it gets what waits for it, if
// the canister has removed the session, and else nothing more. What it sent still goes to its canister if c is about the
// connection alone and the canister may have the session. It never blocks.
func (s *session) end(c *closing) {
	s.mu.Lock()
	if c.removed {
		s.opening.note(canisterRemoved)
	}
	if s.closing != nil {
		s.mu.Unlock()
		return
	}
	s.closing, s.flushed = c, make(chan struct{})
	s.state = stateEnded
	s.arrival.drop()
	if !c.removed {
		s.clearOutbox()
	}
	if s.opening.abandon != nil && s.opening.registration == notSent {
		s.opening.abandon()
	}
	if c.reason.keepsSent() && s.opening.registration.mayBeKnown() {
		s.in.finish()
	} else {
		s.dropSentLocked()
	}
	s.wakeWriter()
	home := s.canister
	s.mu.Unlock()
	if home != nil {
		home.remove(s)
	}
	// The reader waits for the client's answer, not forever.
	s.ws.SetReadDeadline(time.Now().Add(closeLinger))
}

// clearOutbox drops what waits for the client. The caller holds mu.
func (s *session) clearOutbox() { s.g.outboxes.held.Add(-s.out.clear()) }

// endRemoved is end for a session that the canister has removed by itself.
func (s *session) endRemoved(c *closing) { s.end(c.andRemoved()) }

// endReplaced ends a session because the canister has opened another one of its principal; byNewer says that a newer one is
// served now. Where the canister executed the opens in another order than they came, the newer session lost its place to the older
// one, and gets it back when it opens again.
func (s *session) endReplaced(byNewer bool) {
	reason := Forgotten
	if byNewer {
		reason = Superseded
	}
	s.endRemoved(newClosing(reason, ""))
}

// endForgotten ends a session that has got no ack when it was due. Unless that is proven by the acks of others, the canister is told.
func (s *session) endForgotten(proven bool) {
	c := newClosing(Forgotten, "")
	if proven {
		s.endRemoved(c)
	} else {
		s.end(c)
	}
}

// abort is end, and closes the connection at once: the client gets no close frame.
func (s *session) abort(c *closing) {
	s.end(c)
	s.noMore()
	s.ws.Close()
}

// dropSent gives up what the client sent and what has no outcome yet.
func (s *session) dropSent() {
	s.mu.Lock()
	s.dropSentLocked()
	s.mu.Unlock()
}

// dropSentLocked is dropSent for a caller that holds mu.
func (s *session) dropSentLocked() {
	s.in.drop()
	if s.cancel != nil {
		s.cancel()
	}
}

// giveUp drops what the client sent, and the wait for the outcome of its ws_open.
func (s *session) giveUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropSentLocked()
	if s.opening.abandon != nil {
		s.opening.abandon()
	}
}

// cleanup runs once the connection can not be read any more.
func (s *session) cleanup() {
	s.end(newClosing(ClientGone, "")) // if nobody knows better
	s.awaitFlush()
	s.ws.Close()
	s.mu.Lock()
	s.state = max(s.state, stateClosed)
	s.clearOutbox()
	s.mu.Unlock()
	first := s.g.depart(s)
	s.leave()
	if first {
		s.report()
	}
}

// report counts, remembers and logs the end of the session.
func (s *session) report() {
	s.mu.Lock()
	c, home, principal, clientText := s.closing, s.canister, s.key.Principal, s.clientText
	s.mu.Unlock()
	lasted := time.Since(s.started)
	s.g.history.add(c.reason, CloseSnapshot{
		At: time.Now(), ID: s.id, Canister: s.asked, Principal: principal, ClientIP: s.ip,
		Reason: c.reason.Label(), Code: c.reason.Code(), Text: c.text, ClientText: clientText, Lasted: lasted,
	})
	s.g.cfg.Metrics.SessionClosed(home.principal(), c.reason, lasted)
	ce := s.g.log().Check(c.reason.level(), "session closed")
	if ce == nil {
		return
	}
	fields := []zap.Field{
		zap.Uint64("session", s.id),
		zap.String("reason", c.reason.Label()),
		zap.Int("code", c.reason.Code()),
		zap.String("text", c.text),
		zap.Duration("duration", lasted),
		zap.Int64("frames_in", s.framesIn.Load()),
		zap.Int64("bytes_in", s.bytesIn.Load()),
		zap.Int64("frames_out", s.framesOut.Load()),
		zap.Int64("bytes_out", s.bytesOut.Load()),
	}
	if s.ip.IsValid() {
		fields = append(fields, zap.Stringer("client_ip", s.ip))
	}
	if s.asked != (verify.Principal{}) {
		fields = append(fields, zap.Stringer("canister_id", s.asked))
	}
	if clientText != "" {
		fields = append(fields, zap.String("client_text", clientText))
	}
	ce.Write(fields...)
}

// leave does what is left to do for a session that has ended, once nothing that its client sent waits or is under way. If the
// canister may have the session, it is told once that the client has gone. A ws_close that overtakes its ws_open would leave a
// session at the canister that nobody has, and one that overtakes a ws_message would lose it.
func (s *session) leave() {
	s.mu.Lock()
	if s.closing == nil || !s.in.idle() {
		s.mu.Unlock()
		return
	}
	if s.cancel != nil {
		s.cancel()
	}
	before := s.opening.registration
	s.opening.note(sessionLeft)
	sendClose := before != closeSent && s.opening.registration == closeSent
	closed := s.state == stateClosed
	home, key := s.canister, s.key
	s.mu.Unlock()
	s.g.turns.finish(s.turn, false)
	if sendClose {
		s.g.turns.leave(home.id, key)
	}
	if closed {
		s.g.departed(s)
	}
}
