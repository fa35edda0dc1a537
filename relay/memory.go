package relay

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// freeMessage is the size of the one message of a client that is not counted: the usual ones are far smaller. A client that
	// has not proven who it is may send no larger one.
	freeMessage = 16 << 10
	// messageMemory bounds the memory of all other messages together, from their arrival to their outcome.
	messageMemory = 256 << 20
	// memoryPatience is how long a message waits for memory before its client is told to come back later.
	memoryPatience = 20 * time.Second
	// messagePatience is how long a client may take to send one message.
	messagePatience = 2 * time.Minute
	// scarcePatience is how long it may take while others wait for memory.
	scarcePatience = 5 * time.Second
)

var errNoMemory = errors.New("too many large messages under way")

// memory hands out what messages may occupy. Without it, clients that all send the largest message at once, or stop in
// the middle of one, would decide how much memory the gateway takes.
type memory struct{ left *semaphore.Weighted }

func newMemory() *memory { return &memory{semaphore.NewWeighted(messageMemory)} }

// lease is the memory of one message. The zero value holds none.
type lease struct {
	m    *memory
	held int64
}

// covers reports whether the lease is good for size bytes of a client that has no other message here.
func (l *lease) covers(size int64) bool {
	return size <= freeMessage+frameOverhead+1 || size <= l.held // one more byte shows that a message is too large
}

// grow makes the lease good for size bytes, waiting for a while if there is no room. Those who wait may hold memory that the
// others wait for: relieve sees to it that some of them get on.
func (l *lease) grow(ctx context.Context, m *memory, size int64) error {
	if l.covers(size) {
		return nil
	}
	more := size - l.held
	ctx, cancel := context.WithTimeout(ctx, memoryPatience)
	defer cancel()
	if m.left.Acquire(ctx, more) != nil {
		return errNoMemory
	}
	l.m, l.held = m, size
	return nil
}

// count makes the lease good for all size bytes, however few, and reports whether there was room. It does not wait.
func (l *lease) count(m *memory, size int64) bool {
	if size > l.held {
		if !m.left.TryAcquire(size - l.held) {
			return false
		}
		l.m, l.held = m, size
	}
	return true
}

// shrink gives back what the lease holds above size.
func (l *lease) shrink(size int64) {
	if l.held > size {
		l.m.left.Release(l.held - size)
		l.held = size
	}
}

// release gives the memory back. A lease can be released more than once.
func (l *lease) release() { l.shrink(0) }

// relieve ends sessions for the memory that others wait for: those whose unfinished messages have occupied the most of it for the
// longest. Such a client is slow, or means to keep the memory from the others: that looks the same from here.
func (g *Gateway) relieve(all []*session, now time.Time) {
	if !slices.ContainsFunc(all, func(s *session) bool { return s.wanted.Load() > 0 }) {
		return
	}
	type hold struct {
		s     *session
		bytes int64
		cost  float64 // bytes times seconds
	}
	var holds []hold
	wanted := int64(0)
	for _, s := range all {
		bytes, lasted := s.arriving.Load(), s.messageAge(now)
		switch {
		case s.ended():
			wanted -= bytes // on its way back
			continue
		case bytes > 0 && lasted >= scarcePatience:
			holds = append(holds, hold{s, bytes, float64(bytes) * lasted.Seconds()})
		}
		wanted += s.wanted.Load()
	}
	slices.SortFunc(holds, func(a, b hold) int { return cmp.Compare(b.cost, a.cost) })
	for _, h := range holds {
		if wanted <= 0 {
			return
		}
		h.s.end(newClosing(OverCapacity, "message arrived too slowly while others waited for memory, try again later"))
		wanted -= h.bytes + h.s.wanted.Load()
	}
}
