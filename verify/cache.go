package verify

import (
	"crypto/sha256"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
)

// memo remembers what is dear to compute, under the hash of what it was computed from. It is bounded: what was not used
// for longest makes room. Whoever asks for the same at the same time computes it once. Failures are not remembered, so
// nobody can fill it with them. Safe for concurrent use.
type memo[V any] struct {
	entries      *lru.Cache[memoKey, V]
	flights      singleflight.Group
	hits, misses atomic.Uint64
}

type memoKey [sha256.Size]byte

// newMemo returns a memo of at most limit entries, which is one or more.
func newMemo[V any](limit int) *memo[V] {
	entries, err := lru.New[memoKey, V](limit)
	if err != nil {
		panic("memo: " + err.Error()) // limits are constants
	}
	return &memo[V]{entries: entries}
}

// cached returns what is remembered for key. Ask it before making a closure for get: hits are the common case.
func (m *memo[V]) cached(key memoKey) (v V, ok bool) {
	if v, ok = m.entries.Get(key); ok {
		m.hits.Add(1)
	}
	return v, ok
}

// get returns what is remembered for key, or computes it. A panic of compute goes on to whoever asked.
func (m *memo[V]) get(key memoKey, compute func() (V, error)) (V, error) {
	if v, ok := m.cached(key); ok {
		return v, nil
	}
	computed := false
	v, err, _ := m.flights.Do(string(key[:]), func() (any, error) {
		if v, ok := m.entries.Get(key); ok { // somebody was just faster
			return v, nil
		}
		computed = true
		v, err := compute()
		if err == nil {
			m.entries.Add(key, v)
		}
		return v, err
	})
	if computed {
		m.misses.Add(1)
	} else {
		m.hits.Add(1)
	}
	return v.(V), err
}

// proofs are what one kind of certificates has proved. What clients send is kept apart from what hosts answer, so that
// nobody can push out the other's.
type proofs struct {
	// values bounds the CBOR values in one certificate.
	values int
	// delegations are subnet delegations, by their bytes. The nodes of a subnet have delegations of their own, renewed
	// every quarter of an hour and pruned for each canister, so there are many. One that is known in other bytes costs
	// little more than one that is known: its signature and its key are remembered below.
	delegations *memo[*delegation]
	// roots are signatures of state roots. A subnet signs about one a second.
	roots *memo[struct{}]
}

// Bounds of the memos. A delegation takes about a kilobyte, a prepared key 24 of them; the network has some fifty subnets.
const (
	maxDelegations = 1024
	maxRoots       = 4096
	maxSubnetKeys  = 128
)

func newProofs(values int) *proofs {
	return &proofs{values: values, delegations: newMemo[*delegation](maxDelegations), roots: newMemo[struct{}](maxRoots)}
}

// verifyRoot checks the signature of a state root by the subnet with the given key, or remembers having done so. The error
// is an *Error with CauseSignature.
func (p *proofs) verifyRoot(key *blsKey, root [sha256.Size]byte, signature []byte) error {
	if len(signature) != blsSignatureSize {
		return fail(CauseSignature, "certificate signature has the wrong length")
	}
	var id [blsKeySize + sha256.Size + blsSignatureSize]byte
	copy(id[:], key.raw[:])
	copy(id[blsKeySize:], root[:])
	copy(id[blsKeySize+sha256.Size:], signature)
	sum := memoKey(sha256.Sum256(id[:]))
	if _, ok := p.roots.cached(sum); ok {
		return nil
	}
	if _, err := p.roots.get(sum, func() (struct{}, error) {
		return struct{}{}, key.verifyRoot(root, signature)
	}); err != nil {
		return &Error{Cause: CauseSignature, Text: "checking certificate signature", Err: err}
	}
	return nil
}
