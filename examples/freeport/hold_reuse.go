//go:build linux || darwin

package freeport

import (
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// hold binds sockets to the port, with SO_REUSEPORT as Caddy's. That of TCP does not listen. That of UDP is connected to
// a port where nobody is, so that it takes no datagrams from a server that shares the port.
func hold() (port int, release func(), err error) {
	syscall.ForkLock.RLock()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return 0, nil, fmt.Errorf("making a socket: %w", err)
	}
	port, err = bind(fd)
	if err != nil {
		_ = unix.Close(fd)
		return 0, nil, fmt.Errorf("binding a socket: %w", err)
	}
	udp := net.Dialer{
		LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port},
		Control: func(_, _ string, c syscall.RawConn) error {
			var set error
			if err := c.Control(func(fd uintptr) { set = share(int(fd)) }); err != nil {
				return err
			}
			return set
		},
	}
	conn, err := udp.Dial("udp4", "127.0.0.1:9")
	if err != nil {
		_ = unix.Close(fd)
		return 0, nil, fmt.Errorf("holding the port for UDP: %w", err)
	}
	return port, func() {
		_ = conn.Close()
		_ = unix.Close(fd)
	}, nil
}

func bind(fd int) (port int, err error) {
	if err := share(fd); err != nil {
		return 0, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, err
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	return addr.(*unix.SockaddrInet4).Port, nil
}

func share(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }
