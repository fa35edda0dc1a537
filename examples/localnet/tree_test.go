package localnet

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/aviate-labs/agent-go/certification/hashtree"
	"github.com/fxamacker/cbor/v2"

	"github.com/icws-gateway/caddy-icws/verify"
)

// decodeTree reads a hash tree with agent-go, past its nesting limit of 32.
func decodeTree(t testing.TB, b []byte) hashtree.Node {
	t.Helper()
	mode, err := cbor.DecOptions{MaxNestedLevels: 256}.DecMode()
	if err != nil {
		t.Fatal(err)
	}
	var s []any
	if err := mode.Unmarshal(b, &s); err != nil {
		t.Fatalf("%v in %x", err, b)
	}
	n, err := hashtree.DeserializeNode(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The worked example of the protocol reference: three messages in one queue,
// the witness for the middle one, made by the Rust library.
func TestGoldenWitness(t *testing.T) {
	const (
		witness = "d9d9f7830249776562736f636b6574830182045820a1e9242d0010475ac0df2ab5a51ece424fd7f0114cd019ffb3de46b54a26ca7a830183025854696d376b732d70716261692d62716962692d67613465612d7363716c622d71677134642d797163656a2d62676661762d63796c72712d676932646d2d6f61655f303030303030303030303030303030303030303182035820d537b046e036921e5619152a93d711071415c880f75901ab49c0d3834e2ffc898204582010dd0c03b35a44bfc5643041af582a8ec181d2d8e620678b8e929b051a04298e"
		root    = "dacc627163977de5b9fd01b044327fc06bc26a51426e98b5edffd78cad5dd45b"
		gateway = "im7ks-pqbai-bqibi-ga4ea-scqlb-qgq4d-yqcej-bgfav-cylrq-gi2dm-oae"
	)
	g, err := verify.ParsePrincipal(gateway)
	if err != nil {
		t.Fatal(err)
	}
	// The leaves of the outer keys are not part of the vector: their subtrees
	// enter as what the vector says they hash to.
	middle := newRBNode(messageKey(g, 1), unhex(t, "d537b046e036921e5619152a93d711071415c880f75901ab49c0d3834e2ffc89"))
	middle.left = &rbNode{key: messageKey(g, 0), digest: [32]byte(unhex(t, "a1e9242d0010475ac0df2ab5a51ece424fd7f0114cd019ffb3de46b54a26ca7a")), sealed: true}
	middle.right = &rbNode{key: messageKey(g, 2), digest: [32]byte(unhex(t, "10dd0c03b35a44bfc5643041af582a8ec181d2d8e620678b8e929b051a04298e")), sealed: true}
	middle.seal()
	tree := rbWitness{middle}
	if got := tree.witness([]string{messageKey(g, 1)}); !bytes.Equal(got, unhex(t, witness)) {
		t.Errorf("witness\n%x, want\n%s", got, witness)
	}
	if got := tree.digest(); !bytes.Equal(got[:], unhex(t, root)) {
		t.Errorf("root %x, want %s", got, root)
	}
	if got := leafDigest(middle.leaf); !bytes.Equal(got[:], unhex(t, "4c4e064c62815197de4a5b6582131b672f54a14fca55abd84fe3f74a19eb4e2c")) {
		t.Errorf("leaf digest %x", got)
	}
}

// Three keys inserted in order take the shape of the worked example, and its
// full witness has the size that the reference states.
func TestShapeOfThree(t *testing.T) {
	g := canisterID(1)
	var tree witnessTree = rbWitness{}
	for i := range uint64(3) {
		h := sha256.Sum256([]byte{byte(i)})
		tree = tree.with(messageKey(g, i), h[:])
	}
	root := tree.(rbWitness).root
	if root.key != messageKey(g, 1) || root.left == nil || root.right == nil {
		t.Fatalf("root is %s", root.key)
	}
}

func nesting(n hashtree.Node) int {
	switch n := n.(type) {
	case hashtree.Fork:
		return 1 + max(nesting(n.LeftTree), nesting(n.RightTree))
	case hashtree.Labeled:
		return 1 + nesting(n.Tree)
	}
	return 1
}

// Witness depths of queues made by the Rust library are in the reference.
func TestWitnessNesting(t *testing.T) {
	t.Parallel()
	g := verify.SelfAuthenticating([]byte("gateway"))
	want := map[int]int{100: 14, 1000: 20, 5000: 26, 20000: 30}
	var tree witnessTree = rbWitness{}
	leaf := make([]byte, 32)
	for i := range 20000 {
		tree = tree.with(messageKey(g, uint64(i)), leaf)
		if depth, ok := want[i+1]; ok {
			var keys []string
			for k := i + 1 - 50; k <= i; k++ {
				keys = append(keys, messageKey(g, uint64(k)))
			}
			w := tree.witness(keys)
			if got := nesting(decodeTree(t, w)); got != depth {
				t.Errorf("%d messages: %d levels, the reference has %d", i+1, got, depth)
			}
		}
	}
}

// Random insertions and deletions: the digest equals that of the witness by
// agent-go, every key is found in it, pruning keeps the root, older trees stay
// as they were.
func TestWitnessTrees(t *testing.T) {
	t.Parallel()
	for _, motoko := range []bool{false, true} {
		t.Run(fmt.Sprintf("motoko=%v", motoko), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			tree := newWitnessTree(motoko)
			have := map[string][]byte{}
			for step := range 600 {
				key := fmt.Sprintf("key %04d", rng.IntN(120))
				before, root := tree, tree.digest()
				if rng.IntN(3) == 0 {
					tree = tree.without(key)
					delete(have, key)
				} else {
					leaf := sha256.Sum256([]byte{byte(step), byte(step >> 8)})
					tree = tree.with(key, leaf[:])
					have[key] = leaf[:]
				}
				if before.digest() != root {
					t.Fatal("an older tree changed")
				}
				if len(have) == 0 {
					continue
				}
				keys := slices.Sorted(maps.Keys(have))
				lo := rng.IntN(len(keys))
				keys = keys[lo : lo+1+rng.IntN(len(keys)-lo)]
				w := decodeTree(t, tree.witness(keys))
				if w.Reconstruct() != tree.digest() {
					t.Fatalf("step %d: root %x, want %x", step, w.Reconstruct(), tree.digest())
				}
				for _, k := range keys {
					leaf, err := hashtree.Lookup(w, label("websocket"), label(k))
					if err != nil || !bytes.Equal(leaf, have[k]) {
						t.Fatalf("step %d: %s is %x, %v", step, k, leaf, err)
					}
				}
				paths := w.(hashtree.Labeled).Tree
				var labels []string
				collect(paths, &labels)
				if !slices.Equal(labels, keys) {
					t.Fatalf("step %d: the witness shows %q, want %q", step, labels, keys)
				}
			}
		})
	}
}

func collect(n hashtree.Node, out *[]string) {
	switch n := n.(type) {
	case hashtree.Fork:
		collect(n.LeftTree, out)
		collect(n.RightTree, out)
	case hashtree.Labeled:
		*out = append(*out, string(n.Label))
	}
}

// Labels of which one starts another stay in order, and absence is proven by
// the neighbours.
func TestTriePrefixesAndAbsence(t *testing.T) {
	labels := []string{"", "a", "aa", "ab", "b", "ba\x00", "ba", "\xff", "\xff\xff", "\x00"}
	var m *node
	for _, l := range labels {
		m = m.with([]byte(l), leafOf([]byte("value of "+l)))
	}
	slices.Sort(labels)
	var got []string
	m.each(func(l []byte, _ item) bool { got = append(got, string(l)); return true })
	if !slices.Equal(got, labels) {
		t.Fatalf("order %q, want %q", got, labels)
	}
	for _, absent := range []string{"ac", "0", "\xff\xff\xff", "aaa", "ba\x00\x00"} {
		w := decodeTree(t, mapOf(m).appendWitness(nil, pickPaths([][]byte{[]byte(absent)})))
		if w.Reconstruct() != m.digest {
			t.Fatalf("absence of %q: wrong root", absent)
		}
		_, err := hashtree.Lookup(w, label(absent))
		le, ok := err.(hashtree.LookupError)
		if !ok || le.Type != hashtree.LookupResultAbsent {
			t.Errorf("absence of %q: %v", absent, err)
		}
	}
	for _, l := range labels {
		m = m.without([]byte(l))
		if _, ok := m.get([]byte(l)); ok {
			t.Fatalf("%q is still there", l)
		}
	}
	if m != nil {
		t.Fatal("not empty")
	}
}
