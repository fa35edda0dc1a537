// Package bare is what the gateway is compared with: gorilla/websocket on net/http, which proves nothing, asks nobody and writes
// back what it is told. Only the lengths of its frames are those of the gateway.
package bare

import (
	"encoding/binary"
	"errors"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

// A frame is payloads, each with its length before it, and filling: zeros, which read as payloads of no length.
const head = 4

// Append appends a frame with the payloads, of at least size bytes, to dst.
func Append(dst []byte, size int, payloads ...[]byte) []byte {
	begin := len(dst)
	for _, p := range payloads {
		dst = append(binary.BigEndian.AppendUint32(dst, uint32(len(p))), p...)
	}
	return append(dst, make([]byte, max(0, size-(len(dst)-begin)))...)
}

// Next returns the first payload of a frame and what follows it. There is none if ok is false. The payload is part of the
// frame.
func Next(frame []byte) (payload, rest []byte, ok bool) {
	if len(frame) < head {
		return nil, nil, false
	}
	n := uint64(binary.BigEndian.Uint32(frame))
	if n == 0 || n > uint64(len(frame)-head) {
		return nil, nil, false
	}
	return frame[head : head+n], frame[head+n:], true
}

// A Server greets each client with a frame without payloads and answers each payload with a frame of its own. Who has been greeted
// gets what is for all.
type Server struct {
	size int
	all  bool

	mu    sync.Mutex // guards conns
	conns map[*conn]struct{}
}

type conn struct {
	mu sync.Mutex // one writer at a time
	ws *websocket.Conn
}

// NewServer makes a server whose frames have at least size bytes. They go to the sender, or to all clients.
func NewServer(size int, all bool) *Server {
	return &Server{size: size, all: all, conns: map[*conn]struct{}{}}
}

// ServeHTTP implements http.Handler in the usual way: a goroutine that reads, and writes from there.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		return // it has answered
	}
	c := &conn{ws: ws}
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		ws.Close()
	}()
	if err := c.write(Append(nil, s.size)); err != nil {
		return
	}
	for {
		_, frame, err := ws.ReadMessage()
		if err != nil {
			return
		}
		if err := s.answer(c, frame); err != nil {
			return
		}
	}
}

var errEmpty = errors.New("a frame without a payload")

// answer writes what a frame calls for.
func (s *Server) answer(from *conn, frame []byte) error {
	p, rest, ok := Next(frame)
	if !ok {
		return errEmpty
	}
	for ; ok; p, rest, ok = Next(rest) {
		out := Append(nil, s.size, p)
		if !s.all {
			if err := from.write(out); err != nil {
				return err
			}
			continue
		}
		s.mu.Lock()
		for c := range s.conns {
			_ = c.write(out) // who has left misses it, and who is due it counts that
		}
		s.mu.Unlock()
	}
	return nil
}

func (c *conn) write(frame []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ws.WriteMessage(websocket.BinaryMessage, frame)
}
