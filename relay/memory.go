package relay

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// freeMessage is the size up to which a client's message is not counted: the usual ones are far smaller.
	freeMessage = 16 << 10
	// messageMemory bounds the memory of all larger messages together, from their arrival to their outcome.
	messageMemory = 256 << 20
	// memoryPatience is how long a message waits for memory before its client is told to come back later.
	memoryPatience = 20 * time.Second
	// messagePatience is how long a client may take to send one message.
	messagePatience = 2 * time.Minute
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

// covers reports whether the lease is good for size bytes.
func (l *lease) covers(size int64) bool { return size <= freeMessage || size <= l.held }

// grow makes the lease good for size bytes, waiting for a while if there is no room.
func (l *lease) grow(ctx context.Context, m *memory, size int64) error {
	if l.covers(size) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, memoryPatience)
	defer cancel()
	if m.left.Acquire(ctx, size-l.held) != nil {
		return errNoMemory
	}
	l.m, l.held = m, size
	return nil
}

// release gives the memory back. A lease can be released more than once.
func (l *lease) release() {
	if l.m != nil {
		l.m.left.Release(l.held)
		*l = lease{}
	}
}
