//go:build e2e

package opinion

import (
	"crypto/sha256"
	"math/rand/v2"
)

// node is a hash tree that can be made as the specification does not want it.
type node struct {
	kind        uint64
	b           []byte // label, value or digest
	left, right *node  // of a fork; a labelled node has left alone
}

const (
	nEmpty, nFork, nLabeled, nLeaf, nPruned = 0, 1, 2, 3, 4
)

func emptyNode() *node      { return &node{kind: nEmpty} }
func fork(l, r *node) *node { return &node{kind: nFork, left: l, right: r} }
func labeled(label string, below *node) *node {
	return &node{kind: nLabeled, b: []byte(label), left: below}
}
func leaf(b []byte) *node { return &node{kind: nLeaf, b: b} }
func pruned(t *node) *node {
	d := t.digest()
	return &node{kind: nPruned, b: d[:]}
}

func (t *node) digest() [32]byte {
	sum := func(name string, parts ...[]byte) [32]byte {
		h := sha256.New()
		h.Write(append([]byte{byte(len(name))}, name...))
		for _, p := range parts {
			h.Write(p)
		}
		return [32]byte(h.Sum(nil))
	}
	switch t.kind {
	case nEmpty:
		return sum("ic-hashtree-empty")
	case nFork:
		l, r := t.left.digest(), t.right.digest()
		return sum("ic-hashtree-fork", l[:], r[:])
	case nLabeled:
		d := t.left.digest()
		return sum("ic-hashtree-labeled", t.b, d[:])
	case nLeaf:
		return sum("ic-hashtree-leaf", t.b)
	}
	var d [32]byte
	copy(d[:], t.b)
	return d
}

// item is the tree as CBOR.
func (t *node) item() *item {
	switch t.kind {
	case nEmpty:
		return arrayItem(uintItem(nEmpty))
	case nFork:
		return arrayItem(uintItem(nFork), t.left.item(), t.right.item())
	case nLabeled:
		return arrayItem(uintItem(nLabeled), bytesItem(t.b), t.left.item())
	}
	return arrayItem(uintItem(t.kind), bytesItem(t.b))
}

// forest joins labelled nodes, in the order given, into a tree of random shape.
func forest(r *rand.Rand, nodes ...*node) *node {
	switch len(nodes) {
	case 0:
		return emptyNode()
	case 1:
		return nodes[0]
	}
	at := 1 + r.IntN(len(nodes)-1)
	return fork(forest(r, nodes[:at]...), forest(r, nodes[at:]...))
}

// clone copies a tree, so that a change stays in the copy.
func (t *node) clone() *node {
	if t == nil {
		return nil
	}
	c := *t
	c.left, c.right = t.left.clone(), t.right.clone()
	return &c
}

// labels collects the places at which a labelled node stands.
func (t *node) labels(at **node, to []**node) []**node {
	switch t.kind {
	case nFork:
		return t.right.labels(&t.right, t.left.labels(&t.left, to))
	case nLabeled:
		return t.left.labels(&t.left, append(to, at))
	}
	return to
}

// treeTwists are the ways in which the shape of a tree can be odd. Those that the specification calls well-formed come
// first.
var treeTwists = []string{
	"sibling", "sibling before", "pruned sibling", "pruned before", "longer label", "prefix label",
	"empty left", "empty right", "same label", "label out of order", "leaf beside", "leaf before", "empty label", "pruned away", "bare leaf",
	"deep",
}

// twist changes the tree around one of its labels.
func (t *node) twist(r *rand.Rand, kind string) *node {
	root := t.clone()
	places := root.labels(&root, nil)
	if len(places) == 0 {
		return root
	}
	at := pick(r, places)
	it := *at
	label := string(it.b)
	other := func() *node { return leaf([]byte("other")) }
	set := func(n *node) { *at = n }
	switch kind {
	case "sibling":
		set(fork(it, labeled(label+"\xff", other())))
	case "sibling before":
		set(fork(labeled("\x00"+label, other()), it))
	case "longer label":
		set(fork(it, labeled(label+"\x00", other())))
	case "prefix label":
		if len(label) > 0 {
			set(fork(labeled(label[:r.IntN(len(label))], other()), it))
		}
	case "empty label":
		set(fork(labeled("", other()), it))
	case "pruned sibling":
		set(fork(it, pruned(labeled("z"+label, other()))))
	case "pruned before":
		set(fork(pruned(labeled("\x00", other())), it))
	case "empty left":
		set(fork(emptyNode(), it))
	case "empty right":
		set(fork(it, emptyNode()))
	case "same label":
		if r.IntN(2) == 0 {
			set(fork(it, labeled(label, other())))
		} else {
			set(fork(labeled(label, other()), it))
		}
	case "label out of order":
		if r.IntN(2) == 0 {
			set(fork(it, labeled("\x00", other())))
		} else {
			set(fork(labeled(label+"\xff", other()), it))
		}
	case "leaf beside":
		set(fork(it, other()))
	case "leaf before":
		set(fork(other(), it))
	case "pruned away":
		set(pruned(it))
	case "bare leaf":
		set(labeled(label, fork(other(), it.left)))
	case "deep":
		for range 20 + r.IntN(60) {
			it = fork(it, pruned(labeled("\xff", other())))
		}
		set(it)
	}
	return root
}
