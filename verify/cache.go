package verify

import (
	"errors"
	"sync"
)

// onceCache remembers results that are dear to compute. It is bounded: the entry unused for longest makes room for a new
// one. Concurrent requests for one key compute once. Failures are not remembered, so nobody can fill it with them.
type onceCache[K comparable, V any] struct {
	limit int

	mu           sync.Mutex
	entries      map[K]*cacheEntry[K, V]
	root         cacheEntry[K, V] // of the ring: root.next is the newest, root.prev the oldest
	pending      map[K]*cacheEntry[K, V]
	hits, misses uint64
}

// cacheEntry is one result, linked into the ring once it is known to be good.
type cacheEntry[K comparable, V any] struct {
	prev, next *cacheEntry[K, V]
	key        K
	once       sync.Once
	value      V
	err        error
}

// errAbandoned is what those who wait get if the computation panics.
var errAbandoned = errors.New("computation abandoned")

// newOnceCache returns a cache of at most limit entries.
func newOnceCache[K comparable, V any](limit int) *onceCache[K, V] {
	c := &onceCache[K, V]{
		limit:   limit,
		entries: make(map[K]*cacheEntry[K, V]),
		pending: make(map[K]*cacheEntry[K, V]),
	}
	c.root.prev, c.root.next = &c.root, &c.root
	return c
}

// cached returns the result for key if it is remembered.
func (c *onceCache[K, V]) cached(key K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok {
		return v, false
	}
	c.hits++
	e.unlink()
	c.root.push(e)
	return e.value, true
}

// get returns the result for key, computing it if it is not remembered.
func (c *onceCache[K, V]) get(key K, compute func() (V, error)) (V, error) {
	if v, ok := c.cached(key); ok {
		return v, nil
	}
	c.mu.Lock()
	e, known := c.entries[key] // somebody may just have been faster
	if !known {
		e, known = c.pending[key]
	}
	if known {
		c.hits++
	} else {
		c.misses++
		e = &cacheEntry[K, V]{key: key, err: errAbandoned}
		c.pending[key] = e
	}
	c.mu.Unlock()

	e.once.Do(func() {
		defer c.settle(e)
		e.value, e.err = compute()
	})
	return e.value, e.err
}

// settle ends the computation of e, and keeps the result if it is good.
func (c *onceCache[K, V]) settle(e *cacheEntry[K, V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, e.key)
	if e.err != nil {
		return
	}
	if len(c.entries) >= c.limit {
		oldest := c.root.prev
		oldest.unlink()
		delete(c.entries, oldest.key)
	}
	c.entries[e.key] = e
	c.root.push(e)
}

// stats returns how many requests were answered from the cache, or by somebody else's computation, and how many were not.
func (c *onceCache[K, V]) stats() (hits, misses uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hits, c.misses
}

// push links e behind r.
func (r *cacheEntry[K, V]) push(e *cacheEntry[K, V]) {
	e.prev, e.next = r, r.next
	r.next.prev = e
	r.next = e
}

// unlink takes e out of its ring.
func (e *cacheEntry[K, V]) unlink() {
	e.prev.next, e.next.prev = e.next, e.prev
}
