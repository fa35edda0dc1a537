package relay

import (
	"errors"
	"io"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
	"github.com/icws-gateway/caddy-icws/verify"
)

// frameOverhead is what a client frame has around the envelope that max_message_size is about.
const frameOverhead = 64

// sendHandshake writes the first frame, which names the gateway principal, and reports whether that worked.
func (s *session) sendHandshake() bool {
	s.ws.SetWriteDeadline(time.Now().Add(s.g.cfg.WriteTimeout))
	err := s.ws.WriteMessage(websocket.BinaryMessage, verify.AppendHandshake(nil, s.g.Principal()))
	if err != nil {
		s.end(newClosing(ClientGone, ""))
		return false
	}
	return true
}

// readLoop reads frames until the connection ends. While the session is closing it only waits for the client's close
// frame.
func (s *session) readLoop() {
	for {
		kind, frame, held, err := s.readMessage()
		s.arriving.Store(0)
		s.messageBegan.Store(0)
		if err != nil {
			held.release()
			s.readFailed(err)
			return
		}
		switch {
		case s.ended():
			held.release()
		case kind != websocket.BinaryMessage:
			held.release()
			s.end(newClosing(TextFrame, ""))
		default:
			if c := s.handleFrame(frame, held); c != nil {
				s.end(c)
			}
		}
	}
}

// errTooLarge says that a message is larger than allowed; the rest of it has not been read.
var errTooLarge = errors.New("message too large")

// messageLimit is the size up to which the next message is read. A client that has not proven who it is has one small message.
func (s *session) messageLimit() int64 {
	limit := s.policy.maxMessageSize()
	if s.chain == nil && !s.hasOpened() {
		limit = min(limit, freeMessage)
	}
	return limit
}

// readMessage reads the next message, and returns it with the memory that it holds. Every piece that arrives is a sign
// of life: on a slow line the pong may be queued behind a large message.
func (s *session) readMessage() (kind int, message []byte, held lease, err error) {
	kind, r, err := s.ws.NextReader()
	if err != nil {
		return 0, nil, held, err
	}
	s.seen()
	s.messageBegan.Store(max(1, int64(s.age(time.Now()))))
	limit := int(s.messageLimit()) + frameOverhead
	buf := make([]byte, 0, 512)
	for {
		if len(buf) == cap(buf) {
			bigger := min(2*cap(buf), limit+1)
			if err := s.lend(&held, int64(bigger)); err != nil {
				return 0, nil, held, err
			}
			buf = append(make([]byte, 0, bigger), buf...)
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case errors.Is(err, io.EOF):
			return kind, buf, held, nil
		case err != nil:
			return 0, nil, held, err
		case s.ended(): // only waiting for the close frame
			buf = make([]byte, 0, 512)
			held.release()
			s.arriving.Store(0)
		case len(buf) > limit:
			return 0, nil, held, errTooLarge
		}
		s.seen()
	}
}

// lend makes held good for size bytes of the message that arrives. Should it have to wait, that is held neither against the
// client's pongs nor against the time it may take for the message.
func (s *session) lend(held *lease, size int64) error {
	if held.covers(size) {
		return nil
	}
	began := time.Now()
	s.wanted.Store(size - held.held)
	defer func() {
		s.messageBegan.Add(int64(time.Since(began)))
		s.seen()
		s.wanted.Store(0)
		s.arriving.Store(held.held)
	}()
	return held.grow(s.lifetime(), s.g.memory, size)
}

// messageAge is how long the message that arrives has taken so far, 0 if none does.
func (s *session) messageAge(now time.Time) time.Duration {
	began := s.messageBegan.Load()
	if began == 0 {
		return 0
	}
	return s.age(now) - time.Duration(began)
}

// readFailed ends the session for an error of reading.
func (s *session) readFailed(err error) {
	var ce *websocket.CloseError
	switch {
	case errors.Is(err, errTooLarge):
		c := s.policy.tooLarge()
		if s.messageLimit() < s.policy.maxMessageSize() {
			c = newClosing(TooLarge, "larger than the 16 KiB that ws_open may have, send larger messages once the session is open")
		}
		s.end(c)
		// What the client still sends of the message is read and dropped, so that it can read why.
		s.drainReads()
	case errors.Is(err, errNoMemory):
		s.end(newClosing(OverCapacity, "too many large messages are under way, try again later"))
		s.drainReads()
	case errors.As(err, &ce):
		s.clientClosed(ce)
	case strings.HasPrefix(err.Error(), "websocket: "): // gorilla's words; it has sent the close frame, with 1002
		s.end(newClosing(OutOfProtocol, "WebSocket protocol violated ("+err.Error()+")"))
	default:
		s.end(newClosing(ClientGone, ""))
	}
}

// drainReads reads and drops until the client closes or the linger is over.
func (s *session) drainReads() {
	for {
		_, r, err := s.ws.NextReader()
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			return
		}
	}
}

// clientClosed ends the session after the client's close frame. The answer repeats its code, which is what its
// application will see.
func (s *session) clientClosed(ce *websocket.CloseError) {
	if ce.Code == websocket.CloseAbnormalClosure { // no close frame: the connection broke
		s.end(newClosing(ClientGone, ""))
		return
	}
	s.mu.Lock()
	if s.closing == nil || ce.Text != s.closing.text { // many clients answer with the text that they were closed with
		s.clientText = upstream.Printable(ce.Text, maxCloseText)
	}
	switch ce.Code {
	case websocket.CloseNoStatusReceived:
		s.echo = []byte{}
	default:
		// With the text: what a browser's close event reports is the answer, and the SDK's reasons are worth reporting.
		s.echo = websocket.FormatCloseMessage(ce.Code, ce.Text)
	}
	reason := ClientClosed
	if !s.canisterClosed.IsZero() {
		reason = CanisterClosed
	}
	home, lastAck := s.canister, later(s.opening.registeredAt, s.lastAck)
	s.mu.Unlock()
	s.end(newClosing(reason, ""))
	if home != nil && ce.Text == sdkAckTimeout && !lastAck.IsZero() && time.Since(lastAck) >= ackOverdue {
		home.noteMissingAcks()
	}
}

// sdkAckTimeout is the close text of the JavaScript SDK for a canister that acknowledges nothing.
const sdkAckTimeout = "Ack message timeout"

// handlePing answers a client's ping.
func (s *session) handlePing(data string) error {
	s.seen()
	err := s.ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(time.Second))
	if err != nil && !errors.Is(err, websocket.ErrCloseSent) && !isTimeout(err) {
		return err
	}
	return nil
}
