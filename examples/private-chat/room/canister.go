// Package room is the canister of examples/private-chat as a Go value for the
// local network: the same messages, rules and answers as the one in Rust, so
// that the chat can be tried without a compiler for canisters. The same tests
// run against both.
package room

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/examples/localnet/candid"
	"github.com/icws-gateway/caddy-icws/verify"
)

const (
	// KeyName is the master key that the keys of rooms come from.
	KeyName = "dfx_test_key"
	// keyCycles is what the dearest key costs.
	keyCycles = 26_153_846_153
	// maxMessage is the longest message of a client in bytes, with what Candid
	// puts around it.
	maxMessage = 12_000
)

// Context is that of all keys of the chat; their input is Input.
var Context = []byte("private-chat")

// Input is what the key of an epoch of a room is derived for.
func Input(room, epoch uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, room), epoch)
}

// Canister is the canister. Install it on one network.
type Canister struct {
	*localnet.CDK
	app *app
}

// New makes a canister.
func New() Canister {
	a := &app{}
	return Canister{localnet.NewCDK(localnet.CDKOptions{App: a}), a}
}

// Init implements localnet.Canister. An upgrade forgets the rooms, as in Rust.
func (c Canister) Init(env *localnet.Env) error {
	c.app.rooms = newRooms()
	return c.CDK.Init(env)
}

// Update implements localnet.Canister: public_key beside the methods of the CDK.
func (c Canister) Update(env *localnet.Env, method string, arg []byte) ([]byte, error) {
	if method != "public_key" {
		return c.CDK.Update(env, method, arg)
	}
	answer := env.AnswerLater()
	call := localnet.Call{Method: "vetkd_public_key", Arg: candid.Encode(candid.Fields(map[string]any{"context": Context, "key_id": keyID()}))}
	env.Call(call, func(_ *localnet.Env, reply []byte, reject *localnet.Reject) error {
		if reject != nil {
			return reject
		}
		key, err := readKey(reply, "public_key")
		if err != nil {
			return err
		}
		answer(candid.Encode(key), nil)
		return nil
	})
	return nil, nil
}

func keyID() candid.Record {
	return candid.Fields(map[string]any{"curve": candid.Case("bls12_381_g2", nil), "name": KeyName})
}

// readKey reads a record of one blob.
func readKey(reply []byte, name string) ([]byte, error) {
	v, err := candid.Read(reply)
	if err != nil {
		return nil, err
	}
	key, err := candid.Field[[]byte](v, name)
	return bytes.Clone(key), err
}

// app is what the canister does with messages.
type app struct {
	localnet.NoCallbacks
	rooms *rooms
}

// tell sends to somebody. Who is not connected misses it, and learns of the
// rooms when they come back.
func tell(ctx *localnet.AppContext, who verify.Principal, name string, fields map[string]any) {
	_ = ctx.Send(who, candid.Encode(candid.Case(name, candid.Fields(fields))))
}

func (a *app) tellRoom(ctx *localnet.AppContext, id uint64, to ...verify.Principal) {
	room := a.rooms.rooms[id]
	members := room.members()
	if to == nil {
		to = members
	}
	for _, who := range to {
		tell(ctx, who, "room", map[string]any{"room": id, "epoch": room.epoch, "owner": room.owner, "members": members})
	}
}

func refuse(ctx *localnet.AppContext, who verify.Principal, room uint64, request string, reason refusal) {
	tell(ctx, who, "refused", map[string]any{"room": room, "request": request, "reason": string(reason)})
}

// OnOpen implements localnet.App.
func (a *app) OnOpen(ctx *localnet.AppContext, client verify.Principal) error {
	for _, id := range a.rooms.with(client) {
		a.tellRoom(ctx, id, client)
	}
	return nil
}

// OnMessage implements localnet.App. What is not a request ends the session.
func (a *app) OnMessage(ctx *localnet.AppContext, client verify.Principal, payload []byte) error {
	if len(payload) > maxMessage {
		return ctx.Close(client)
	}
	r, err := readRequest(payload)
	if err != nil {
		return ctx.Close(client)
	}
	if reason := a.do(ctx, client, r); reason != granted {
		refuse(ctx, client, r.room, r.name, reason)
	}
	return nil
}

