package verify

import (
	"crypto/sha256"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aviate-labs/agent-go/certification/hashtree"
	"github.com/fxamacker/cbor/v2"
)

func TestMemoBounded(t *testing.T) {
	m := newMemo[int](3)
	computed := 0
	get := func(k int) int {
		v, err := m.get(memoKey{byte(k)}, func() (int, error) { computed++; return 10 * k, nil })
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
		if n := m.entries.Len(); n > 3 {
			t.Errorf("step %d: %d entries", i, n)
		}
	}
	if hits, misses := m.hits.Load(), m.misses.Load(); hits != 5 || misses != 8 {
		t.Errorf("%d hits, %d misses", hits, misses)
	}
}

func TestMemoForgetsFailures(t *testing.T) {
	m := newMemo[int](3)
	broken := errors.New("broken")
	for range 3 {
		if _, err := m.get(memoKey{}, func() (int, error) { return 0, broken }); err != broken {
			t.Errorf("got %v", err)
		}
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("panic swallowed")
			}
		}()
		m.get(memoKey{}, func() (int, error) { panic("x") })
	}()
	if v, err := m.get(memoKey{}, func() (int, error) { return 7, nil }); v != 7 || err != nil {
		t.Errorf("after failures: %d, %v", v, err)
	}
}

func TestMemoComputesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemo[int32](3)
		var computed atomic.Int32
		done := make(chan struct{})
		for range 20 {
			go func() {
				v, err := m.get(memoKey{}, func() (int32, error) {
					<-done
					return computed.Add(1), nil
				})
				if v != 1 || err != nil {
					t.Errorf("got %d, %v", v, err)
				}
			}()
		}
		synctest.Wait() // all have asked
		close(done)
		synctest.Wait()
		if hits, misses := m.hits.Load(), m.misses.Load(); hits != 19 || misses != 1 {
			t.Errorf("%d hits, %d misses", hits, misses)
		}
	})
}

// The nodes of a subnet answer with delegations of their own, pruned for each canister. Each costs its check once.
func TestManyDelegationsOfOneSubnet(t *testing.T) {
	t.Parallel()
	n := newTestNet(t)
	a := n.authority()
	canister, _ := n.canisterRangeOf()
	var certs [][]byte
	for i := range 200 {
		tree := testLabels(
			labeled("subnet", labeled(string(n.id.Bytes()), testLabels(
				labeled("canister_ranges", n.ranges(n.canisterRangeOf())),
				labeled("public_key", hashtree.Leaf(n.der(n.subnet))),
			))),
			n.timeNode(n.now.Add(-time.Duration(i)*time.Second)),
		)
		certs = append(certs, n.sign(n.subnet, n.stateTree(canister, make([]byte, 32), n.now), n.delegation(tree)))
	}
	for range 3 {
		for _, c := range certs {
			if _, err := a.Certificate(c, canister, n.now); err != nil {
				t.Fatal(err)
			}
		}
	}
	if s := a.Stats(); s.DelegationMisses != 200 || s.DelegationHits != 400 || s.RootMisses != 201 {
		t.Errorf("stats %+v", s)
	}
	if n := a.keys.misses.Load(); n != 1 {
		t.Errorf("the subnet's key was prepared %d times", n)
	}
}

// withUnknownKey returns a certificate that says the same in other bytes: nothing signs its outer map.
func withUnknownKey(t *testing.T, cert []byte, i int) []byte {
	t.Helper()
	p, err := parseCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	out := appendCBORHead([]byte(selfDescribeTag), cborMap, 3)
	out = append(appendCBORText(out, "tree"), p.tree...)
	out = appendCBORBytes(appendCBORText(out, "signature"), p.signature)
	return appendCBORHead(appendCBORText(out, "x"), cborUint, uint64(1000+i))
}

// A delegation in other bytes is parsed again, and neither its signature nor its key is checked again.
func TestDelegationInOtherBytes(t *testing.T) {
	n := newTestNet(t)
	a := n.authority()
	canister, _ := n.canisterRangeOf()
	parts, err := parseCertificate(n.certificate(canister, make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if _, err := a.delegation(a.polled, parts.subnet, withUnknownKey(t, parts.delegation, i)); err != nil {
			t.Fatal(err)
		}
	}
	if s := a.Stats(); s.DelegationMisses != 10 || s.RootMisses != 1 || s.RootHits != 9 || a.keys.misses.Load() != 1 {
		t.Errorf("stats %+v, %d keys prepared", s, a.keys.misses.Load())
	}
}

// What strangers send in signatures cannot push out what polls rely on. The delegation in a forged canister signature is a
// real one with an unknown key added, as anybody can make it.
func TestForgedSignaturesPushOutNothing(t *testing.T) {
	n := newTestNet(t)
	a := n.authority()
	canister, _ := n.canisterRangeOf()
	honest := n.certificate(canister, make([]byte, 32))
	if _, err := a.Certificate(honest, canister, n.now); err != nil {
		t.Fatal(err)
	}
	parts, err := parseCertificate(honest)
	if err != nil {
		t.Fatal(err)
	}
	der := append([]byte{canister.n}, canister.Bytes()...)
	key, err := parsePublicKey(spki(t, oidCanisterSig, append(der, "seed"...)))
	if err != nil {
		t.Fatal(err)
	}
	msg := []byte("anything")
	seed, digest := sha256.Sum256([]byte("seed")), sha256.Sum256(msg)
	witness := encodeTree(t, labeled("sig", labeled(string(seed[:]), labeled(string(digest[:]), hashtree.Leaf{}))))
	for i := range 2 * maxDelegations {
		cert := appendCBORHead([]byte(selfDescribeTag), cborMap, 3)
		cert = append(appendCBORText(cert, "tree"), 0x81, 0x00)
		cert = appendCBORBytes(appendCBORText(cert, "signature"), make([]byte, blsSignatureSize))
		cert = appendCBORHead(appendCBORText(cert, "delegation"), cborMap, 2)
		cert = appendCBORPrincipal(appendCBORText(cert, "subnet_id"), n.id)
		cert = appendCBORBytes(appendCBORText(cert, "certificate"), withUnknownKey(t, parts.delegation, i))
		sig, err := cbor.Marshal(map[string]any{"certificate": cert, "tree": cbor.RawMessage(witness)})
		if err != nil {
			t.Fatal(err)
		}
		if err := key.verify(msg, sig, a, n.now); CauseOf(err) != CauseSignature {
			t.Fatalf("forged signature: %v", err)
		}
	}
	before := a.Stats()
	if _, err := a.Certificate(honest, canister, n.now); err != nil {
		t.Fatal(err)
	}
	after := a.Stats()
	if after.DelegationMisses != before.DelegationMisses || after.RootMisses != before.RootMisses {
		t.Errorf("the honest certificate had to be checked again: %+v, then %+v", before, after)
	}
	if n := a.sent.delegations.entries.Len(); n > maxDelegations {
		t.Errorf("%d delegations are kept", n)
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
	// One root is the delegation's. Test certificates have it in one of two encodings.
	if s := a.Stats(); s.RootMisses != 9 || s.RootHits != 23+s.DelegationMisses || s.DelegationMisses+s.DelegationHits != 32 {
		t.Errorf("stats %+v", s)
	}
}
