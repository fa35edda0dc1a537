package relay_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aviate-labs/agent-go/identity"
	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// TestModel drives a gateway with random events of clients, canister and network, and holds what everybody saw against
// a model that needs no gateway: a client sees exactly what the canister sent it, in order, and the canister exactly
// what the client sent, as long as the session lasts; and a session ends only for a reason that is in the events.
//
// The seed is fixed, so that a failure is the fault of the change at hand. ICWS_MODEL_SEED makes other runs, and
// ICWS_MODEL_STEPS longer ones.
func TestModel(t *testing.T) {
	steps := envInt("ICWS_MODEL_STEPS", scaled(1500, 300))
	seed := uint64(envInt("ICWS_MODEL_SEED", 1))
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

// model is the reference: what canister and clients did.
type model struct {
	localnet.NoCallbacks
	t    *testing.T
	rnd  *rand.Rand
	r    *rig
	skip skippingNode

	mu       sync.Mutex
	sessions map[verify.Principal]*history // the last one of each client
	upgrades int

	clients []*modelClient
	faulty  time.Time // when the present faults end
	fault   string    // what they are
	lie     *localnet.Mounted
	counter int
}

// history is what the canister has seen of one session.
type history struct {
	mu      sync.Mutex
	sent    []string // to the client
	arrived []string // from the client
}

// seen returns what was sent and what arrived so far.
func (h *history) seen() (sent, arrived []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sent, h.arrived
}

type modelClient struct {
	*client.Client
	id       verify.Signer
	upgrades int // of the canister, before the session opened
	history  *history

	mu       sync.Mutex
	sent     []string
	got      []string
	gate     chan struct{} // while set, the client does not read; closed to end that
	left     bool          // closed by the client
	dismiss  bool          // closed by the canister
	replaced bool          // by a newer session of the same identity
	stalled  bool          // did not read for a while
	paused   bool          // was there when the canister stopped
}

func newModel(t *testing.T, rnd *rand.Rand, latency time.Duration) *model {
	m := &model{t: t, rnd: rnd, sessions: make(map[verify.Principal]*history)}
	m.r = newRig(t, rigOptions{
		pipes:   true,
		network: localnet.Options{Latency: latency, Nodes: 4},
		cdk:     localnet.CDKOptions{App: m},
		config: func(c *relay.Config) {
			twoNodes(c)
			m.skip.network, m.skip.gateway, c.Transport = c.Transport, c.Identity, &m.skip
		},
	})
	m.skip.honest.Store(true)
	return m
}

// OnOpen is the canister's application: a client begins anew.
func (m *model) OnOpen(_ *localnet.AppContext, c verify.Principal) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sessions[c] = &history{}
	return nil
}

// OnMessage notes what arrives, and answers.
func (m *model) OnMessage(ctx *localnet.AppContext, from verify.Principal, payload []byte) error {
	h := m.historyOf(from)
	h.mu.Lock()
	h.arrived = append(h.arrived, string(payload))
	h.mu.Unlock()
	return m.send(ctx, from, "re: "+string(payload))
}

func (m *model) historyOf(c verify.Principal) *history {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sessions[c]
}

// send has the canister send to a client: an error if it does not know the client.
func (m *model) send(ctx *localnet.AppContext, to verify.Principal, text string) error {
	if err := ctx.Send(to, []byte(text)); err != nil {
		return err
	}
	h := m.historyOf(to)
	h.mu.Lock()
	h.sent = append(h.sent, text)
	h.mu.Unlock()
	return nil
}

func (m *model) run(steps int) {
	for range steps {
		m.step()
		if m.t.Failed() {
			return
		}
	}
	m.calm()
	for _, c := range m.clients {
		c.resume()
	}
	time.Sleep(7 * time.Minute) // an ack, and the canister's look at who has answered it
	m.check(true)
	if n := len(m.r.cdk.Clients()); n != len(m.clients) {
		m.t.Errorf("at the end the canister has %d clients, and there are %d", n, len(m.clients))
	}
}

