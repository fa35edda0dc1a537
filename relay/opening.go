package relay

import (
	"time"

	"go.uber.org/zap"
)

// openState is what is known of a session at its canister.
type openState struct {
	began     time.Time // when ws_open came from the client
	hitch     *closing  // why ws_open has not been accepted yet, as far as is known; nil = nothing is
	submitted bool      // ws_open is being submitted, or was
	going     bool      // it is on its way to a host, or may have been taken by one
	abandon   func()    // ends its submission, which it must not while it is going
	settled   bool      // its outcome is known, or will never be
	there     bool      // the canister has the session, or may have
	at        time.Time // when that was learned
	rewind    uint64    // the poller's nonce before ws_open was submitted, for a session that is routed late
	beheaded  bool      // a later message came before the first
	gone      bool      // the canister dropped the session by itself
	told      bool      // ws_close was handed to the closer
}

// The SDK waits 60 s for a session to open, and then closes without knowing why. The gateway says before that what it knows.
const (
	// openLimit is how long a session may be opening.
	openLimit = 50 * time.Second
	// refusalPatience is how long it may be when the IC says why it cannot open, without proof, and it may pass.
	refusalPatience = 10 * time.Second
)

// overdue returns why a session is closed that has been opening for too long at now, nil if it has not.
func (o *openState) overdue(home *canister, now time.Time) *closing {
	since, trouble := home.troubled()
	waited := now.Sub(o.began)
	switch {
	case o.there && trouble == nil:
		if now.Sub(later(o.at, since)) < openPatience {
			return nil
		}
		if o.beheaded {
			return missing(1)
		}
		return newClosing(Forgotten, "the canister accepted ws_open and then sent nothing, reconnect")
	case !o.there && o.hitch.refusal() && waited >= refusalPatience:
		return o.hitch
	case trouble.refusal() && waited >= refusalPatience:
		return trouble
	case waited < openLimit:
		return nil
	case trouble != nil:
		return trouble
	case o.hitch != nil && !o.there:
		return o.hitch
	case !o.going && !o.there: // it, or the first poll of the canister, still waits for its turn
		return newClosing(OverCapacity, "ws_open: the gateway has more requests than it may make, try again later")
	}
	return newClosing(OutcomeUnknown, "ws_open: no outcome for "+openLimit.String()+", reconnect")
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// openGoing notes that ws_open goes out to a host now, and reports whether it may. Once the client has left it may not: to
// the canister it would be a newer session than one that the same person has opened since. But what may have been taken
// goes on, for its outcome.
func (s *session) openGoing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened.going = s.opened.going || s.closing == nil
	return s.opened.going
}

// openHindered notes why an attempt to submit ws_open brought no outcome, and reports whether there may be another.
func (s *session) openHindered(why *closing, taken bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened.hitch, s.opened.going = why, taken
	return taken || s.closing == nil
}

// openSubmitted notes that ws_open is submitted from now on, and reports whether it may: not if the session has ended.
func (s *session) openSubmitted() bool {
	nonce := s.canister.position()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing != nil {
		return false
	}
	s.opened.submitted = true
	s.opened.rewind = nonce
	return true
}

// openSettled notes the outcome of ws_open; c is nil if the canister accepted it.
func (s *session) openSettled(e *envelope, c *closing) {
	s.mu.Lock()
	s.opened.settled = true
	s.opened.there = c == nil || c.unsure
	s.opened.at = time.Now()
	rewind, ended := s.opened.rewind, s.closing != nil
	s.mu.Unlock()
	if c == nil && !ended {
		if e.late {
			s.canister.route(s, rewind)
		}
		s.canister.accepted(s)
	}
}

// leave does what is left to do for a session that has ended, once nothing that its client sent waits or is under way:
// it tells the canister, once, that the client has gone, if the canister has the session, and gives back the session's
// place. A ws_close that overtakes its ws_open leaves a ghost, and one that overtakes a ws_message loses it.
func (s *session) leave() {
	s.mu.Lock()
	if s.closing == nil || !s.in.idle() {
		s.mu.Unlock()
		return
	}
	if s.cancel != nil {
		s.cancel()
	}
	o := &s.opened
	tell := o.submitted && o.settled && o.there && !o.gone && !o.told
	o.told = o.told || tell
	vacate := s.cleaned && !s.vacated
	s.vacated = s.vacated || vacate
	home, key := s.canister, s.key
	s.mu.Unlock()
	if tell {
		s.g.closer.add(home.id, key)
	}
	if vacate {
		s.g.vacate(s.ip)
	}
}

// dropped notes that the canister has dropped the session by itself, so that ws_close is not needed.
func (s *session) dropped() {
	s.mu.Lock()
	s.opened.gone = true
	s.mu.Unlock()
}

// noticeUncertified says once what it means that a network has only the asynchronous call.
func (g *Gateway) noticeUncertified() {
	g.uncertified.Do(func() {
		g.log().Warn("this network only accepts calls and does not certify their outcome (version 2 of the call endpoint): "+
			"messages of a client are submitted in the order of acceptance, and refusals by the canister cannot be reported",
			zap.String("endpoint", "/api/v2/canister/<id>/call"))
	})
}
