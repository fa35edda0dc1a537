package relay

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/verify"
)

// Who writes to a client is decided by its outbox's writing: only one goroutine does, and it writes whole frames with one call. gorilla
// reads, and writes the last frame, of which it knows that it is sent once.

// send queues a canister frame for the client, and reports whether the caller is to see to it that write is called, once it has queued
// what else it has. A client that has let its outbox fill up is closed, and so are those with the largest outboxes when all of them together
// hold too much. It never blocks.
func (s *session) send(f outFrame) (mine bool) {
	s.mu.Lock()
	if s.closing != nil {
		s.mu.Unlock()
		return false
	}
	ok := s.out.push(f, s.g.cfg.OutboxFrames, s.g.cfg.OutboxBytes)
	tooMuch := false
	if ok {
		tooMuch = s.g.outboxes.held.Add(f.memory()) > s.g.outboxes.limit
		mine = !s.out.writing
		s.out.writing = true
	}
	s.mu.Unlock()
	switch {
	case !ok:
		s.end(newClosing(SlowConsumer, ""))
	case tooMuch:
		s.g.reduceOutboxes()
	}
	return mine
}

// sendHandshake writes the first frame, which names the gateway principal, and what waits behind it. A session begins with its
// reader being who writes.
func (s *session) sendHandshake() {
	f := new(frame)
	f.buf = verify.AppendHandshake(make([]byte, headerRoom, 64), s.g.Principal())
	f.seal()
	s.extendWriteDeadline()
	if _, err := s.ws.NetConn().Write(f.bytes()); err != nil {
		s.writeFailed(err)
		return
	}
	s.write()
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

// pong queues the answer to a ping of the client. Of several that wait the last one is answered (RFC 6455, section 5.5.3).
func (s *session) pong(payload string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing == nil {
		s.out.pong = append(make([]byte, 0, len(payload)), payload...)
		s.wakeWriter()
	}
}

// wakeWriter makes sure that somebody writes. The caller holds mu.
func (s *session) wakeWriter() {
	if !s.out.writing {
		s.out.writing = true
		s.startWriter()
	}
}

// startWriter starts a writer for what waits. The caller holds mu.
func (s *session) startWriter() {
	s.g.spawn("writer", s.write, func() { s.abort(newClosing(InternalError, "")) })
}

// write writes what waits until nothing does. After the end of the session it writes the close frame behind that. Only who has set the
// outbox's writing calls it.
func (s *session) write() {
	var b batch
	for {
		switch s.next(&b) {
		case nothing:
			return
		case theClose:
			s.flushClose()
			return
		}
		if err := s.writeBatch(&b); err != nil {
			s.writeFailed(err)
			return
		}
		if b.stale {
			s.end(newClosing(Stale, ""))
			s.flushClose()
			return
		}
	}
}

// writing is what whoever writes does next.
type writing int

const (
	nothing  writing = iota // nothing waits, or nothing may be written any more
	theBatch                // writes the batch
	theClose                // all that waited is written
)

// next takes from the outbox what is to be written next.
func (s *session) next(b *batch) writing {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &s.out
	s.g.outboxes.held.Add(-o.written())
	if o.over {
		return nothing
	}
	*b = batch{}
	if s.closing == nil {
		b.control(o)
	}
	b.take(o, now)
	switch {
	case b.size > 0 || b.stale:
		return theBatch
	case s.closing != nil:
		return theClose
	}
	o.writing = false
	return nothing
}

// batch is what is written with one call.
type batch struct {
	head   []byte      // control frames, which come first
	frames [8]outFrame // oldest first
	n      int
	size   int  // of all
	stale  bool // the frame after them is too old to be sent
}

// joined is up to which size frames are written together: one TLS record.
const joined = 16 << 10

// control takes the control frames that are due.
func (b *batch) control(o *outbox) {
	if o.ping {
		b.head = appendControl(b.head, websocket.PingMessage, nil)
	}
	if o.pong != nil {
		b.head = appendControl(b.head, websocket.PongMessage, o.pong)
	}
	o.ping, o.pong = false, nil
	b.size = len(b.head)
}

// take takes frames as long as all is no larger than joined, and the first one whatever its size.
func (b *batch) take(o *outbox, now time.Time) {
	for b.n < len(b.frames) && len(o.frames) > 0 {
		first := o.frames[0]
		size := b.size + len(first.bytes())
		if size > joined && b.n > 0 {
			return
		}
		if b.stale = now.UnixNano() > first.stop; b.stale {
			return
		}
		b.frames[b.n], _ = o.pop()
		b.n++
		b.size = size
	}
}

// joins are buffers in which frames are put together.
var joins = sync.Pool{New: func() any { return new(make([]byte, 0, joined)) }}

// writeBatch writes what is in the batch. A failure leaves the connection useless.
func (s *session) writeBatch(b *batch) error {
	if b.size == 0 {
		return nil
	}
	s.extendWriteDeadline()
	var ends [len(b.frames)]func(error)
	if s.traced {
		for i := range b.n {
			_, ends[i] = s.g.cfg.Tracer.Start(s.trace, "icws.deliver")
		}
	}
	var err error
	conn := s.ws.NetConn()
	switch {
	case b.n == 1 && len(b.head) == 0:
		_, err = conn.Write(b.frames[0].bytes())
	case b.n == 0:
		_, err = conn.Write(b.head)
	default:
		buf := joins.Get().(*[]byte)
		data := append((*buf)[:0], b.head...)
		for _, f := range b.frames[:b.n] {
			data = append(data, f.bytes()...)
		}
		_, err = conn.Write(data)
		if cap(data) <= maxPooledFrame {
			*buf = data
		}
		joins.Put(buf)
	}
	now := time.Now()
	for i, f := range b.frames[:b.n] {
		if s.traced {
			ends[i](err)
		}
		if err != nil {
			continue
		}
		s.delivered(f.size(), max(0, time.Duration(now.UnixNano()-f.made)))
		f.free()
	}
	return err
}

// extendWriteDeadline gives what is written now at least write_timeout. The deadline moves only when it must: that is not for free.
func (s *session) extendWriteDeadline() {
	timeout, now := s.g.cfg.WriteTimeout, time.Now()
	if age := s.age(now); s.writeBy-age < timeout {
		s.writeBy = age + timeout + timeout/8
		s.ws.NetConn().SetWriteDeadline(now.Add(s.writeBy - age))
	}
}

// writeFailed ends the session after a failed write, which leaves the connection useless.
func (s *session) writeFailed(err error) {
	reason := ClientGone
	if isTimeout(err) {
		reason = WriteTimeout
	}
	s.abort(newClosing(reason, ""))
}

// flushClose writes the close frame.
func (s *session) flushClose() {
	s.mu.Lock()
	payload := s.closePayload()
	s.mu.Unlock()
	if payload != nil {
		s.ws.WriteControl(websocket.CloseMessage, payload, time.Now().Add(closeLinger))
	}
	s.noMore()
}

// closePayload returns the payload of the close frame, nil if the client gets none. The caller holds mu, and the session has ended.
func (s *session) closePayload() []byte {
	if s.echo == nil && s.closing.reason != ClientGone {
		return websocket.FormatCloseMessage(s.closing.reason.Code(), s.closing.text)
	}
	return s.echo
}

// noMore notes that nothing more is written to the client.
func (s *session) noMore() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.out.over {
		s.out.over = true
		close(s.flushed)
	}
}

// awaitFlush waits until the close frame is written, if there is one and the client still takes what comes before it.
func (s *session) awaitFlush() {
	s.mu.Lock()
	none := s.out.over || s.closePayload() == nil
	s.mu.Unlock()
	if none {
		return
	}
	timer := time.NewTimer(closeLinger)
	defer timer.Stop()
	select {
	case <-s.flushed:
	case <-timer.C:
	}
}

// isTimeout reports whether err is a deadline that passed.
func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
