package relay

import "sync"

// frames recycles the memory of canister frames, from the poller that builds them to the writer that is done.
var frames framePool

type framePool struct{ pool sync.Pool }

// maxPooledFrame keeps the rare giant from being held for frames of 3 kB.
const maxPooledFrame = 64 << 10

// get returns an empty slice with room for size bytes.
func (p *framePool) get(size int) []byte {
	if b, ok := p.pool.Get().(*[]byte); ok && cap(*b) >= size {
		return (*b)[:0]
	}
	return make([]byte, 0, size)
}

// put takes back a frame that nothing refers to any more.
func (p *framePool) put(b []byte) {
	if cap(b) <= maxPooledFrame {
		p.pool.Put(&b)
	}
}
