package relay_test

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// Messages for a canister that gives no outcomes do not keep the memory from those for others, whether their clients are still
// there or have gone.
func TestMessagesWithoutOutcomeMakeRoom(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]bool{"connected": false, "gone": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rigOptions{policy: func(p *relay.Policy) { p.MaxSessionsPerIP, p.AnyCanister = 0, true }}, func(t *testing.T, r *rig) {
				honest := r.open()
				hung := r.options()
				hung.Canister = r.network.Install(localnet.NewCDK(localnet.CDKOptions{}))
				r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
					if q.Method == "ws_message" && q.Canister == hung.Canister {
						f.Delay = time.Hour
					}
					return f
				})
				defer r.gateway.TakeMessageMemoryBut(70 << 20)()
				var greedy []*client.Client
				var sending sync.WaitGroup
				for i := range 80 {
					size := 1900 << 10
					if i >= 36 {
						size = 90 << 10 // what is left
					}
					c, err := client.Dial(t.Context(), r.url, hung)
					if err != nil {
						t.Fatal(err)
					}
					greedy = append(greedy, c)
					sending.Go(func() { c.Send(t.Context(), make([]byte, size)) }) // not all of them get in
				}
				time.Sleep(45 * time.Second)
				if leave {
					for _, c := range greedy {
						c.Close()
					}
					time.Sleep(5 * time.Second)
				}
				big := bytes.Repeat([]byte("x"), 100<<10)
				began := time.Now()
				if err := honest.Send(t.Context(), big); err != nil {
					t.Fatal(err)
				}
				if m, err := honest.Receive(t.Context()); err != nil || !bytes.Equal(m.Payload, big) {
					t.Fatalf("a message for another canister: %d bytes, %v", len(m.Payload), err)
				}
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("a message for another canister took %s", took)
				}
				sending.Wait()
				for _, c := range greedy {
					c.Close()
				}
			})
		})
	}
}
