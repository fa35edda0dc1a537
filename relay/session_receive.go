package relay

import (
	"fmt"
	"time"

	"github.com/icws-gateway/caddy-icws/relay/internal/pause"
	"github.com/icws-gateway/caddy-icws/verify"
)

// A client that the canister has removed still gets what the canister sent it before. A CloseMessage is the end of that; there is
// none after an upgrade, and with CDK 0.3.1 and older.
const (
	// closeMessagePatience is how long the CloseMessage is waited for at least: the nodes that are polled may be behind.
	closeMessagePatience = 2 * time.Second
	// closeMessageLimit is how long the end of the queue is waited for, as polls may be slow or fail.
	closeMessageLimit = 15 * time.Second
)

// expect takes the sequence number of the next message of s and when it was made, and reports whether the message is to
// be sent, and whether it is the first.
func (s *session) expect(sequence, stamp uint64) (first, ok bool) {
	s.mu.Lock()
	switch {
	case s.closing != nil || sequence < s.nextSeq:
		s.mu.Unlock() // over, or sent before
		return false, false
	case sequence > s.nextSeq && s.state == stateOpening:
		s.opening.openMessageMissed = true
		s.mu.Unlock()
		s.canister.missedFirst(s)
		return false, false
	case sequence > s.nextSeq:
		lost := s.nextSeq
		s.mu.Unlock()
		s.end(missing(lost))
		return false, false
	}
	s.nextSeq++
	first = s.state == stateOpening
	if first {
		s.state, s.born = stateOpen, stamp
		s.lastProof = lastProof{stamp, time.Now()}
		s.opening.note(firstMessage)
	}
	s.mu.Unlock()
	return first, true
}

// missing is the closing for a message that the client can no longer get in order.
func missing(sequence uint64) *closing {
	return newClosing(MessageLost, fmt.Sprintf("message %d of the canister is missing, reconnect", sequence))
}

// noteService notes what a service message of kind, made at stamp, says of the session.
func (s *session) noteService(kind verify.ServiceKind, stamp uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch kind {
	case verify.ServiceAck:
		s.lastAck = time.Now()
		s.lastProof = lastProof{stamp, s.lastAck}
	case verify.ServiceClose:
		s.canisterClosed = time.Now()
		s.opening.note(canisterRemoved)
	}
}

// proof returns the newest message that shows that the canister had s.
func (s *session) proof() lastProof {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastProof
}

// hasHeard reports whether a message of the canister has come for s, which proves that the canister has the session.
func (s *session) hasHeard() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nextSeq > 1
}

// openedBy reports whether the first message of s has come and was made at stamp or earlier.
func (s *session) openedBy(stamp uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state >= stateOpen && s.born <= stamp
}

// closedByCanister reports whether the canister's CloseMessage for s has come. The client ends the session then.
func (s *session) closedByCanister() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.canisterClosed.IsZero()
}

// awaitCloseMessage waits until the canister's CloseMessage for s has come, the session has ended, or nothing more is to be expected:
// a poll that began now or later has brought the end of the queue, and patience is over.
func (s *session) awaitCloseMessage() {
	began := time.Now()
	s.canister.nudge(time.Time{})
	for !s.closedByCanister() && !s.ended() {
		waited := time.Since(began)
		if waited >= closeMessageLimit || waited >= closeMessagePatience && s.canister.caughtUpSince(began) {
			return
		}
		if pause.Sleep(s.g.ctx, 20*time.Millisecond) != nil {
			return
		}
	}
}