// step does one random thing.
func (m *model) step() {
	m.counter++
	switch n := m.rnd.IntN(100); {
	case n < 8 && len(m.clients) < 12:
		m.open()
	case n < 45:
		m.clientSends()
	case n < 65:
		m.canisterSends()
	case n < 69:
		m.leave()
	case n < 75:
		m.faults()
	case n < 76:
		m.upgrade()
	case n < 77:
		m.outage()
	case n < 79:
		m.reopen()
	case n < 80:
		m.dismiss()
	case n < 81:
		m.stall()
	case n < 82:
		m.vanish()
	case n < 83 && m.rnd.IntN(4) == 0:
		m.desert()
	case n < 99:
		time.Sleep(time.Duration(m.rnd.IntN(3000)) * time.Millisecond)
	default:
		time.Sleep(time.Duration(m.rnd.IntN(6)) * time.Minute)
		m.check(false)
	}
	if !m.faulty.IsZero() && time.Now().After(m.faulty) {
		m.calm()
	}
}

// calm ends the faults.
func (m *model) calm() {
	m.endFaults()
	m.faulty, m.fault, m.lie = time.Time{}, "none", nil
}

// endFaults does so in the network; unlike calm it may be called by several goroutines.
func (m *model) endFaults() {
	m.r.network.SetFaults(nil)
	m.skip.honest.Store(true)
	if m.lie != nil {
		m.lie.Stop()
	}
}

func (m *model) open() {
	id, err := identity.NewRandomEd25519Identity()
	if err != nil {
		m.t.Fatal(err)
	}
	m.openAs(id)
}

// openAs opens a session of id.
func (m *model) openAs(id verify.Signer) {
	if c := m.dial(id); c != nil {
		m.clients = append(m.clients, c)
	}
}

func (m *model) dial(id verify.Signer) *modelClient {
	c := &modelClient{id: id, upgrades: m.upgrades}
	o := m.r.options()
	o.Identity = id
	o.OpenTimeout = 3 * time.Minute
	o.OnMessage = c.hear
	for {
		var err error
		if c.Client, err = client.Dial(context.Background(), m.r.url, o); err == nil {
			c.history = m.historyOf(c.Key().Principal)
			return c
		}
		// While the network misbehaves, opening may take longer than clients wait; then they are told, and try again.
		var ce *client.CloseError
		if m.faulty.IsZero() || !errors.As(err, &ce) || ce.Local || ce.Code != 1012 {
			m.t.Errorf("step %d: opening a session: %v; faults: %s", m.counter, err, m.fault)
			return nil
		}
		if time.Now().After(m.faulty) { // no step ends them while this one goes on
			m.endFaults()
		}
	}
}

// hear takes a message, unless the client does not read at present.
func (c *modelClient) hear(msg client.Message) {
	c.mu.Lock()
	gate := c.gate
	c.mu.Unlock()
	if gate != nil {
		<-gate
	}
	c.mu.Lock()
	c.got = append(c.got, string(msg.Payload))
	c.mu.Unlock()
}

// resume lets a client read again.
func (c *modelClient) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gate != nil {
		close(c.gate)
		c.gate = nil
	}
}

// reopen has a client connect again while its session lasts: the canister keeps the newer one.
func (m *model) reopen() {
	c := m.pick()
	if c == nil {
		return
	}
	for _, other := range m.clients {
		other.replaced = other.replaced || other.id == c.id
	}
	m.openAs(c.id)
}

// dismiss has the canister close a client.
func (m *model) dismiss() {
	c := m.pick()
	if c == nil {
		return
	}
	m.r.cdk.Do(func(ctx *localnet.AppContext) {
		if ctx.Close(c.Key().Principal) != nil {
			return
		}
		for _, other := range m.clients {
			other.dismiss = other.dismiss || other.id == c.id
		}
	})
}

// stall has a client stop reading for a while, or for as long as it takes.
func (m *model) stall() {
	if c := m.pick(); c != nil && !c.stalled {
		c.mu.Lock()
		c.gate, c.stalled = make(chan struct{}), true
		c.mu.Unlock()
		time.AfterFunc(time.Duration(m.rnd.IntN(60))*time.Second, c.resume)
	}
}

// vanish opens a session and breaks the connection before anything can come back.
func (m *model) vanish() {
	c, err := client.DialRaw(context.Background(), m.r.url, m.r.options())
	if err != nil {
		m.t.Errorf("step %d: connecting: %v", m.counter, err)
		return
	}
	defer c.Close()
	frame, err := c.Composer().Open(c.Gateway(), time.Time{})
	if err != nil {
		m.t.Fatal(err)
	}
	c.Write(context.Background(), websocket.BinaryMessage, frame) // an error is as good
	time.Sleep(time.Duration(m.rnd.IntN(3)) * time.Second)
}

