package relay_test

import (
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// What a canister sends after its answer does not wait for the interval of a silent one, even if the outcome asked for no poll because
// one that left ahead of it had brought the answer.
func TestSecondAnswerAfterSilence(t *testing.T) {
	n := &tracedNetwork{way: 50 * time.Millisecond, journeys: make(map[string]*journey)}
	inBubble(t, rigOptions{
		network: localnet.Options{Latency: time.Second, Block: time.Millisecond},
		cdk:     localnet.CDKOptions{App: n, NoAcks: true},
		config: func(c *relay.Config) {
			c.PollInterval, c.PollIdleInterval = 100*time.Millisecond, 5*time.Second
			n.to, c.Transport = c.Transport, n
		},
	}, func(t *testing.T, r *rig) {
		got := make(chan string, 1)
		o := r.options()
		o.OnMessage = func(m client.Message) { got <- string(m.Payload) }
		c, err := client.Dial(t.Context(), r.url, o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ask := func() {
			if err := c.Send(t.Context(), []byte("first")); err != nil {
				t.Fatal(err)
			}
			if text := <-got; text != "first" {
				t.Fatalf("got %q", text)
			}
		}
		for range 10 {
			ask()
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Minute)
		n.mu.Lock()
		n.lag = 300 * time.Millisecond
		n.mu.Unlock()
		ask()
		time.Sleep(400 * time.Millisecond)
		sent := time.Now()
		r.cdk.Do(func(ctx *localnet.AppContext) {
			for _, p := range ctx.Clients() {
				if err := ctx.Send(p, []byte("second")); err != nil {
					t.Error(err)
				}
			}
		})
		<-got
		if took := time.Since(sent); took > 300*time.Millisecond {
			t.Errorf("the second answer took %s, where there are polls every 100ms that take as long", took)
		}
	})
}
