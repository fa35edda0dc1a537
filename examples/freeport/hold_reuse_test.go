//go:build linux || darwin

package freeport

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// A held port is given to nobody else, whether they ask for any port or for this one.
func TestHeldPortsAreOneOwn(t *testing.T) {
	held := map[int]bool{}
	for range 60 { // two descriptors each, of which some machines allow 256
		port := ForTest(t)
		if held[port] {
			t.Fatalf("port %d was given out twice", port)
		}
		held[port] = true
	}
	for range 1500 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		u, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		u.Close()
		if held[l.Addr().(*net.TCPAddr).Port] || held[u.LocalAddr().(*net.UDPAddr).Port] {
			t.Fatalf("a held port was given out: %s, %s", l.Addr(), u.LocalAddr())
		}
	}
	for port := range held {
		if _, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatalf("listening on a held port: %v", err)
		}
		if _, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("connecting to a held port: %v", err)
		}
	}
}

// Caddy can listen on a held port, on all addresses as well as on loopback, and everything that is sent there is its own.
func TestCaddyListensOnHeldPorts(t *testing.T) {
	for _, host := range []string{"127.0.0.1", ""} {
		port := ForTest(t)
		listen := func(network string) any {
			t.Helper()
			addr, err := caddy.ParseNetworkAddress(fmt.Sprintf("%s/%s:%d", network, host, port))
			if err != nil {
				t.Fatal(err)
			}
			l, err := addr.Listen(t.Context(), 0, net.ListenConfig{})
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		l := listen("tcp").(net.Listener)
		defer l.Close()
		u := listen("udp").(net.PacketConn)
		defer u.Close()
		to := fmt.Sprintf("127.0.0.1:%d", port)
		for range 50 {
			c, err := net.Dial("tcp", to)
			if err != nil {
				t.Fatal(err)
			}
			accepted, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if got, want := accepted.RemoteAddr().String(), c.LocalAddr().String(); got != want {
				t.Fatalf("accepted %s, want %s", got, want)
			}
			accepted.Close()
			c.Close()

			d, err := net.Dial("udp", to)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.Write([]byte(d.LocalAddr().String())); err != nil {
				t.Fatal(err)
			}
			if err := u.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 64)
			n, _, err := u.ReadFrom(got)
			if err != nil || string(got[:n]) != d.LocalAddr().String() {
				t.Fatalf("got %q, %v", got[:n], err)
			}
			d.Close()
		}
	}
}

// A released port is free again. Somebody else may be quicker to take one, but not five.
func TestRelease(t *testing.T) {
	var taken error
	for range 5 {
		port, release, err := Hold()
		if err != nil {
			t.Fatal(err)
		}
		release()
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			l.Close()
			return
		}
		taken = err
	}
	t.Errorf("released ports are not free: %v", taken)
}
