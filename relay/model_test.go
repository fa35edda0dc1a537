package relay_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// TestModel drives a gateway with random events of clients, canister and network, and holds what everybody saw against
// a model that needs no gateway: a client sees exactly what the canister sent it, in order, and the canister exactly
// what the client sent, as long as the session lasts; and a session ends only for a reason that is in the events.
//
// ICWS_MODEL_SEED repeats a run, ICWS_MODEL_STEPS makes it longer.
func TestModel(t *testing.T) {
	steps := envInt("ICWS_MODEL_STEPS", 1500)
	if testing.Short() {
		steps = 300
	}
	seed := uint64(envInt("ICWS_MODEL_SEED", int(time.Now().UnixNano()&0xffffff)))
	t.Logf("ICWS_MODEL_SEED=%d ICWS_MODEL_STEPS=%d", seed, steps)
	for run := range uint64(4) {
		latency := []time.Duration{0, 50 * time.Millisecond, time.Second, 2 * time.Second}[run]
		t.Run(fmt.Sprintf("latency=%s", latency), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				newModel(t, rand.New(rand.NewPCG(seed, run)), latency).run(steps / 4)
			})
		})
	}
}

func envInt(name string, standard int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return standard
}

// model is the reference: what canister and clients did, by client principal. Each session has a principal of its own.
type model struct {
	localnet.NoCallbacks
	t   *testing.T
	rnd *rand.Rand
	r   *rig

	mu       sync.Mutex
	sent     map[verify.Principal][]string // by the canister to the client
	arrived  map[verify.Principal][]string // at the canister from the client
	upgrades int

	clients []*modelClient
	faulty  time.Time // when the present faults end
	fault   string    // what they are
	counter int
}

type modelClient struct {
	*client.Client
	upgrades int // of the canister, before the session opened

	mu   sync.Mutex
	sent []string
	got  []string
	left bool // closed by the client
}

func newModel(t *testing.T, rnd *rand.Rand, latency time.Duration) *model {
	m := &model{t: t, rnd: rnd, sent: make(map[verify.Principal][]string), arrived: make(map[verify.Principal][]string)}
	m.r = newRig(t, rigOptions{
		pipes:   true,
		network: localnet.Options{Latency: latency, Nodes: 4},
		cdk:     localnet.CDKOptions{App: m},
	})
	return m
}

// OnMessage is the canister's application: it notes what arrives, and answers.
func (m *model) OnMessage(ctx *localnet.AppContext, from verify.Principal, payload []byte) error {
	m.mu.Lock()
	m.arrived[from] = append(m.arrived[from], string(payload))
	m.mu.Unlock()
	return m.send(ctx, from, "re: "+string(payload))
}

func (m *model) send(ctx *localnet.AppContext, to verify.Principal, text string) error {
	if err := ctx.Send(to, []byte(text)); err != nil {
		return err
	}
	m.mu.Lock()
	m.sent[to] = append(m.sent[to], text)
	m.mu.Unlock()
	return nil
}

func (m *model) run(steps int) {
	for range steps {
		m.step()
		if m.t.Failed() {
			return
		}
	}
	m.r.network.SetFaults(nil)
	time.Sleep(3 * time.Minute)
	m.check(true)
}

// step does one random thing.
func (m *model) step() {
	m.counter++
	switch n := m.rnd.IntN(100); {
	case n < 8 && len(m.clients) < 12:
		m.open()
	case n < 50:
		m.clientSends()
	case n < 70:
		m.canisterSends()
	case n < 74:
		m.leave()
	case n < 80:
		m.faults()
	case n < 81:
		m.upgrade()
	case n < 99:
		time.Sleep(time.Duration(m.rnd.IntN(3000)) * time.Millisecond)
	default:
		time.Sleep(time.Duration(m.rnd.IntN(6)) * time.Minute)
		m.check(false)
	}
	if !m.faulty.IsZero() && time.Now().After(m.faulty) {
		m.faulty, m.fault = time.Time{}, "none"
		m.r.network.SetFaults(nil)
	}
}

func (m *model) open() {
	c := &modelClient{upgrades: m.upgrades}
	o := m.r.options()
	o.OpenTimeout = 3 * time.Minute
	o.OnMessage = func(msg client.Message) {
		c.mu.Lock()
		c.got = append(c.got, string(msg.Payload))
		c.mu.Unlock()
	}
	for {
		var err error
		if c.Client, err = client.Dial(context.Background(), m.r.url, o); err == nil {
			m.clients = append(m.clients, c)
			return
		}
		// While the network misbehaves, opening may take longer than clients wait; then they are told, and try again.
		var ce *client.CloseError
		if m.faulty.IsZero() || !errors.As(err, &ce) || ce.Local || ce.Code != 1012 {
			m.t.Errorf("step %d: opening a session: %v; faults: %s", m.counter, err, m.fault)
			return
		}
	}
}