func (a *app) do(ctx *localnet.AppContext, caller verify.Principal, r *request) refusal {
	switch r.name {
	case "open":
		id, refused := a.rooms.open(caller, ctx.Time())
		if refused != granted {
			return refused
		}
		a.tellRoom(ctx, id)
	case "add":
		if refused := a.rooms.add(caller, r.room, r.who); refused != granted {
			return refused
		}
		a.tellRoom(ctx, r.room)
	case "remove":
		if refused := a.rooms.remove(caller, r.room, r.who); refused != granted {
			return refused
		}
		tell(ctx, r.who, "left", map[string]any{"room": r.room})
		a.tellRoom(ctx, r.room)
	case "close":
		members, refused := a.rooms.close(caller, r.room)
		for _, who := range members {
			tell(ctx, who, "left", map[string]any{"room": r.room})
		}
		return refused
	case "get_key":
		if refused := a.rooms.ask(caller, r.room, r.epoch, r.transportKey, ctx.Time()); refused != granted {
			return refused
		}
		a.getKey(ctx, caller, r)
	case "say":
		// The principal of the sender is that of the call, which the network has verified.
		to, refused := a.rooms.say(caller, r.room, r.epoch, r.ciphertext)
		for _, who := range to {
			tell(ctx, who, "said", map[string]any{"room": r.room, "epoch": r.epoch, "sender": caller, "counter": r.counter,
				"at": uint64(ctx.Time().UnixNano()), "ciphertext": r.ciphertext})
		}
		return refused
	}
	return granted
}

func (a *app) getKey(ctx *localnet.AppContext, caller verify.Principal, r *request) {
	arg := candid.Fields(map[string]any{"input": Input(r.room, r.epoch), "context": Context, "transport_public_key": r.transportKey, "key_id": keyID()})
	call := localnet.Call{Method: "vetkd_derive_key", Arg: candid.Encode(arg), Cycles: keyCycles}
	ctx.Call(call, func(ctx *localnet.AppContext, reply []byte, reject *localnet.Reject) error {
		// Other messages were handled meanwhile: who asked may have been taken out of the room.
		if refused := a.rooms.mayRead(caller, r.room, r.epoch); refused != granted {
			refuse(ctx, caller, r.room, r.name, refused)
			return nil
		}
		if reject != nil {
			refuse(ctx, caller, r.room, r.name, "the network gave no key: ask again later")
			return nil
		}
		key, err := readKey(reply, "encrypted_key")
		if err != nil {
			return fmt.Errorf("reading the key: %w", err)
		}
		tell(ctx, caller, "key", map[string]any{"room": r.room, "epoch": r.epoch, "encrypted_key": key})
		return nil
	})
}

// request is what clients ask for, with the fields that it has.
type request struct {
	name                     string
	room, epoch, counter     uint64
	who                      verify.Principal
	transportKey, ciphertext []byte
}

// readRequest reads a message of a client. The request keeps parts of it.
func readRequest(payload []byte) (*request, error) {
	v, err := candid.Read(payload)
	if err != nil {
		return nil, err
	}
	c, ok := v.(candid.Variant)
	if !ok {
		return nil, candid.ErrUnexpected
	}
	r := &request{}
	number := func(to *uint64, name string) {
		if err == nil {
			*to, err = candid.Field[uint64](c.Value, name)
		}
	}
	blob := func(to *[]byte, name string) {
		if err == nil {
			*to, err = candid.Field[[]byte](c.Value, name)
		}
	}
	for _, name := range []string{"open", "add", "remove", "close", "get_key", "say"} {
		if candid.ID(name) == c.ID {
			r.name = name
		}
	}
	switch r.name {
	case "":
		return nil, candid.ErrUnexpected
	case "open":
		return r, nil
	}
	number(&r.room, "room")
	switch r.name {
	case "add", "remove":
		if err == nil {
			r.who, err = candid.Field[verify.Principal](c.Value, "who")
		}
	case "get_key":
		number(&r.epoch, "epoch")
		blob(&r.transportKey, "transport_key")
	case "say":
		number(&r.epoch, "epoch")
		number(&r.counter, "counter")
		blob(&r.ciphertext, "ciphertext")
	}
	return r, err
}
