package relay

import (
	"errors"
	"net"
	"time"

	"github.com/gorilla/websocket"
)

// send queues a canister frame for the client. A client that has let its outbox fill up is closed, and so are those with the largest
// outboxes when all of them together hold too much. It never blocks.
func (s *session) send(f outFrame) {
	s.mu.Lock()
	if s.closing != nil {
		s.mu.Unlock()
		return
	}
	ok := s.out.push(f, s.g.cfg.OutboxFrames, s.g.cfg.OutboxBytes)
	tooMuch := false
	if ok {
		tooMuch = s.g.outboxes.held.Add(int64(cap(f.data))) > s.g.outboxes.limit
		s.wakeWriter()
	}
	s.mu.Unlock()
	switch {
	case !ok:
		s.end(newClosing(SlowConsumer, ""))
	case tooMuch:
		s.g.reduceOutboxes()
	}
}

// ping queues a ping.
func (s *session) ping() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing == nil {
		s.out.ping = true
		s.wakeWriter()
	}
}

// wakeWriter makes sure that a writer exists. The caller holds mu.
func (s *session) wakeWriter() {
	if !s.out.writing {
		s.out.writing = true
		s.g.spawn("writer", s.write, func() { s.abort(newClosing(InternalError, "")) })
	}
}

// write writes what waits, and ends. After the end of the session it writes the close frame behind that.
func (s *session) write() {
	for {
		s.mu.Lock()
		s.g.outboxes.held.Add(-s.out.written())
		f, ok := s.out.pop()
		if s.closing != nil && !ok {
			s.mu.Unlock()
			s.flushClose()
			return
		}
		ping := s.out.ping && s.closing == nil
		s.out.ping = false
		if !ok && !ping {
			s.out.writing = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()

		if ping {
			if err := s.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(s.g.cfg.WriteTimeout)); err != nil {
				s.writeFailed(err)
				return
			}
		}
		if ok && !s.writeFrame(f) {
			return
		}
	}
}

// writeFrame writes one canister frame and reports whether to go on.
func (s *session) writeFrame(f outFrame) bool {
	now := time.Now()
	if now.After(f.stop) {
		s.end(newClosing(Stale, ""))
		s.flushClose()
		return false
	}
	_, endSpan := s.g.cfg.Tracer.Start(s.trace, "icws.deliver")
	s.ws.SetWriteDeadline(now.Add(s.g.cfg.WriteTimeout))
	err := s.ws.WriteMessage(websocket.BinaryMessage, f.data)
	endSpan(err)
	if err != nil {
		s.writeFailed(err)
		return false
	}
	s.delivered(len(f.data), max(0, time.Since(f.made)))
	frames.put(f.data)
	return true
}

// writeFailed ends the session after a failed write, which leaves the connection useless.
func (s *session) writeFailed(err error) {
	reason := ClientGone
	if isTimeout(err) {
		reason = WriteTimeout
	}
	s.abort(newClosing(reason, ""))
}

// flushClose writes the close frame, once. Only one goroutine does so: gorilla refuses a second one.
func (s *session) flushClose() {
	s.mu.Lock()
	payload := s.echo
	if payload == nil && s.closing.reason != ClientGone {
		payload = websocket.FormatCloseMessage(s.closing.reason.Code(), s.closing.text)
	}
	s.mu.Unlock()
	if payload == nil {
		return
	}
	s.ws.WriteControl(websocket.CloseMessage, payload, time.Now().Add(closeLinger))
}

// isTimeout reports whether err is a deadline that passed.
func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
