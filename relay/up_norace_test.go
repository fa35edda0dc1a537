//go:build !race

package relay

import "testing"

// What a client sends costs little memory beyond the exact bytes that go to the network.
func TestMessagesUpAllocateLittle(t *testing.T) {
	relay := relaying(t)
	relay()
	if n := testing.AllocsPerRun(100, relay); n > 50 {
		t.Errorf("%v allocations for a message from its frame to its outcome", n)
	}
	const size = 1400
	s := reading(t, size)
	s.readOne(t, size)
	if n := testing.AllocsPerRun(100, func() { s.readOne(t, size) }); n > 1 {
		t.Errorf("%v allocations to read a message", n)
	}
}
