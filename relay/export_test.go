package relay

import (
	"context"

	"github.com/icws-gateway/caddy-icws/verify"
)

// TakeMessageMemory takes all the memory there is for large messages, until the returned function is called.
func (g *Gateway) TakeMessageMemory() (giveBack func()) { return g.TakeMessageMemoryBut(0) }

// TakeMessageMemoryBut leaves some bytes of the memory for large messages and takes the rest, until the returned function is
// called.
func (g *Gateway) TakeMessageMemoryBut(left int64) (giveBack func()) {
	if err := g.memory.left.Acquire(context.Background(), messageMemory-left); err != nil {
		panic(err)
	}
	return func() { g.memory.left.Release(messageMemory - left) }
}

// Authority is what the gateway verifies with, nil while the root key is not known.
func (g *Gateway) Authority() *verify.Authority { return g.up.KnownAuthority() }

// SetOutboxMemory sets the bound of all outboxes together.
func (g *Gateway) SetOutboxMemory(bytes int64) { g.outboxes.limit = bytes }

// OutboxMemory is what all outboxes hold together.
func (g *Gateway) OutboxMemory() int64 { return g.outboxes.held.Load() }

// SetMaxDeparting bounds the sessions without a connection whose messages are under way, Departing counts them.
func (g *Gateway) SetMaxDeparting(n int) { g.maxDeparting = n }

func (g *Gateway) Departing() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.departing.Len()
}

// Lines returns how many principals at canisters have calls under way or due.
func (g *Gateway) Lines() int {
	g.turns.mu.Lock()
	defer g.turns.mu.Unlock()
	return len(g.turns.lines)
}
