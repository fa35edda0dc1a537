//go:build unix

package main

import "syscall"

// narrow sets the receive buffer before the connection is made: afterwards the window that the other side was told of
// could not shrink any more.
func narrow(_, _ string, c syscall.RawConn) error {
	var err error
	if controlErr := c.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, narrowBuffer)
	}); controlErr != nil {
		return controlErr
	}
	return err
}
