package relay_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// tab is a page of one person: it opens sessions at any instance, closes them, vanishes, is reloaded, and comes back when it is
// told to.
type tab struct {
	o    client.Options
	all  []*rig
	rnd  *rand.Rand
	stop chan struct{} // closed when nothing more is done

	mu   sync.Mutex
	here *client.Client // open as far as the page knows
	at   *rig
}

func (b *tab) stopped() bool {
	select {
	case <-b.stop:
		return true
	default:
		return false
	}
}

// sleep waits for up to d, or for the end.
func (b *tab) sleep(d time.Duration) {
	select {
	case <-time.After(time.Duration(b.rnd.Int64N(int64(d)) + 1)):
	case <-b.stop:
	}
}

func (b *tab) live() {
	for !b.stopped() {
		at := b.all[b.rnd.IntN(len(b.all))]
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(b.rnd.IntN(20)+1)*time.Second)
		c, err := client.Dial(ctx, at.url, at.as(b.o)) // now and then the page goes while it opens
		cancel()
		if err == nil {
			b.mu.Lock()
			b.here, b.at = c, at
			b.mu.Unlock()
			err = b.use(c)
		}
		var ce *client.CloseError
		if errors.As(err, &ce) && !ce.Local && ce.Code == relay.Superseded.Code() {
			b.sleep(2 * time.Minute) // until the person looks at it again
		}
		b.sleep(3 * time.Second)
	}
}

// use is what a page does with a session until it ends, and returns how it did.
func (b *tab) use(c *client.Client) error {
	for !b.stopped() {
		select {
		case <-c.Done():
			return c.Err()
		case <-time.After(time.Duration(b.rnd.IntN(90)+1) * time.Second):
		case <-b.stop:
			return nil
		}
		switch b.rnd.IntN(6) {
		case 0:
			return c.Close()
		case 1:
			c.Abort()
			return nil
		case 2, 3:
			c.Send(context.Background(), []byte("hi"))
		}
	}
	return nil
}

// After 30 minutes in which one person opens, closes and reloads many tabs on three instances, on a network that loses some answers,
// every session that is open is one that the canister knows, and every one that the canister knows is open.
func TestChurnOfOnePerson(t *testing.T) {
	t.Parallel()
	for seed, motoko := range []bool{false, true} {
		t.Run(fmt.Sprintf("motoko=%v", motoko), func(t *testing.T) {
			inBubble(t, rigOptions{
				cdk:     localnet.CDKOptions{Motoko: motoko},
				network: localnet.Options{Latency: 1500 * time.Millisecond},
				config:  pollSlowly,
			}, func(t *testing.T, r *rig) { churn(t, r, uint64(seed)) })
		})
	}
}

// pollByDefault is for tests of how soon something comes, or of how many requests that takes.
func pollByDefault(c *relay.Config) { c.PollInterval, c.PollIdleInterval = 0, 0 }

// pollSlowly spares the work of polls that a test is not about.
func pollSlowly(c *relay.Config) {
	c.PollInterval, c.PollIdleInterval = 500*time.Millisecond, 2*time.Second
}

func churn(t *testing.T, r *rig, seed uint64) {
	all := []*rig{r, r.instance(pollSlowly), r.instance(pollSlowly)}
	listener := r.open() // so that one instance sees every round of acks
	var mu sync.Mutex
	rnd := rand.New(rand.NewPCG(seed, 1))
	r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
		mu.Lock()
		defer mu.Unlock()
		f.DropReply = q.Endpoint == "call" && rnd.IntN(30) == 0
		return f
	})
	o, stop := r.person(), make(chan struct{})
	var tabs []*tab
	var living sync.WaitGroup
	for i := range uint64(8) {
		b := &tab{o: o, all: all, rnd: rand.New(rand.NewPCG(seed, 2+i)), stop: stop}
		tabs = append(tabs, b)
		living.Go(b.live)
	}
	time.Sleep(time.Duration(sized(30, 15, 5)) * time.Minute)
	close(stop)
	living.Wait()
	r.network.SetFaults(nil)
	time.Sleep(2*ackInterval + 3*time.Minute) // an instance without other sessions needs that long

	known, open := r.known(), 1
	r.wantOpen(listener)
	for _, b := range tabs {
		b.mu.Lock()
		if b.here != nil && b.here.Err() == nil {
			open++
			if !slices.Contains(known, b.here.Key()) {
				t.Errorf("a session is open, and the canister does not know it")
			}
			b.here.Close()
		}
		b.mu.Unlock()
	}
	if len(known) != open {
		t.Errorf("the canister has %d sessions, %d are open", len(known), open)
	}
	opened := 0
	for _, one := range all {
		opened += len(one.gateway.Sessions())
	}
	if opened > open {
		t.Errorf("the gateways have %d sessions, %d are open", opened, open)
	}
}
