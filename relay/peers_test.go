package relay

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// Peers remember who has left for as long as pages may tell of them, and not more clients than they may.
func TestPeersForget(t *testing.T) {
	client := func(n int) departure { return departure{key: verify.ClientKey{Nonce: uint64(n)}} }
	synctest.Test(t, func(t *testing.T) {
		p := new(Peers)
		p.depart(client(1))
		time.Sleep(departedFor)
		p.depart(client(2))
		if !p.know(client(1)) || !p.know(client(2)) || p.know(client(3)) {
			t.Error("clients are not known although they left a moment ago, or known although they were never here")
		}
		time.Sleep(departedFor + time.Second)
		p.depart(client(3))
		time.Sleep(departedFor + time.Second)
		p.depart(client(4))
		if p.know(client(1)) || p.know(client(2)) || !p.know(client(3)) {
			t.Error("clients are known for too long, or not long enough")
		}
	})
	t.Run("bound", func(t *testing.T) {
		p := new(Peers)
		for n := range 5*maxDeparted + 1 {
			p.depart(client(n))
			if have := len(p.departed) + len(p.earlier); have > 2*maxDeparted {
				t.Fatalf("%d clients are remembered, want at most %d", have, 2*maxDeparted)
			}
		}
		if !p.know(client(5*maxDeparted)) || !p.know(client(4*maxDeparted+1)) {
			t.Error("clients that left last are not known")
		}
	})
}
