package relay

import (
	"context"
	"time"
)

// arrival is what has arrived of a message that is not complete, as far as its memory is counted. It belongs to the session, whose
// lock guards it. Only the reader fills it; the end of the session empties it, while the reader may wait for the client.
type arrival struct {
	buf  []byte
	held lease
	stop context.CancelFunc // ends the reader's wait for memory; nil before the first one
}

// drop gives up what has arrived, and the wait for memory.
func (a *arrival) drop() {
	if a.stop != nil {
		a.stop()
	}
	a.held.release()
	*a = arrival{}
}

// keep adds piece to what has arrived of a message of at most limit bytes, waiting for memory if there is none. Once the session
// has ended it keeps nothing.
func (s *session) keep(piece []byte, limit int) error {
	s.mu.Lock()
	buf := s.arrival.buf
	s.mu.Unlock()
	if len(buf)+len(piece) > cap(buf) {
		size := min(max(2*cap(buf), 2*freeMessage), limit+1)
		if lent, err := s.lend(int64(size)); !lent {
			return err
		}
		buf = append(make([]byte, 0, size), buf...)
	}
	buf = append(buf, piece...)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing == nil {
		s.arrival.buf = buf
	}
	return nil
}

// lend makes what arrives hold size bytes, and reports whether it does: not if the session has ended, or, with an error, if there
// was no room for a while. Those who wait may hold memory that the others wait for: relieve sees to it that some of them get on.
// The wait is held neither against the client's pongs nor against the time it may take for the message.
func (s *session) lend(size int64) (lent bool, err error) {
	s.mu.Lock()
	if s.closing != nil {
		s.mu.Unlock()
		return false, nil
	}
	ctx, stop := context.WithTimeout(s.g.ctx, memoryPatience)
	defer stop()
	s.arrival.stop = stop
	more := size - s.arrival.held.held
	s.wanted.Store(more)
	s.mu.Unlock()

	began := time.Now()
	err = s.g.memory.left.Acquire(ctx, more)
	s.messageBegan.Add(int64(time.Since(began)))
	s.seen()

	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted.Store(0)
	switch {
	case s.closing != nil && err == nil:
		s.g.memory.left.Release(more)
		return false, nil
	case s.closing != nil:
		return false, nil
	case err != nil:
		return false, errNoMemory
	}
	s.arrival.held = lease{s.g.memory, size}
	return true, nil
}

// takeArrival returns the message that is complete, with the memory that it holds.
func (s *session) takeArrival() ([]byte, lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.arrival
	s.arrival = arrival{}
	return a.buf, a.held
}

// arriving returns the memory that the message holds that arrives.
func (s *session) arriving() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.arrival.held.held
}
