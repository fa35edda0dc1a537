package relay_test

import (
	"sync"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

// closesFail has ws_close calls fail: the one that comes first as first says, the others as others says.
func (r *rig) closesFail(first, others localnet.Fault) {
	var mu sync.Mutex
	var id [32]byte
	r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
		if q.Method != "ws_close" {
			return localnet.Fault{}
		}
		mu.Lock()
		defer mu.Unlock()
		if id == [32]byte{} {
			id = q.ID
		}
		if q.ID == id {
			return first
		}
		return others
	})
}

// A ws_close that failed and waits behind another one holds no ws_open up.
func TestWsCloseThatRestsHoldsNobodyUp(t *testing.T) {
	flavours(t, func(t *testing.T, r *rig) {
		other, o := r.dialAs(r.person()), r.person()
		older := r.dialAs(o)
		<-other.done
		<-older.done
		r.closesFail(localnet.Fault{Delay: time.Hour}, localnet.Fault{Status: 429})
		other.c.Close()
		time.Sleep(100 * time.Millisecond)
		older.c.Close()
		time.Sleep(time.Second)
		began := time.Now()
		newer := r.dialAs(o)
		if ce := newer.end(); ce != nil {
			t.Fatalf("the newer session was closed with %d %q", ce.Code, ce.Text)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("the newer session opened after %s", took)
		}
	})
}

// A ws_close that a ws_open has overtaken goes out all the same if that is refused.
func TestWsCloseThatWasOvertaken(t *testing.T) {
	flavours(t, func(t *testing.T, r *rig) {
		other, o := r.dialAs(r.person()), r.person()
		older := r.dialAs(o)
		<-other.done
		<-older.done
		refuse := func(q *localnet.Request) (f localnet.Fault) {
			switch q.Method {
			case "ws_open":
				f.Status, f.Body = 400, []byte("Invalid signature")
			case "ws_close":
				f.Delay = time.Hour
			}
			return f
		}
		r.network.SetFaults(refuse)
		older.c.Close()
		time.Sleep(100 * time.Millisecond)
		other.c.Close()
		time.Sleep(12 * time.Second) // both have failed once, and one waits for the other
		newer := r.dialAs(o)
		if ce := newer.end(); ce == nil {
			t.Error("a ws_open was refused, and its session is open")
		}
		r.network.SetFaults(nil)
		time.Sleep(time.Minute)
		if known := r.known(); len(known) != 0 {
			t.Errorf("the canister has %d sessions, want none", len(known))
		}
	})
}
