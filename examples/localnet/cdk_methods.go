package localnet

import (
	"fmt"

	"github.com/icws-gateway/caddy-icws/verify"
)

// decodeTrap is how a canister fails on an argument that it cannot decode.
func decodeTrap(err error) error { return fmt.Errorf("failed to decode call arguments: %w", err) }

func (c *CDK) wsOpen(ctx *AppContext, arg []byte) ([]byte, error) {
	nonce, gateway, err := readOpenArg(arg)
	if err != nil {
		return nil, decodeTrap(err)
	}
	caller := ctx.env.Caller
	if caller.IsAnonymous() {
		return resultErr("Anonymous principal is not allowed"), nil
	}
	if !c.o.serves(gateway) {
		return resultErr(fmt.Sprintf("no gateway registered with principal %s", gateway)), nil
	}
	key := verify.ClientKey{Principal: caller, Nonce: nonce}
	if c.clients[key] != nil {
		return resultErr(fmt.Sprintf("Client with key %s already has an open connection", key)), nil
	}
	open := func(ctx *AppContext) ([]byte, error) {
		cl := c.addClient(key, gateway, ctx.env.Time)
		c.send(ctx.env, cl, true, appendOpenMessage(nil, key))
		c.arm(ctx.env)
		return c.callback(ctx, func(ctx *AppContext) error { return c.o.App.OnOpen(ctx, caller) })
	}
	if old := c.current[caller]; old != nil {
		return c.removed(ctx, old, "", open) // a client that comes back replaces itself, without a CloseMessage
	}
	return open(ctx)
}

func (c *CDK) wsMessage(ctx *AppContext, arg []byte) ([]byte, error) {
	m, err := readMessageArg(arg)
	if err != nil {
		return nil, decodeTrap(err)
	}
	caller := ctx.env.Caller
	cl := c.current[caller]
	switch {
	case cl == nil:
		return resultErr(noConnection(caller)), nil
	case cl.key != m.Client:
		return resultErr(fmt.Sprintf("Client with principal %s has a different key than the one used in the message",
			m.Client.Principal)), nil
	case cl.incoming != m.Sequence:
		want := cl.incoming
		return c.removed(ctx, cl, "WrongSequenceNumber", func(*AppContext) ([]byte, error) {
			return resultErr(fmt.Sprintf("Expected incoming sequence number %d but got %d", want, m.Sequence)), nil
		})
	}
	c.touchClient(cl)
	cl.incoming++
	if m.Service {
		return c.serviceMessage(ctx, cl, m.Content)
	}
	content := append([]byte(nil), m.Content...) // arg belongs to the caller
	return c.callback(ctx, func(ctx *AppContext) error { return c.o.App.OnMessage(ctx, caller, content) })
}

func (c *CDK) serviceMessage(ctx *AppContext, cl *cdkClient, content []byte) ([]byte, error) {
	alive, err := readKeepAlive(content)
	switch {
	case err != nil && c.o.Motoko:
		return nil, fmt.Errorf("IDL error: %w", err)
	case err != nil:
		return resultErr(fmt.Sprintf("Error decoding service message content: %v", err)), nil
	case !alive:
		return resultErr("Invalid service message"), nil
	}
	cl.keepAlive = ctx.env.Time
	return resultOk(), nil
}

func (c *CDK) wsClose(ctx *AppContext, arg []byte) ([]byte, error) {
	key, err := readCloseArg(arg)
	if err != nil {
		return nil, decodeTrap(err)
	}
	caller := ctx.env.Caller
	cl := c.clients[key]
	switch {
	case c.queues[caller] == nil:
		return resultErr(fmt.Sprintf("Gateway with principal %s is not registered", caller)), nil
	case cl == nil:
		return resultErr(fmt.Sprintf("Client with key %s doesn't have an open connection", key)), nil
	case cl.gateway != caller:
		return resultErr(fmt.Sprintf("Client with key %s was not registered to gateway %s", key, caller)), nil
	}
	return c.removed(ctx, cl, "", func(*AppContext) ([]byte, error) { return resultOk(), nil })
}

// removed removes a client within a method, which goes on with then. In Motoko
// the removal is awaited: other messages of the same block come before it.
func (c *CDK) removed(ctx *AppContext, cl *cdkClient, reason string, then func(*AppContext) ([]byte, error)) ([]byte, error) {
	remove := func(ctx *AppContext) ([]byte, error) {
		if err := c.removeClient(ctx, cl, reason); err != nil {
			return nil, err
		}
		return then(ctx)
	}
	if !c.o.Motoko {
		return remove(ctx)
	}
	ctx.env.Await(func(env *Env) ([]byte, error) {
		return c.message(env, remove)
	})
	return nil, nil
}

// callback runs a callback of the application: within the message in Rust, so
// that a trap undoes all of it, and awaited in Motoko, where the message has
// taken effect by then.
func (c *CDK) callback(ctx *AppContext, f func(*AppContext) error) ([]byte, error) {
	if !c.o.Motoko {
		if err := f(ctx); err != nil {
			return nil, err
		}
		return resultOk(), nil
	}
	ctx.env.Await(func(env *Env) ([]byte, error) {
		return c.message(env, func(ctx *AppContext) ([]byte, error) {
			if err := f(ctx); err != nil {
				return nil, err
			}
			return resultOk(), nil
		})
	})
	return nil, nil
}
