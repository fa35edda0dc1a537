package relay_test

import (
	"context"
	"fmt"
	"net/url"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// causeMetrics notes which verification failures were counted.
type causeMetrics struct {
	relay.NopMetrics
	mu     sync.Mutex
	causes []verify.Cause
}

func (m *causeMetrics) VerificationFailed(_ verify.Principal, cause verify.Cause) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.causes = append(m.causes, cause)
}

func (m *causeMetrics) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.causes = nil
}

func (m *causeMetrics) seen(of []verify.Cause) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.causes, func(c verify.Cause) bool { return slices.Contains(of, c) })
}

// certifiedLies are what a canister or its subnet certifies of itself. No boundary node can say that of an honest one.
var certifiedLies = map[string]bool{
	"page of 5,000 messages":                   true,
	"sequence number skipped":                  true,
	"sequence number at the end of numbers":    true,
	"service message of garbage":               true,
	"call rejected with a code of three bytes": true,
	"call whose outcome is forgotten":          true,
	"call of a reply that is no candid":        true,
}

// underAttack is what all attacks are made on, apart from its metrics.
func underAttack(metrics *causeMetrics) rigOptions {
	return rigOptions{
		network: localnet.Options{Nodes: 4},
		config: func(c *relay.Config) {
			c.Metrics = metrics
			c.VerifyEmpty = true
			c.OutageTimeout = 30 * time.Second
			c.PollInterval, c.PollIdleInterval = 300*time.Millisecond, 3*time.Second // most of the time is spent on polls
			c.Hosts = []*url.URL{{Scheme: "http", Host: "lying.test"}, {Scheme: "http", Host: "honest.test"}}
		},
		policy: func(p *relay.Policy) { p.AnyCanister = true },
	}
}

// Every attack is made twice over: by a canister whose every answer lies, and by one of two boundary nodes of an honest
// canister. Meanwhile two clients chat on the honest canister, the same two through all attacks of a part. They lose nothing, what
// was wrong is counted by its cause, and in the end nothing is kept of it. The bubble makes sure that nothing is left running.
func TestAttacks(t *testing.T) {
	t.Parallel()
	const parts = 6
	for part := range parts {
		t.Run(fmt.Sprint(part), func(t *testing.T) {
			metrics := &causeMetrics{}
			inBubble(t, underAttack(metrics), func(t *testing.T, r *rig) {
				r.attackAll(metrics, part, parts*sized(1, 1, 8))
			})
		})
	}
}

// However many attacks there were, memory is in the end what it was. It is that of the whole process, so this test runs alone.
func TestAttacksLeaveNoMemory(t *testing.T) {
	metrics := &causeMetrics{}
	inBubbleAlone(t, underAttack(metrics), func(t *testing.T, r *rig) {
		r.open()
		before := heapInUse()
		r.attackAll(metrics, 0, sized(1, 12, 24))
		r.logs.TakeAll()
		if after := heapInUse(); after > before+64<<20 {
			t.Errorf("heap went from %d MiB to %d MiB", before>>20, after>>20)
		}
	})
}

// attackAll makes the attack with the number from and every step-th after it.
func (r *rig) attackAll(metrics *causeMetrics, from, step int) {
	r.t.Helper()
	honest := []*client.Client{r.open(), r.open()}
	attacks := localnet.Attacks()
	for i := from; i < len(attacks); i += step {
		metrics.reset()
		r.attack(attacks[i], honest, metrics)
		if r.t.Failed() {
			r.t.Fatalf("the attack was: %s", attacks[i].Name)
		}
	}
	time.Sleep(10 * time.Minute) // pollers of hostile canisters end
	if n := len(r.gateway.Snapshot().Canisters); n != 1 {
		r.t.Errorf("%d canisters are still polled, want the honest one", n)
	}
	if bytes, lines, departing := r.gateway.OutboxMemory(), r.gateway.Lines(), r.gateway.Departing(); bytes != 0 || lines != 0 || departing != 0 {
		r.t.Errorf("%d bytes in outboxes, %d lines and %d departing sessions are left", bytes, lines, departing)
	}
}

// heapInUse is the memory that is still referred to.
func heapInUse() uint64 {
	runtime.GC()
	runtime.GC() // pools are emptied in two steps
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// attack makes one attack while honest clients chat.
func (r *rig) attack(a localnet.Attack, honest []*client.Client, metrics *causeMetrics) {
	r.t.Helper()
	hostile := r.network.Install(localnet.NewCDK(localnet.CDKOptions{}))
	byCanister := a.Mount(r.network, hostile)
	defer byCanister.Stop()
	byNode := &localnet.Mounted{}
	if !a.Poison && !certifiedLies[a.Name] {
		byNode = a.Mount(r.network, r.canister, "http://lying.test")
		defer byNode.Stop()
	}
	var wg sync.WaitGroup
	wg.Go(func() { r.provoke(hostile) })
	for i := range 4 {
		for j, c := range honest {
			r.echo(c, fmt.Sprintf("%s: %d of client %d", a.Name, i, j))
		}
		time.Sleep(200 * time.Millisecond)
	}
	late := r.open() // opening works under attack, too
	r.echo(late, "late")
	late.Close()
	wg.Wait()
	if a.Endpoint != "status" && byCanister.Count() == 0 && byNode.Count() == 0 {
		r.t.Error("the attack changed no answer: this shows nothing")
	}
	if len(a.Causes) > 0 && byCanister.Count()+byNode.Count() > 0 && !metrics.seen(a.Causes) {
		r.t.Errorf("none of the causes %v was counted, only %v", a.Causes, metrics.causes)
	}
}

// provoke has a session with a canister that attacks, if it can get one, and gives up after a while.
func (r *rig) provoke(canister verify.Principal) {
	o := r.options()
	o.Canister = canister
	c, err := client.DialRaw(context.Background(), r.url, o)
	if err != nil {
		r.t.Error(err)
		return
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	frames := make([][]byte, 4)
	frames[0], _ = c.Composer().Open(c.Gateway(), time.Time{})
	for i := 1; i < len(frames); i++ {
		frames[i], _ = c.Composer().Message(uint64(i), false, []byte("provocation"), time.Time{})
	}
	for _, f := range frames {
		if c.Write(ctx, websocket.BinaryMessage, f) != nil {
			return
		}
	}
	for {
		if _, _, err := c.Read(ctx); err != nil {
			return
		}
	}
}