func (m *model) pick() *modelClient {
	if len(m.clients) == 0 {
		return nil
	}
	return m.clients[m.rnd.IntN(len(m.clients))]
}

func (m *model) clientSends() {
	c := m.pick()
	if c == nil {
		return
	}
	m.mu.Lock()
	behind := len(c.sent) - len(m.arrived[c.Key().Principal])
	m.mu.Unlock()
	if behind > 5 {
		return // one update after the other: a longer queue would hold up the answer to an ack for too long
	}
	for range 1 + m.rnd.IntN(5) {
		text := fmt.Sprintf("message %d of step %d", len(c.sent), m.counter)
		if c.Send(context.Background(), []byte(text)) != nil {
			return
		}
		c.sent = append(c.sent, text)
	}
}

func (m *model) canisterSends() {
	c := m.pick()
	if c == nil {
		return
	}
	n := 1 + m.rnd.IntN(3)
	if m.rnd.IntN(20) == 0 {
		n = 120 // more than two pages
	}
	m.r.cdk.Do(func(ctx *localnet.AppContext) {
		for i := range n {
			m.send(ctx, c.Key().Principal, fmt.Sprintf("push %d of step %d", i, m.counter)) // an error if it is gone
		}
	})
}

func (m *model) leave() {
	if c := m.pick(); c != nil {
		c.left = true
		if m.rnd.IntN(2) == 0 {
			c.Close()
		} else {
			c.Abort()
		}
		m.drop(c)
	}
}

// drop checks a session that has ended and forgets it.
func (m *model) drop(c *modelClient) {
	<-c.Done()
	m.compare(c, false)
	for i := range m.clients {
		if m.clients[i] == c {
			m.clients = append(m.clients[:i], m.clients[i+1:]...)
			return
		}
	}
}

func (m *model) upgrade() {
	if err := m.r.network.Upgrade(m.r.canister); err != nil {
		m.t.Fatal(err)
	}
	m.upgrades++
	time.Sleep(2 * time.Minute) // long enough for everybody to be told
	m.check(false)
	if n := len(m.clients); n != 0 {
		m.t.Errorf("step %d: %d sessions outlived an upgrade; faults: %s; the gateway: %+v", m.counter, n, m.fault, m.r.gateway.Snapshot())
	}
}

// faults makes the network misbehave in one way for up to 20 s.
func (m *model) faults() {
	share := m.rnd.Float64() * 0.6
	kind := m.rnd.IntN(7)
	rnd := rand.New(rand.NewPCG(m.rnd.Uint64(), 1))
	var mu sync.Mutex
	m.faulty = time.Now().Add(time.Duration(m.rnd.IntN(20)) * time.Second)
	m.fault = fmt.Sprintf("kind %d, share %.2f", kind, share)
	m.r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
		mu.Lock()
		defer mu.Unlock()
		if rnd.Float64() > share {
			return localnet.Fault{}
		}
		switch kind {
		case 0:
			return localnet.Fault{Drop: true}
		case 1:
			return localnet.Fault{DropReply: true}
		case 2:
			return localnet.Fault{Status: 503}
		case 3:
			return localnet.Fault{Status: 429, RetryAfter: time.Second}
		case 4:
			return localnet.Fault{Delay: time.Duration(rnd.IntN(5000)) * time.Millisecond, ReplyDelay: time.Duration(rnd.IntN(2000)) * time.Millisecond}
		case 5:
			return localnet.Fault{Lag: rnd.IntN(50)}
		}
		at := rnd.IntN(4000)
		return localnet.Fault{CorruptAt: &at}
	})
}

// check compares all sessions with the model. At the end nothing may be under way any more.
func (m *model) check(final bool) {
	for _, c := range append([]*modelClient(nil), m.clients...) {
		select {
		case <-c.Done():
			m.judge(c)
			m.drop(c)
		default:
			m.compare(c, final)
		}
	}
}

// judge holds the end of a session against the events.
func (m *model) judge(c *modelClient) {
	ce := closeOf(m.t, c.Client)
	switch {
	case c.left:
	case c.upgrades < m.upgrades && ce.Code == 1012:
	default:
		m.t.Errorf("step %d: session ended with %v, and nothing in the events explains that", m.counter, ce)
	}
}

// compare holds what a client and the canister saw of each other against what was sent.
func (m *model) compare(c *modelClient, final bool) {
	m.mu.Lock()
	sent, arrived := m.sent[c.Key().Principal], m.arrived[c.Key().Principal]
	m.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	m.prefix("client", c.got, sent, final)
	m.prefix("canister", arrived, c.sent, final)
}

func (m *model) prefix(who string, got, want []string, whole bool) {
	m.t.Helper()
	for i, g := range got {
		if i >= len(want) || g != want[i] {
			m.t.Errorf("step %d: %s got %q as number %d, which is not what was sent", m.counter, who, g, i)
			return
		}
	}
	if whole && len(got) != len(want) {
		m.t.Errorf("at the end the %s has %d of %d messages", who, len(got), len(want))
	}
}
