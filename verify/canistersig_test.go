package verify

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/certification/bls"
	"github.com/aviate-labs/agent-go/certification/hashtree"
	"github.com/aviate-labs/agent-go/principal"
	"github.com/fxamacker/cbor/v2"
)

// canisterSigner is a canister like Internet Identity, on a subnet of a test network. Trees are agent-go's. Its fields let
// a test forge what a canister or a subnet never says.
type canisterSigner struct {
	net        *testNet
	canister   Principal
	seed       []byte
	at         time.Time  // certified time of the signature
	delegation func() any // of the certificate; nil for none
	change     func(map[string]any)
	leaf       string
	more       []hashtree.Node // in the tree
	certified  []byte          // instead of the tree's root
	key        *bls.SecretKey
}

// newCanisterSigner puts a signing canister on the network's subnet.
func newCanisterSigner(n *testNet) *canisterSigner {
	first, _ := n.canisterRangeOf()
	s := &canisterSigner{net: n, canister: first, seed: []byte("user 10000"), at: n.now.Add(-20 * 24 * time.Hour), key: n.subnet}
	s.delegation = func() any { return n.delegation(n.flatTree(n.canisterRangeOf())) }
	return s
}

func (s *canisterSigner) PublicKey() []byte {
	bits := append([]byte{s.canister.n}, s.canister.Bytes()...)
	return spki(s.net.t, oidCanisterSig, append(bits, s.seed...))
}

func (s *canisterSigner) Sender() principal.Principal {
	return principal.NewSelfAuthenticating(s.PublicKey())
}

func (s *canisterSigner) Sign(msg []byte) ([]byte, error) {
	seed, digest := sha256.Sum256(s.seed), sha256.Sum256(msg)
	tree := testLabels(append(s.more,
		labeled("http_assets", hashtree.Pruned(sha256.Sum256([]byte("not about us")))),
		labeled("sig", labeled(string(seed[:]), labeled(string(digest[:]), leaf(s.leaf)))),
	)...)
	root := tree.Reconstruct()
	certified := root[:]
	if s.certified != nil {
		certified = s.certified
	}
	var delegation any
	if s.delegation != nil {
		delegation = s.delegation()
	}
	m := map[string]any{
		"certificate": s.net.sign(s.key, s.net.stateTree(s.canister, certified, s.at), delegation),
		"tree":        cbor.RawMessage(encodeTree(s.net.t, tree)),
	}
	if s.change != nil {
		s.change(m)
	}
	return append([]byte(selfDescribeTag), s.net.marshal(m)...), nil
}

// typedTree is the flat state of a subnet that also states its type.
func (n *testNet) typedTree(kind string) hashtree.Node {
	first, last := n.canisterRangeOf()
	return testLabels(
		labeled("subnet", labeled(string(n.id.Bytes()), testLabels(
			labeled("canister_ranges", n.ranges(first, last)),
			labeled("public_key", hashtree.Leaf(n.der(n.subnet))),
			labeled("type", hashtree.Leaf(kind)),
		))),
		n.timeNode(n.now.Add(-8*24*time.Hour)),
	)
}

// A session of Internet Identity: the canister delegates to a session key, which signs the requests.
func TestCanisterSignature(t *testing.T) {
	n := newTestNet(t)
	first, last := n.canisterRangeOf()
	session := ed25519FromSeed(t, 1)
	verify := func(s *canisterSigner, a *Authority) error {
		r := Request{Delegations: chainOf(t, nil, s, session), RootKey: s.PublicKey()}
		chain, err := VerifySender(signed(t, r, session), goldenTime, a, nil)
		if err != nil {
			return err
		}
		r.Arg = []byte("next")
		_, err = VerifySender(signed(t, r, session), goldenTime, nil, chain) // cached: needs no authority
		return err
	}
	// The signing canister lives on another subnet of the same network than the one called.
	elsewhere := *n
	elsewhere.subnet = bls.NewSecretKeyByCSPRNG()
	elsewhere.id = SelfAuthenticating(n.der(elsewhere.subnet))
	for _, tc := range []struct {
		name   string
		net    *testNet
		change func(*canisterSigner)
		ok     bool
	}{
		{"flat ranges", n, func(*canisterSigner) {}, true},
		{"sharded ranges", n, func(s *canisterSigner) {
			s.delegation = func() any { return n.delegation(n.shardedTree(first, last)) }
		}, true},
		{"another subnet", &elsewhere, func(*canisterSigner) {}, true},
		{"another subnet, sharded", &elsewhere, func(s *canisterSigner) {
			s.delegation = func() any { return elsewhere.delegation(elsewhere.shardedTree(first, last)) }
		}, true},
		{"root subnet", n, func(s *canisterSigner) { s.key, s.delegation = n.root, nil }, true},
		{"type application", n, func(s *canisterSigner) {
			s.delegation = func() any { return n.delegation(n.typedTree("application")) }
		}, true},
		{"empty seed", n, func(s *canisterSigner) { s.seed = nil }, true},
		{"type cloud_engine", n, func(s *canisterSigner) {
			s.delegation = func() any { return n.delegation(n.typedTree("cloud_engine")) }
		}, false},
		{"canister out of range", n, func(s *canisterSigner) {
			s.canister, _ = PrincipalFromBytes([]byte{0x80, 0, 0, 0, 0, 0x20, 0, 0, 1, 1})
		}, false},
		{"signed by another key", n, func(s *canisterSigner) { s.key = elsewhere.subnet }, false},
		{"delegation to another subnet", n, func(s *canisterSigner) {
			s.delegation = func() any { return elsewhere.delegation(elsewhere.flatTree(first, last)) }
		}, false},
		{"no delegation", n, func(s *canisterSigner) { s.delegation = nil }, false},
		{"leaf not empty", n, func(s *canisterSigner) { s.leaf = "x" }, false},
		{"other certified data", n, func(s *canisterSigner) { s.certified = make([]byte, 32) }, false},
		{"no certificate", n, func(s *canisterSigner) { s.change = func(m map[string]any) { delete(m, "certificate") } }, false},
		{"no tree", n, func(s *canisterSigner) { s.change = func(m map[string]any) { delete(m, "tree") } }, false},
		{"tree not a tree", n, func(s *canisterSigner) { s.change = func(m map[string]any) { m["tree"] = []any{} } }, false},
		{"certificate not one", n, func(s *canisterSigner) { s.change = func(m map[string]any) { m["certificate"] = []byte{0xa0} } }, false},
	} {
		s := newCanisterSigner(tc.net)
		tc.change(s)
		err := verify(s, n.authority())
		if (err == nil) != tc.ok || err != nil && CauseOf(err) != CauseDelegation {
			t.Errorf("%s: got %v", tc.name, err)
		}
	}
	// Another network's canister is nobody here, and without a root key nobody can tell.
	s := newCanisterSigner(n)
	if err := verify(s, newTestNet(t).authority()); CauseOf(err) != CauseDelegation {
		t.Errorf("another network: got %v", err)
	}
	if err := verify(s, nil); CauseOf(err) != CauseScheme || !errors.Is(err, ErrUnknownScheme) {
		t.Errorf("no authority: got %v", err)
	}
}

