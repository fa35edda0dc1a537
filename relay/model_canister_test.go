package relay_test

import (
	"fmt"
	"sync"
	"time"

	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/verify"
)

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

// dismiss has the canister close a client.
func (m *model) dismiss() {
	c := m.pick()
	if c == nil {
		return
	}
	m.note("the canister closes %s", c.name())
	m.r.cdk.Do(func(ctx *localnet.AppContext) {
		if ctx.Close(c.Key().Principal) != nil {
			return
		}
		for _, other := range m.clients {
			if other.id == c.id {
				other.dismiss = time.Now()
			}
		}
	})
}

// outage has the canister stop for less than outage_timeout. Nobody is closed for that, but for those with a message, or
// an answer to an ack, that the network has accepted and that the canister then does not take: it is certified that it
// never will. And the canister itself may find that keep-alives came late.
func (m *model) outage() {
	for _, c := range m.clients {
		c.paused = true
	}
	m.note("the canister stops")
	m.r.network.Stopping(m.r.canister)
	time.Sleep(time.Duration(m.rnd.IntN(10)) * time.Second)
	m.r.network.Stop(m.r.canister)
	time.Sleep(time.Duration(m.rnd.IntN(60)) * time.Second)
	m.r.network.StartCanister(m.r.canister)
	m.deaf = time.Now()
	time.Sleep(10 * time.Second) // no two of them in a row
}

func (m *model) upgrade() {
	if err := m.r.network.Upgrade(m.r.canister); err != nil {
		m.t.Fatal(err)
	}
	m.upgrades++
	m.note("upgrade")
	switch m.rnd.IntN(8) {
	case 0, 1:
		m.rush()
	case 2, 3:
		m.faultNamed("lag", passing)
		m.rush()
	case 4:
		m.faultNamed("one host omits", lasting)
		m.rush()
	case 5:
		m.faultNamed("one host is dead", lasting)
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
		m.t.Errorf("step %d: %d sessions outlived an upgrade; the gateway: %+v", m.counter, n, m.r.gateway.Snapshot())
	}
}

// blackout lets nobody read from the canister for longer than it keeps messages. Clients that were sent something meanwhile may be
// told that it is missing.
func (m *model) blackout() {
	m.calm()
	m.note("blackout")
	m.r.network.SetFaults(func(q *localnet.Request) localnet.Fault { return localnet.Fault{Drop: q.Endpoint == "query"} })
	for end := time.Now().Add(time.Duration(m.rnd.IntN(240)) * time.Second); time.Now().Before(end); {
		m.canisterSends()
		m.clientSends()
		time.Sleep(time.Duration(1+m.rnd.IntN(10)) * time.Second)
	}
	for _, c := range m.clients {
		sent, _ := c.history.seen()
		c.mu.Lock()
		c.missing = c.missing || len(c.got) < len(sent)
		c.mu.Unlock()
	}
	m.r.network.SetFaults(nil)
	m.deaf = time.Now()
	time.Sleep(10 * time.Second) // whoever has lost something is told before more is sent
	m.check(false)
}

// rush has several clients open sessions at once, right after an upgrade.
func (m *model) rush() {
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
