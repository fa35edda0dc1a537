package relay

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"

	"github.com/gorilla/websocket"
)

// frameSource is a connection over which one client frame comes again and again.
type frameSource struct {
	net.Conn
	frame []byte
	left  []byte
}

func (c *frameSource) Read(p []byte) (int, error) {
	if len(c.left) == 0 {
		c.left = c.frame
	}
	n := copy(p, c.left)
	c.left = c.left[n:]
	return n, nil
}

// clientFrame is a masked binary frame; its mask is zero.
func clientFrame(payload []byte) []byte {
	head := []byte{finalFrame | websocket.BinaryMessage, 0x80 | 126, 0, 0}
	binary.BigEndian.PutUint16(head[2:], uint16(len(payload)))
	return append(append(head, 0, 0, 0, 0), payload...)
}

// reading is a session to which a message of size bytes comes again and again.
func reading(t testing.TB, size int) *session {
	here, there := net.Pipe()
	switching := &switched{Conn: here}
	ws := upgraded(t, switching, there)
	switching.from = &frameSource{frame: clientFrame(bytes.Repeat([]byte("x"), size))}
	t.Cleanup(func() { here.Close(); there.Close() })
	return writingSession(t, ws)
}

// readOne reads the next message, and is done with it.
func (s *session) readOne(t testing.TB, size int) {
	_, message, held, err := s.readMessage()
	if err != nil || len(message) != size {
		t.Fatal(len(message), err)
	}
	held.release()
	keepPiece(message)
}

// BenchmarkReadMessage reads messages of the usual size.
func BenchmarkReadMessage(b *testing.B) {
	s := reading(b, 1400)
	b.ReportAllocs()
	for b.Loop() {
		s.readOne(b, 1400)
	}
}