// desert has everybody leave for long enough that the poller ends, and sometimes that the canister drops the queue.
func (m *model) desert() {
	for len(m.clients) > 0 {
		m.leave()
	}
	time.Sleep(time.Duration(m.rnd.IntN(16)) * time.Minute)
}

// outage has the canister stop for less than outage_timeout. Nobody is closed for that, but for those with a message, or
// an answer to an ack, that the network has accepted and that the canister then does not take: it is certified that it
// never will. And the canister itself may find that keep-alives came late.
func (m *model) outage() {
	for _, c := range m.clients {
		c.paused = true
	}
	m.r.network.Stopping(m.r.canister)
	time.Sleep(time.Duration(m.rnd.IntN(10)) * time.Second)
	m.r.network.Stop(m.r.canister)
	time.Sleep(time.Duration(m.rnd.IntN(60)) * time.Second)
	m.r.network.StartCanister(m.r.canister)
	time.Sleep(10 * time.Second) // no two of them in a row
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
	if _, arrived := c.history.seen(); len(c.sent)-len(arrived) > 5 {
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
		c.resume()
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
	if m.rnd.IntN(2) == 0 {
		m.rush()
	}
	time.Sleep(2 * time.Minute) // long enough for everybody to be told
	m.calm()
	m.check(false)
	n := 0
	for _, c := range m.clients {
		if c.upgrades < m.upgrades {
			n++
		}
	}
	if n != 0 {
		m.t.Errorf("step %d: %d sessions outlived an upgrade; faults: %s; the gateway: %+v", m.counter, n, m.fault, m.r.gateway.Snapshot())
	}
}

// rush has several clients open sessions at once, right after an upgrade, while nodes may lag.
func (m *model) rush() {
	if m.rnd.IntN(2) == 0 {
		m.faultsOf(faultLag)
	}
	fresh := make([]*modelClient, 1+m.rnd.IntN(5))
	var wg sync.WaitGroup
	for i := range fresh {
		id, err := identity.NewRandomEd25519Identity()
		if err != nil {
			m.t.Fatal(err)
		}
		wg.Go(func() { fresh[i] = m.dial(id) })
	}
	wg.Wait()
	for _, c := range fresh {
		if c != nil {
			m.clients = append(m.clients, c)
		}
	}
	for range 20 {
		m.clientSends()
		m.canisterSends()
		time.Sleep(time.Duration(m.rnd.IntN(1000)) * time.Millisecond)
	}
}

// faultLag is the kind of fault in which nodes answer from an older state.
const faultLag = 5

// lies are what one of the two boundary nodes may answer, with the other one honest.
var lies = []string{"client keys swapped outside", "rejected by the canister", "every message hidden", "canister not found",
	"certificate signed by a stranger", "candid cut short"}

// faults makes the network misbehave in one way for up to 20 s.
func (m *model) faults() {
	m.calm()
	switch kind := m.rnd.IntN(12); {
	case kind < 7:
		m.faultsOf(kind)
	case kind < 8:
		m.skip.honest.Store(false)
	default:
		a, ok := localnet.AttackNamed(lies[m.rnd.IntN(len(lies))])
		if !ok {
			m.t.Fatal("no such attack")
		}
		m.lie = a.Mount(m.r.network, m.r.canister, "http://lying.test")
		m.fault = a.Name
	}
	m.faulty = time.Now().Add(time.Duration(m.rnd.IntN(20)) * time.Second)
}

func (m *model) faultsOf(kind int) {
	share := m.rnd.Float64() * 0.6
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
	case c.dismiss && ce.Code == client.CodeByApplication:
	case c.paused && ce.Code == 1013 && strings.Contains(ce.Text, "canister is stop"):
	case (c.paused || c.stalled) && ce.Code == 4000 && strings.Contains(ce.Error(), "KeepAliveTimeout"):
	case c.replaced && ce.Code == 1008:
	case c.stalled && (ce.Code == 1012 || ce.Code == 1006 || ce.Code == 1013):
	case c.stalled && (c.dismiss || c.paused) && ce.Code == 1000: // its canister closed it, and it did not read that in time
	default:
		m.t.Errorf("step %d: session ended with %v, and nothing in the events explains that (dismiss %t, paused %t, replaced %t, stalled %t)",
			m.counter, ce, c.dismiss, c.paused, c.replaced, c.stalled)
	}
}

// compare holds what a client and the canister saw of each other against what was sent.
func (m *model) compare(c *modelClient, final bool) {
	sent, arrived := c.history.seen()
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
