package relay

import "context"

// TakeMessageMemory takes all the memory there is for large messages, until the returned function is called.
func (g *Gateway) TakeMessageMemory() (giveBack func()) {
	if err := g.memory.left.Acquire(context.Background(), messageMemory); err != nil {
		panic(err)
	}
	return func() { g.memory.left.Release(messageMemory) }
}
