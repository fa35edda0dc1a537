package main

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// What the network had a message for is from when it first came, and it is what is missing from the round trip.
func TestNetworkTimeIsTakenOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(lab)
		app := timed{localnet.NoCallbacks{}, b}
		from := verify.Principal{}
		p := payload{session: 3, number: 1, sent: time.Since(epoch)}
		call := localnet.Request{Endpoint: "call", Method: "ws_message", Sender: from, ID: [32]byte{1}}

		time.Sleep(time.Second) // on its way through the gateway
		b.note(&call)
		time.Sleep(20 * time.Millisecond)
		b.note(&call)                                                                       // once more
		b.note(&localnet.Request{Endpoint: "call", Method: "ws_close", ID: [32]byte{2}})    // not a message
		b.note(&localnet.Request{Endpoint: "query", Method: "ws_message", ID: [32]byte{3}}) // not a call
		time.Sleep(180 * time.Millisecond)
		if err := app.OnMessage(nil, from, p.encode(40)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second) // on its way back

		s := &stats{network: b.took}
		l := new(ledger)
		l.next()
		s.message(p.session, l, client.Message{Payload: p.encode(40)}, true)
		within := func(name string, h *histogram, want time.Duration) {
			t.Helper()
			if got := time.Duration(h.largest.Load()); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
		within("round trip", &s.roundTrip, 4200*time.Millisecond)
		within("added", &s.added, 4*time.Second)
		if _, ok := b.took(p); ok {
			t.Error("it is not forgotten")
		}
		if n := b.requests.Load(); n != 4 {
			t.Errorf("%d requests, want 4", n)
		}
	})
}

// A burst numbers its messages on from the last one.
func TestBursts(t *testing.T) {
	var numbers []uint64
	for n := uint64(1); n <= 2; n++ {
		err := bursts(payload{session: 7, number: n}.encode(100), 3, func(m []byte) error {
			p, ok := decodePayload(m)
			if !ok || p.session != 7 || len(m) != 100 {
				t.Errorf("%+v, %v, %d bytes", p, ok, len(m))
			}
			numbers = append(numbers, p.number)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(numbers, []uint64{1, 2, 3, 4, 5, 6}) {
		t.Errorf("numbers %d", numbers)
	}
	for _, bad := range [][]byte{nil, payload{}.encode(100)} {
		if bursts(bad, 3, func([]byte) error { return nil }) == nil {
			t.Errorf("%x passes for a message", bad)
		}
	}
}
