package verify

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

func TestOnceCacheBounded(t *testing.T) {
	c := newOnceCache[int, int](3)
	computed := 0
	get := func(k int) int {
		v, err := c.get(k, func() (int, error) { computed++; return 10 * k, nil })
		if err != nil || v != 10*k {
			t.Fatalf("%d: %d, %v", k, v, err)
		}
		return computed
	}
	for i, step := range []struct{ key, computed int }{
		{1, 1}, {2, 2}, {3, 3}, {1, 3}, {4, 4}, {1, 4}, {3, 4}, {2, 5}, {4, 6}, {1, 7}, {2, 7}, {4, 7}, {3, 8},
	} {
		if got := get(step.key); got != step.computed {
			t.Errorf("step %d, key %d: computed %d times, want %d", i, step.key, got, step.computed)
		}
		if len(c.entries) > 3 || len(c.pending) != 0 {
			t.Errorf("step %d: %d entries, %d pending", i, len(c.entries), len(c.pending))
		}
	}
	if hits, misses := c.stats(); hits != 5 || misses != 8 {
		t.Errorf("%d hits, %d misses", hits, misses)
	}
}

func TestOnceCacheForgetsFailures(t *testing.T) {
	c := newOnceCache[string, int](3)
	broken := errors.New("broken")
	for range 3 {
		if _, err := c.get("k", func() (int, error) { return 0, broken }); err != broken {
			t.Errorf("got %v", err)
		}
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("panic swallowed")
			}
		}()
		c.get("k", func() (int, error) { panic("x") })
	}()
	if v, err := c.get("k", func() (int, error) { return 7, nil }); v != 7 || err != nil {
		t.Errorf("after failures: %d, %v", v, err)
	}
	if len(c.pending) != 0 {
		t.Errorf("%d pending", len(c.pending))
	}
}

func TestOnceCacheComputesOnce(t *testing.T) {
	c := newOnceCache[string, int](3)
	var computed atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			v, err := c.get("k", func() (int, error) {
				for { // until all others have asked
					if hits, _ := c.stats(); hits == 19 {
						return int(computed.Add(1)), nil
					}
					runtime.Gosched()
				}
			})
			if v != 1 || err != nil {
				t.Errorf("got %d, %v", v, err)
			}
		})
	}
	wg.Wait()
	if hits, misses := c.stats(); hits != 19 || misses != 1 {
		t.Errorf("%d hits, %d misses", hits, misses)
	}
}

// Certificates that are checked at once use one line table each, never a shared one.
func TestCertificateConcurrently(t *testing.T) {
	n := newTestNet(t)
	canister := parsed(t, vectorCanister)
	a := n.authority()
	var certs [][]byte
	for i := range 8 {
		certs = append(certs, n.certificate(canister, []byte{byte(i)}))
	}
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			c, err := a.Certificate(certs[i%8], canister, n.now)
			if err != nil {
				t.Error(err)
				return
			}
			if v, r := c.Lookup([]byte("canister"), canister.Bytes(), []byte("certified_data")); r != Found || v[0] != byte(i%8) {
				t.Errorf("certificate %d: got %x, %v", i%8, v, r)
			}
		})
	}
	wg.Wait()
	if s := a.Stats(); s.RootMisses != 8 || s.RootHits != 24 || s.DelegationMisses+s.DelegationHits != 32 {
		t.Errorf("stats %+v", s)
	}
}
