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

// errTooSlow says that a client took too long for one message.
var errTooSlow = errors.New("message took too long")

// readMessage reads the next message, and returns it with the memory that it holds. Every piece that arrives is a sign
// of life: on a slow line the pong may be queued behind a large message.
func (s *session) readMessage() (kind int, message []byte, held lease, err error) {
	kind, r, err := s.ws.NextReader()
	if err != nil {
		return 0, nil, held, err
	}
	s.seen()
	limit := int(s.policy.maxMessageSize()) + frameOverhead
	began := time.Now()
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
		case s.ended():
			buf = buf[:0] // only waiting for the close frame
		case len(buf) > limit:
			return 0, nil, held, errTooLarge
		case time.Since(began) > messagePatience:
			return 0, nil, held, errTooSlow
		}
		s.seen()
	}
}

// lend makes held good for size bytes, for the reader. Should it have to wait, that is not held against the client's pongs.
func (s *session) lend(held *lease, size int64) error {
	if held.covers(size) {
		return nil
	}
	s.starved.Store(true)
	defer func() {
		s.seen()
		s.starved.Store(false)
	}()
	return held.grow(s.lifetime(), s.g.memory, size)
}

// readFailed ends the session for an error of reading.
func (s *session) readFailed(err error) {
	var ce *websocket.CloseError
	switch {
	case errors.Is(err, errTooLarge):
		s.end(newClosing(TooLarge, ""))
		// What the client still sends of the message is read and dropped, so that it can read why.
		s.drainReads()
	case errors.Is(err, errTooSlow):
		s.end(newClosing(OverCapacity, "message took longer than "+messagePatience.String()+" to arrive"))
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
	s.clientText = upstream.Printable(ce.Text, maxCloseText)
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
		home.missAcks()
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
