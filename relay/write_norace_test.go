//go:build !race

package relay

import "testing"

// What a page costs beyond the writing does not grow with its clients: no memory for each message.
func TestHandOutAllocatesLittle(t *testing.T) {
	for _, secure := range []bool{false, true} {
		d := newDelivery(t, secure, 50)
		least, n := testing.AllocsPerRun(20, d.write), testing.AllocsPerRun(20, d.deliver)
		if n > least+25 {
			t.Errorf("TLS %t: %v allocations for 50 messages, %v for bare writes", secure, n, least)
		}
	}
}
