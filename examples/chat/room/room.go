// Package room is the chat canister of examples/canisters as a Go value for the
// local network: the same messages, the same answers, so that the page can be
// tried without a compiler for canisters.
package room

import (
	"slices"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/verify"
)

// Longest name and text in bytes, as in the Rust canister.
const (
	maxName = 100
	maxText = 8000
)

// Room is an App that sends what anybody says to everybody. It remembers
// nothing of its own: who is here is who is connected.
type Room struct{}

// OnOpen implements localnet.App.
func (Room) OnOpen(ctx *localnet.AppContext, client verify.Principal) error {
	return tellEverybody(ctx, &Message{Author: client})
}

// OnMessage implements localnet.App. What is not a message ends the session.
func (Room) OnMessage(ctx *localnet.AppContext, client verify.Principal, payload []byte) error {
	m, err := Decode(payload)
	if err != nil || m.Text == "" || len(m.Text) > maxText || len(m.Name) > maxName {
		return ctx.Close(client)
	}
	m.Author = client
	return tellEverybody(ctx, m)
}

// OnClose implements localnet.App.
func (Room) OnClose(ctx *localnet.AppContext, client verify.Principal) error {
	return tellEverybody(ctx, &Message{Author: client})
}

func tellEverybody(ctx *localnet.AppContext, m *Message) error {
	people := ctx.Clients()
	slices.SortFunc(people, verify.Principal.Compare)
	m.At = uint64(ctx.Time().UnixNano())
	m.Online = uint32(len(people))
	payload := m.Encode()
	for _, person := range people {
		if err := ctx.Send(person, payload); err != nil {
			return err
		}
	}
	return nil
}
