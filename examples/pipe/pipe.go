// Package pipe connects clients to servers inside one process and without sockets, for tests in fake time: the goroutines of
// a testing/synctest bubble may wait for nothing that comes from outside.
package pipe

import (
	"context"
	"net"
	"sync"
)

// A Listener accepts the connections that its Dial makes. They have no buffer: a write waits for its reader. All methods are
// safe for concurrent use.
type Listener struct {
	conns chan net.Conn
	close func()
	done  chan struct{}
}

// Listen makes a listener.
func Listen() *Listener {
	l := &Listener{conns: make(chan net.Conn), done: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.done) })
	return l
}

// Dial connects, whatever the address is, and returns when the connection has been accepted. After Close the error is
// net.ErrClosed.
func (l *Listener) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- conn{there}:
		return here, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. It never fails, and connections stay.
func (l *Listener) Close() error {
	l.close()
	return nil
}

// Addr implements net.Listener. Nothing listens there.
func (l *Listener) Addr() net.Addr { return loopback }

// conn says that it came over loopback, since servers count connections by address.
type conn struct{ net.Conn }

// RemoteAddr implements net.Conn.
func (conn) RemoteAddr() net.Addr { return loopback }

var loopback = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
