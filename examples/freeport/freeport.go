// Package freeport finds ports for a Caddy to listen on and holds them, for examples and tests. A port that was merely
// found, by listening and closing, may be somebody else's a moment later.
package freeport

import "testing"

// attempts bounds the search for a port that is free for UDP as well as for TCP.
const attempts = 16

// Hold finds a free port of loopback, for TCP and UDP, and holds it until release is called: neither this process nor
// another gets it by asking for any free port, and only what shares ports, as Caddy does, can listen on it. Until then
// connections are refused. On systems other than Linux and macOS the port is found but not held. Hold is safe for
// concurrent use; release may be called once.
func Hold() (port int, release func(), err error) {
	for range attempts {
		if port, release, err = hold(); err == nil {
			return port, release, nil
		}
	}
	return 0, nil, err
}

// ForTest is Hold until the end of a test, which it fails if there is no port.
func ForTest(t testing.TB) int {
	t.Helper()
	port, release, err := Hold()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return port
}
