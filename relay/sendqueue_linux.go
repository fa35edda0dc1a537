package relay

import (
	"crypto/tls"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// sendQueueOf returns access to the kernel's send queue of a connection, nil if something lies between that could make a write wait.
func sendQueueOf(conn net.Conn) syscall.RawConn {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	switch c := conn.(type) {
	case *net.TCPConn:
		raw, _ := c.SyscallConn()
		return raw
	case *net.UnixConn:
		raw, _ := c.SyscallConn()
		return raw
	}
	return nil
}

// sendQueueReader reads how much a send queue holds. It is kept, as the call takes a function.
type sendQueueReader struct {
	unsent int
	err    error
	read   func(fd uintptr)
}

var sendQueueReaders = sync.Pool{New: func() any {
	r := new(sendQueueReader)
	r.read = func(fd uintptr) { r.unsent, r.err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }
	return r
}}

// room returns how many bytes the send queue surely takes at once.
func room(queue syscall.RawConn) int {
	if queue == nil {
		return 0
	}
	r := sendQueueReaders.Get().(*sendQueueReader)
	defer sendQueueReaders.Put(r)
	if queue.Control(r.read) != nil || r.err != nil {
		return 0
	}
	return max(0, maxUnsent-r.unsent)
}
