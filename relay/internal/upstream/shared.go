package upstream

import (
	"context"
	"errors"
	"sync"
)

// shared is a piece of work that many may want at the same time: it is done once, and each waits for the result for as long as
// its own context lasts. The work belongs to none of them, so it does not end when one of them leaves. The zero value is ready.
type shared[T any] struct {
	mu      sync.Mutex
	running *sharedRun[T]
}

// sharedRun is one doing of it.
type sharedRun[T any] struct {
	done  chan struct{}
	value T
	err   error
}

var errPanic = errors.New("fault in the gateway")

// start starts f in a goroutine of n's, unless a run is under way already, and returns the run.
func (s *shared[T]) start(n *Network, what string, f func(ctx context.Context) (T, error)) *sharedRun[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil {
		return s.running
	}
	run := &sharedRun[T]{done: make(chan struct{})}
	s.running = run
	finish := func() {
		s.mu.Lock()
		s.running = nil
		s.mu.Unlock()
		close(run.done)
	}
	n.spawn(what, func() {
		run.value, run.err = f(n.ctx)
		finish()
	}, func() {
		run.err = errPanic
		finish()
	})
	return run
}

// wait waits for the result. The error is that of ctx if it ends first.
func (r *sharedRun[T]) wait(ctx context.Context) (T, error) {
	select {
	case <-r.done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
