package localnet

import (
	"fmt"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet/candid"
	"github.com/icws-gateway/caddy-icws/verify"
)

// App is the application of a CDK canister. Its methods run within the
// canister's messages, one at a time; an error or a panic is a trap, which in
// Rust undoes everything that the canister did during the message. What the
// App itself remembers is its own affair.
type App interface {
	// OnOpen is called when a client has registered; its OpenMessage is queued.
	OnOpen(ctx *AppContext, client verify.Principal) error
	// OnMessage is called with the payload of a client's message, which the App
	// may keep.
	OnMessage(ctx *AppContext, client verify.Principal, payload []byte) error
	// OnClose is called when a client has been removed, for whatever reason.
	OnClose(ctx *AppContext, client verify.Principal) error
}

// AppContext is what an App can do during a callback. It must not be kept.
type AppContext struct {
	cdk *CDK
	env *Env
}

// Time is the time of the block.
func (ctx *AppContext) Time() time.Time { return ctx.env.Time }

// Send queues a message for a client. payload is copied.
func (ctx *AppContext) Send(client verify.Principal, payload []byte) error {
	cl := ctx.cdk.current[client]
	if cl == nil {
		return fmt.Errorf("%s", noConnection(client))
	}
	ctx.cdk.send(ctx.env, cl, false, payload)
	return nil
}

// Close removes a client, which learns of it by a CloseMessage with the reason
// ClosedByApplication.
func (ctx *AppContext) Close(client verify.Principal) error {
	cl := ctx.cdk.current[client]
	if cl == nil {
		return fmt.Errorf("%s", noConnection(client))
	}
	return ctx.cdk.removeClient(ctx, cl, "ClosedByApplication")
}

// Clients are the principals of the registered clients in the order in which
// they opened.
func (ctx *AppContext) Clients() []verify.Principal {
	var out []verify.Principal
	for _, cl := range ctx.cdk.byOrder() {
		out = append(out, cl.key.Principal)
	}
	return out
}

// Call makes a call to another canister if this message succeeds, as
// ic_cdk::spawn does in the callbacks of a Rust canister. then is run with the
// reply or the reject as a message of its own, see Env.Call; other messages
// come between, so that what was true before has to be looked at again.
func (ctx *AppContext) Call(c Call, then func(ctx *AppContext, reply []byte, reject *Reject) error) {
	cdk := ctx.cdk
	ctx.env.Call(c, func(env *Env, reply []byte, reject *Reject) error {
		_, err := cdk.message(env, func(ctx *AppContext) ([]byte, error) { return nil, then(ctx, reply, reject) })
		return err
	})
}

// NoCallbacks is an App that does nothing; embed it to leave out callbacks.
type NoCallbacks struct{}

// OnOpen implements App.
func (NoCallbacks) OnOpen(*AppContext, verify.Principal) error { return nil }

// OnMessage implements App.
func (NoCallbacks) OnMessage(*AppContext, verify.Principal, []byte) error { return nil }

// OnClose implements App.
func (NoCallbacks) OnClose(*AppContext, verify.Principal) error { return nil }

// Echo sends every payload back as it came.
type Echo struct{ NoCallbacks }

// OnMessage implements App.
func (Echo) OnMessage(ctx *AppContext, client verify.Principal, payload []byte) error {
	return ctx.Send(client, payload)
}

// Broadcast sends every payload to all clients, its sender included: a chat.
type Broadcast struct{ NoCallbacks }

// OnMessage implements App.
func (Broadcast) OnMessage(ctx *AppContext, _ verify.Principal, payload []byte) error {
	for _, client := range ctx.Clients() {
		if err := ctx.Send(client, payload); err != nil {
			return err
		}
	}
	return nil
}

// PingPong is the application of the usual demo. Payloads are the Candid
// record{text: text}. It greets a client with "ping" and answers each text
// with the same text and "-pong", so that a client that sends back what it
// received makes the messages grow. The text "close" makes it close the
// client, "trap" makes it trap. Other payloads trap.
type PingPong struct {
	NoCallbacks
	// Quiet leaves out the greeting.
	Quiet bool
}

// OnOpen implements App.
func (a PingPong) OnOpen(ctx *AppContext, client verify.Principal) error {
	if a.Quiet {
		return nil
	}
	return ctx.Send(client, TextPayload("ping"))
}

// OnMessage implements App.
func (PingPong) OnMessage(ctx *AppContext, client verify.Principal, payload []byte) error {
	text, ok := ParseTextPayload(payload)
	switch {
	case !ok:
		return fmt.Errorf("failed to decode the message: it is not record{text: text}")
	case text == "close":
		return ctx.Close(client)
	case text == "trap":
		return fmt.Errorf("the client asked for a trap")
	}
	return ctx.Send(client, TextPayload(text+"-pong"))
}

// TextPayload is the Candid encoding of record{text: text}.
func TextPayload(text string) []byte {
	return candid.Encode(candid.Fields(map[string]any{"text": text}))
}

// ParseTextPayload is the inverse of TextPayload. As canisters do, it passes over other fields and further arguments.
func ParseTextPayload(b []byte) (text string, ok bool) {
	v, err := candid.Read(b)
	if err != nil {
		return "", false
	}
	text, err = candid.Field[string](v, "text")
	return text, err == nil
}
