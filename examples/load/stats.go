package main

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/icws-gateway/caddy-icws/relay/client"
)

// stats is what a run counts. All of it may be used concurrently.
type stats struct {
	opens, refused            atomic.Uint64 // sessions opened; attempts that failed
	sent, delivered           atomic.Uint64
	lost, unresolved          atomic.Uint64 // never came back: from sessions that stayed open, from others
	duplicated, reordered     atomic.Uint64
	foreign                   atomic.Uint64 // not ours, or altered
	held                      atomic.Uint64 // sends put off because the window was full
	openTime, roundTrip, push histogram     // push: certified by the canister to verified here

	mu         sync.Mutex
	closes     map[string]uint64 // how sessions ended that we did not end
	refusals   map[string]uint64
	violations map[string]uint64 // what must not be
}

// maxReasons bounds the distinct texts that are kept, since a server makes them.
const maxReasons = 60

func (s *stats) count(m *map[string]uint64, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if *m == nil {
		*m = make(map[string]uint64)
	}
	if _, known := (*m)[key]; !known && len(*m) >= maxReasons {
		key = "others"
	}
	(*m)[key]++
}

// violation records something that must not happen.
func (s *stats) violation(format string, args ...any) {
	s.count(&s.violations, fmt.Sprintf(format, args...))
}

// reason is the end of a session in one line.
func reason(err error) string {
	var end *client.CloseError
	if !errors.As(err, &end) {
		return err.Error()
	}
	side := "gateway"
	if end.Local {
		side = "client"
	}
	text := fmt.Sprintf("%s %d %s", side, end.Code, end.Text)
	if end.Err != nil && end.Text == client.TextReceive {
		text += ": " + end.Err.Error()
	}
	return text
}

// message books one message that session id received. timed is false for clients that read late on purpose.
func (s *stats) message(id uint64, l *ledger, m client.Message, timed bool) {
	p, ok := decodePayload(m.Payload)
	if !ok || p.session != id {
		s.foreign.Add(1)
		return
	}
	switch l.got(p.number) {
	case inOrder:
	case repeated:
		s.duplicated.Add(1)
		return
	case outOfOrder:
		s.reordered.Add(1)
	case unknown:
		s.foreign.Add(1)
		return
	}
	s.delivered.Add(1)
	if !timed {
		return
	}
	s.roundTrip.add(time.Since(epoch) - p.sent)
	s.push.add(m.Received.Sub(m.Timestamp))
}
