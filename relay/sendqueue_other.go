//go:build !linux

package relay

import (
	"net"
	"syscall"
)

// sendQueueOf returns nil: how full a send queue is can be told on Linux only. Writes have goroutines of their own here.
func sendQueueOf(net.Conn) syscall.RawConn { return nil }

func room(syscall.RawConn) int { return 0 }
