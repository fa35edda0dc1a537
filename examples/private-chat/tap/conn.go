package tap

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"sync"
)

// conn is the connection of a session with a tap on it. One goroutine reads it
// and one at a time writes, as gateways do; the tap does not rely on it.
type conn struct {
	net.Conn
	read     io.Reader
	mu       sync.Mutex // guards what follows
	incoming messages
	outgoing messages
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.read.Read(p)
	c.mu.Lock()
	c.incoming.write(p[:n])
	c.mu.Unlock()
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.mu.Lock()
	c.outgoing.write(p[:n])
	c.mu.Unlock()
	return n, err
}

// writer is a ResponseWriter whose connection, once taken over, has the tap on it.
type writer struct {
	http.ResponseWriter
	tap *Tap
}

// Unwrap lets http.ResponseController find what is below.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack implements http.Hijacker.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	below, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	// Both buffers read and write below the tap, so they are replaced. What a hasty client has sent already comes first.
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	session := w.tap.session()
	c := &conn{Conn: below, read: io.MultiReader(bytes.NewReader(bytes.Clone(early)), below)}
	c.incoming.found = func(m []byte) { w.tap.message(session, FromClient, m) }
	c.outgoing.found = func(m []byte) { w.tap.message(session, FromGateway, m) }
	c.outgoing.head = true
	return c, bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c)), nil
}
