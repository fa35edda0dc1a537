package relay

import (
	"fmt"
	"time"
)

// The SDK waits 60 s for a session to open, and then closes without knowing why. The gateway says before that what it knows.
const (
	// openLimit is how long a session may be opening.
	openLimit = 50 * time.Second
	// refusalPatience is how long it may be when the IC says why it cannot open, without proof, and it may pass.
	refusalPatience = 10 * time.Second
	// openPatience is how long a client that the canister accepted may wait for its first message.
	openPatience = 30 * time.Second
)

// check applies the deadlines of s at now; the next check comes after every.
func (s *session) check(now time.Time, every time.Duration) {
	s.mu.Lock()
	st, home := s.state, s.canister
	opening, closedAt, lastAck := s.opening, s.canisterClosed, s.lastAck
	s.mu.Unlock()
	cfg := &s.g.cfg
	switch {
	case st >= stateEnded:
		return
	case st == stateConnected && now.Add(every).Sub(s.started) >= cfg.OpenTimeout:
		s.end(newClosing(OpenTimeout, fmt.Sprintf("no valid ws_open within %s, reconnect", cfg.OpenTimeout)))
		return
	case st == stateOpening:
		if c := opening.overdue(home, now.Add(every)); c != nil {
			s.end(c)
			return
		}
	case !closedAt.IsZero() && now.Sub(closedAt) >= canisterCloseGrace:
		s.end(newClosing(CanisterClosed, ""))
		return
	}
	if st == stateOpen {
		if over, proven := home.passedOver(s); over {
			s.endForgotten(proven)
			return
		}
	}
	if st == stateOpen && lastAck.IsZero() && s.framesIn.Load() > 1 && now.Sub(opening.registeredAt) >= ackOverdue {
		home.noteMissingAcks()
	}
	if s.wanted.Load() == 0 && s.messageAge(now.Add(every)) > messagePatience {
		// By the clock and not by what is read: gorilla reads pongs and empty frames in the middle of a message by itself.
		s.end(newClosing(OverCapacity, "message took longer than "+messagePatience.String()+" to arrive"))
		return
	}
	s.checkAlive(now, every)
}

// overdue returns why a session is closed that has been opening for too long at now, nil if it has not.
func (o *opening) overdue(home *canister, now time.Time) *closing {
	recovered, failure := home.failing()
	waited := now.Sub(o.began)
	known := o.registration == registered
	switch {
	case known && failure == nil:
		if now.Sub(later(o.registeredAt, recovered)) < openPatience {
			return nil
		}
		if o.openMessageMissed {
			return missing(1)
		}
		return newClosing(Forgotten, "the canister accepted ws_open and then sent nothing, reconnect")
	case !known && o.lastError.refusal() && waited >= refusalPatience:
		return o.lastError
	case failure.refusal() && waited >= refusalPatience:
		return failure
	case waited < openLimit:
		return nil
	case failure != nil:
		return failure
	case o.lastError != nil && !known:
		return o.lastError
	case o.registration == notSent: // it, or the first poll of the canister, still waits for its turn
		return noTurn(methodOpen)
	}
	return newClosing(OutcomeUnknown, "ws_open: no outcome for "+openLimit.String()+", reconnect")
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// checkAlive pings a silent client and ends one that does not answer.
func (s *session) checkAlive(now time.Time, every time.Duration) {
	if s.stalled() {
		s.seen() // it is we who do not read
		return
	}
	next := s.age(now) + every
	pinged, lastSeen := time.Duration(s.pinged.Load()), time.Duration(s.lastSeen.Load())
	switch {
	case pinged != 0 && next-pinged > s.g.cfg.PongTimeout:
		s.end(newClosing(PongTimeout, ""))
	case pinged == 0 && next-lastSeen > s.g.cfg.PingInterval:
		s.pinged.Store(int64(s.age(now)))
		s.ping()
	}
}
