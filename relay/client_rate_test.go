package relay_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
)

// A client that sends faster than client_rate waits, loses nothing, and holds up nobody else.
func TestClientRate(t *testing.T) {
	const rate, n = 5, 100
	inBubble(t, rigOptions{cdk: localnet.CDKOptions{NoAcks: true}, config: func(c *relay.Config) {
		c.ClientRate = rate
	}}, func(t *testing.T, r *rig) {
		fast, other := r.open(), r.open()
		var mu sync.Mutex
		var calls []time.Time
		r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
			if q.Method == "ws_message" && q.Sender == fast.Key().Principal {
				mu.Lock()
				calls = append(calls, time.Now())
				mu.Unlock()
			}
			return f
		})
		var sending sync.WaitGroup
		sending.Go(func() {
			for i := range n {
				if err := fast.Send(t.Context(), fmt.Append(nil, i)); err != nil {
					t.Errorf("message %d: %v", i, err)
					return
				}
			}
		})
		time.Sleep(100 * time.Millisecond)
		began := time.Now()
		r.echo(other, "one of my own")
		if took := time.Since(began); took > time.Second {
			t.Errorf("another client's message took %s", took)
		}
		for i := range n {
			if m, err := fast.Receive(t.Context()); err != nil || string(m.Payload) != fmt.Sprint(i) {
				t.Fatalf("message %d: %q, %v", i, m.Payload, err)
			}
		}
		sending.Wait()
		mu.Lock()
		defer mu.Unlock()
		if len(calls) != n {
			t.Fatalf("%d calls for %d messages", len(calls), n)
		}
		for i := 2 * rate; i < n; i++ { // what the bucket holds, and what comes into it meanwhile
			if took := calls[i].Sub(calls[i-2*rate]); took < time.Second {
				t.Errorf("calls %d to %d went out in %s", i-2*rate, i, took)
			}
		}
		if took, want := calls[n-1].Sub(calls[0]), (n-rate)*time.Second/rate; took > want+time.Second {
			t.Errorf("%d messages at %d a second took %s, want %s", n, rate, took, want)
		}
	})
}

// What a client sent before it left is not held back.
func TestClientRateAfterTheEnd(t *testing.T) {
	inBubble(t, rigOptions{config: func(c *relay.Config) { c.ClientRate = 1 }}, func(t *testing.T, r *rig) {
		c := r.open()
		sent := countCalls(r, "ws_message")
		for range 20 {
			if err := c.Send(t.Context(), []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		time.Sleep(3 * time.Second)
		if n := sent(); n != 20 {
			t.Errorf("%d of 20 messages were submitted", n)
		}
	})
}
