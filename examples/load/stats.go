package main

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/icws-gateway/caddy-icws/relay/client"
)

// stats is what a run counts. All of it may be used concurrently.
type stats struct {
	opens, refused, closed    atomic.Uint64 // sessions opened; attempts that failed; sessions ended, whoever did it
	ended                     atomic.Uint64 // of closed: not by their own doing
	sent, due                 atomic.Uint64 // messages sent; deliveries that they call for
	delivered                 atomic.Uint64 // of due: verified, unaltered and for the first time
	lost, unresolved          atomic.Uint64 // of due, never delivered: to sessions that stayed open, to others
	duplicated, reordered     atomic.Uint64
	foreign                   atomic.Uint64                       // not ours, or altered
	received                  atomic.Uint64                       // all that came, whatever it was
	sentBytes, receivedBytes  atomic.Uint64                       // of payloads
	held                      atomic.Uint64                       // sends put off because the window was full
	openTime, roundTrip, push histogram                           // push: certified by the canister to verified here
	network                   func(payload) (time.Duration, bool) // how long the network had a message; nil: not known of any
	added                     histogram                           // round trips without that

	mu         sync.Mutex
	closes     map[string]uint64 // how sessions ended that we did not end
	own        map[string]uint64 // how the others ended
	refusals   map[string]uint64
	violations map[string]uint64 // what must not be
}

// What is kept of texts that a server makes: so many distinct ones, each of so many letters.
const maxReasons, maxReason = 60, 300

// printable makes a text that came over the network fit for a terminal, which obeys control characters, and bounds it.
func printable(text string) string {
	letters := []rune(strings.TrimSpace(text))
	if len(letters) > maxReason {
		letters = append(letters[:maxReason], []rune("...")...)
	}
	for i, r := range letters {
		if !unicode.IsPrint(r) {
			letters[i] = '?'
		}
	}
	return string(letters)
}

func (s *stats) count(m *map[string]uint64, key string) {
	key = printable(key)
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

// send books one message of a session that calls for so many deliveries.
func (s *stats) send(payload []byte, deliveries int) {
	s.sent.Add(1)
	s.sentBytes.Add(uint64(len(payload)))
	s.due.Add(uint64(deliveries))
}

// message books one message that session id sent and the session of l received. timed is false for clients that read late on purpose.
func (s *stats) message(id uint64, l *ledger, m client.Message, timed bool) {
	s.received.Add(1)
	s.receivedBytes.Add(uint64(len(m.Payload)))
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
	took := time.Since(epoch) - p.sent
	s.roundTrip.add(took)
	s.push.add(m.Received.Sub(m.Timestamp))
	if s.network != nil {
		if theirs, ok := s.network(p); ok {
			s.added.add(took - theirs)
		}
	}
}
