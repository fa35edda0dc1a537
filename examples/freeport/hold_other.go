//go:build !linux && !darwin

package freeport

import "net"

// hold only finds a port: what is bound here, Caddy could not listen on.
func hold() (port int, release func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, nil, err
	}
	return l.Addr().(*net.TCPAddr).Port, func() {}, l.Close()
}
