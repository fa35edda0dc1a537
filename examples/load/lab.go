package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// A lab is a local network with canisters, and the books of what is asked of it and of how long it has each message.
type lab struct {
	network   *localnet.Network
	url       string
	canisters []verify.Principal
	authority *verify.Authority

	requests atomic.Uint64
	arrivals sync.Map // by sender the *arrival of its latest message
	spent    sync.Map // by messageID the time.Duration from arrival to execution
}

// An arrival is when the network got a call for the first time.
type arrival struct {
	id [32]byte
	at time.Time
}

// messageID is what is unique of a payload.
type messageID struct{ session, number uint64 }

// newLab makes a network with so many canisters, each with an application of its own from app.
func newLab(o localnet.Options, canisters, page int, app func() localnet.App) (*lab, error) {
	n, err := localnet.New(o)
	if err != nil {
		return nil, err
	}
	b := &lab{network: n}
	for range canisters {
		b.canisters = append(b.canisters, n.Install(localnet.NewCDK(localnet.CDKOptions{App: timed{app(), b}, MaxMessages: page})))
	}
	if b.authority, err = verify.NewAuthority(n.RootKey()); err != nil {
		return nil, err
	}
	n.SetFaults(b.note)
	return b, nil
}

// note counts a request and lets it pass.
func (b *lab) note(q *localnet.Request) localnet.Fault {
	b.requests.Add(1)
	if q.Endpoint != "call" || q.Method != "ws_message" {
		return localnet.Fault{}
	}
	// A gateway may send a call twice, but sends the next one of a client only when the outcome of this one is known.
	if a, ok := b.arrivals.Load(q.Sender); !ok || a.(*arrival).id != q.ID {
		b.arrivals.Store(q.Sender, &arrival{q.ID, time.Now()})
	}
	return localnet.Fault{}
}

// took returns how long the network had a message before its canister executed it. It forgets it.
func (b *lab) took(p payload) (time.Duration, bool) {
	d, ok := b.spent.LoadAndDelete(messageID{p.session, p.number})
	if !ok {
		return 0, false
	}
	return d.(time.Duration), true
}

// spread gives sessions the canisters in turn.
func (b *lab) spread(s *session, o *client.Options) {
	o.Canister = b.canisters[s.id%uint64(len(b.canisters))]
}

// timed is an application whose messages are timed.
type timed struct {
	localnet.App
	lab *lab
}

// OnMessage implements localnet.App.
func (t timed) OnMessage(ctx *localnet.AppContext, from verify.Principal, b []byte) error {
	if p, ok := decodePayload(b); ok {
		if a, ok := t.lab.arrivals.Load(from); ok {
			t.lab.spent.Store(messageID{p.session, p.number}, time.Since(a.(*arrival).at))
		}
	}
	return t.App.OnMessage(ctx, from, b)
}

// pageWriter is an application that answers a message with many to each client, so that pages are full.
type pageWriter struct {
	localnet.NoCallbacks
	burst int // messages to each client
}

// OnMessage implements localnet.App.
func (w pageWriter) OnMessage(ctx *localnet.AppContext, _ verify.Principal, b []byte) error {
	return bursts(b, w.burst, func(m []byte) error {
		for _, client := range ctx.Clients() {
			if err := ctx.Send(client, m); err != nil {
				return err
			}
		}
		return nil
	})
}

// bursts hands out the messages that one calls for. Their numbers are those of all bursts so far.
func bursts(b []byte, burst int, send func(m []byte) error) error {
	p, ok := decodePayload(b)
	if !ok || p.number == 0 {
		return fmt.Errorf("not a message of this program")
	}
	first := (p.number-1)*uint64(burst) + 1
	for i := range uint64(burst) {
		p.number = first + i
		if err := send(p.encode(len(b))); err != nil {
			return err
		}
	}
	return nil
}