// A canister can be made that signs with as large a tree as it likes, and anybody can send a large certificate: all of it
// would be hashed before it is refused.
func TestCanisterSignatureBounded(t *testing.T) {
	n := newTestNet(t)
	first, last := n.canisterRangeOf()
	parts := func(count int) (all []hashtree.Node) {
		for i := range count {
			all = append(all, labeled(fmt.Sprintf("a%04d", i), hashtree.Leaf("x"))) // eight values with its fork
		}
		return all
	}
	certificate := func(s *canisterSigner, delegated []hashtree.Node, state ...hashtree.Node) {
		s.delegation = func() any { return n.delegation(testLabels(append(delegated, n.flatTree(first, last))...)) }
		s.change = func(m map[string]any) {
			m["certificate"] = n.sign(n.subnet, testLabels(append(state, n.stateTree(first, make([]byte, 32), n.now))...), s.delegation())
		}
	}
	for name, change := range map[string]func(s *canisterSigner, count int){
		"tree":        func(s *canisterSigner, count int) { s.more = parts(count) },
		"certificate": func(s *canisterSigner, count int) { certificate(s, nil, parts(count)...) },
		"delegation":  func(s *canisterSigner, count int) { certificate(s, parts(count)) },
	} {
		for _, count := range []int{maxSignatureValues / 16, maxSignatureValues / 8} {
			s := newCanisterSigner(n)
			change(s, count)
			sig, err := s.Sign([]byte("message"))
			if err != nil {
				t.Fatal(err)
			}
			key, err := parsePublicKey(s.PublicKey())
			if err != nil {
				t.Fatal(err)
			}
			err = key.verify([]byte("message"), sig, n.authority(), goldenTime)
			if errors.Is(err, errCBORValues) != (count == maxSignatureValues/8) {
				t.Errorf("%s with %d parts: %v", name, count, err)
			}
		}
	}
}

// A canister signature belongs to one canister, one seed and one message.
func TestCanisterSignatureIsForOne(t *testing.T) {
	t.Parallel()
	n := newTestNet(t)
	a := n.authority()
	s := newCanisterSigner(n)
	sig, err := s.Sign([]byte("message"))
	if err != nil {
		t.Fatal(err)
	}
	check := func(s *canisterSigner, msg string, sig []byte) error {
		key, err := parsePublicKey(s.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		return key.verify([]byte(msg), sig, a, goldenTime)
	}
	if err := check(s, "message", sig); err != nil {
		t.Fatal(err)
	}
	if err := check(s, "another", sig); CauseOf(err) != CauseSignature {
		t.Errorf("another message: got %v", err)
	}
	other := *s
	other.seed = []byte("user 10001")
	if err := check(&other, "message", sig); CauseOf(err) != CauseSignature {
		t.Errorf("another seed: got %v", err)
	}
	other = *s
	_, other.canister = n.canisterRangeOf()
	if err := check(&other, "message", sig); CauseOf(err) != CauseSignature {
		t.Errorf("another canister: got %v", err)
	}
	for i := len(selfDescribeTag); i < len(sig); i++ { // without its tag the signature would still be good
		changed := bytes.Clone(sig)
		changed[i] ^= 1
		if err := check(s, "message", changed); CauseOf(err) != CauseSignature {
			t.Errorf("byte %d changed: got %v", i, err)
		}
	}
	for k := 0; k < len(sig); k += 7 {
		if err := check(s, "message", sig[:k]); CauseOf(err) != CauseSignature {
			t.Errorf("cut at %d: got %v", k, err)
		}
	}
}
