package relay_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/aviate-labs/agent-go/identity"
	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// modelClient is a client, what it did, and what was done to it.
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
	dismiss  time.Time     // when the canister closed it
	refused  int           // openings that were told to come again, before this one
	replaced bool          // by a newer session of the same identity
	outrun   bool          // some openings of the newer session were refused: the canister may have taken one that is gone since
	stalled  bool          // did not read for a while
	paused   bool          // was there when the canister stopped
	missing  bool          // was sent something that may have been deleted before anybody could read it
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
		m.note("%s opens", c.name())
		for _, other := range m.clients {
			other.outrun = other.outrun || other.id == id && c.refused > 0
		}
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
		began := time.Now()
		var err error
		if c.Client, err = client.Dial(context.Background(), m.r.url, o); err == nil {
			c.history = m.historyOf(c.Key().Principal)
			return c
		}
		if f := m.fault; f == nil || began.After(f.until.Add(30*time.Second)) || !f.mayRefuse(err) {
			m.t.Errorf("step %d: opening a session: %v; fault: %s", m.counter, err, m.faultName())
			return nil
		}
		c.refused++
		m.note("an opening session is told: %v", err)
	}
}

// mayRefuse reports whether a session that opens during f may be told err: that it should come again, as opening takes longer than
// clients wait, or what f makes look true.
func (f *modelFault) mayRefuse(err error) bool {
	var ce *client.CloseError
	if !errors.As(err, &ce) || ce.Local {
		return false
	}
	return ce.Code == 1012 || f.refusal != "" && strings.Contains(ce.Text, f.refusal)
}

func (m *model) faultName() string {
	if m.fault == nil {
		return "none"
	}
	return fmt.Sprintf("%s until %s", m.fault.name, m.fault.until.Sub(m.began))
}

// name is what c is called in reports.
func (c *modelClient) name() string { return c.Key().Principal.String()[:5] }

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

func (m *model) leave() {
	if c := m.pick(); c != nil {
		m.note("%s leaves", c.name())
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

// reopen has a client connect again while its session lasts: the canister keeps the newer one.
func (m *model) reopen() {
	c := m.pick()
	if c == nil {
		return
	}
	m.note("%s opens again", c.name())
	for _, other := range m.clients {
		other.replaced = other.replaced || other.id == c.id
	}
	m.openAs(c.id)
}

// stall has a client stop reading for a while, or for as long as it takes.
func (m *model) stall() {
	if c := m.pick(); c != nil && !c.stalled {
		m.note("%s does not read", c.name())
		c.mu.Lock()
		c.gate, c.stalled = make(chan struct{}), true
		c.mu.Unlock()
		time.AfterFunc(time.Duration(m.rnd.IntN(60))*time.Second, c.resume)
	}
}

// vanish opens a session and breaks the connection before anything can come back.
func (m *model) vanish() {
	m.note("somebody opens and vanishes")
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
	m.note("everybody leaves")
	for len(m.clients) > 0 {
		m.leave()
	}
	time.Sleep(time.Duration(m.rnd.IntN(16)) * time.Minute)
}
