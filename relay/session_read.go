package relay

import (
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
)

// frameOverhead is what a client frame has around the envelope that max_message_size is about.
const frameOverhead = 64

// read reads the next message, and cleans up at the end of the connection. While the session is closing it only waits for the client's
// close frame. What checks a message needs a deep stack, which a goroutine that waits for the next one would keep: for it another
// one is started, with a small stack.
func (s *session) read() {
	kind, message, held, err := s.readMessage()
	s.messageBegan.Store(0)
	if err != nil {
		s.readFailed(err)
		s.cleanup()
		return
	}
	defer keepPiece(message) // what goes on of it has been copied
	switch {
	case s.ended():
		held.release()
	case kind != websocket.BinaryMessage:
		held.release()
		s.end(newClosing(TextFrame, ""))
	default:
		if c := s.handleFrame(message, held); c != nil {
			s.end(c)
		}
	}
	s.startReader(s.read)
}

// startReader starts the goroutine that reads, and there is one until the end of the connection.
func (s *session) startReader(f func()) {
	s.g.spawn("session", f, func() { s.abort(newClosing(InternalError, "")); s.cleanup() })
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
// of life: on a slow line the pong may be queued behind a large message. What is counted of a message that is not complete
// is in s.arrival, so that the end of the session frees it at once, and not when the reader hears of it. After the end
// nothing is kept.
func (s *session) readMessage() (kind int, message []byte, held lease, err error) {
	kind, r, err := s.ws.NextReader()
	if err != nil {
		return 0, nil, held, err
	}
	s.seen()
	s.messageBegan.Store(max(1, int64(s.age(time.Now()))))
	limit := int(s.messageLimit()) + frameOverhead
	free := freeMessage
	if limit <= freeMessage+frameOverhead {
		free = limit + 1 // one more byte shows that a message is too large
	}
	piece, before := pieces.Get().(*[pieceSize]byte)[:0], 0
	for {
		if len(piece) == free {
			if err := s.keep(piece, limit); err != nil {
				return 0, nil, held, err
			}
			before += len(piece)
			piece = piece[:0]
		} else if len(piece) == cap(piece) {
			grown := append(make([]byte, 0, min(2*cap(piece), free)), piece...)
			keepPiece(piece)
			piece = grown
		}
		n, err := r.Read(piece[len(piece):cap(piece)])
		piece = piece[:len(piece)+n]
		switch {
		case errors.Is(err, io.EOF) && before == 0:
			return kind, piece, held, nil
		case errors.Is(err, io.EOF):
			if err := s.keep(piece, limit); err != nil {
				return 0, nil, held, err
			}
			message, held = s.takeArrival()
			return kind, message, held, nil
		case err != nil:
			return 0, nil, held, err
		case s.ended(): // only waiting for the close frame
			piece, before = piece[:0], 0
		case before+len(piece) > limit:
			return 0, nil, held, errTooLarge
		}
		s.seen()
	}
}

// pieces are buffers in which messages arrive. A usual one fits. They are small, so that many clients that stop in the middle of a
// message hold little.
var pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}

const pieceSize = 2 << 10

// keepPiece takes back what a message has arrived in, if it is one of pieces.
func keepPiece(message []byte) {
	if cap(message) == pieceSize {
		pieces.Put((*[pieceSize]byte)(message[:pieceSize]))
	}
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
	s.pong(data)
	return nil
}
