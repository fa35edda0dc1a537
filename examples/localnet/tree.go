package localnet

import (
	"bytes"
	"crypto/sha256"
	"slices"
)

// A hash tree as of the interface specification, section "Certification", in
// the shape of a crit-bit trie: every label is a leaf of a binary trie over
// the bits of the labels, so that inner nodes are bare forks. Nodes are never
// changed after they are made. An older root therefore stays readable while
// the state moves on, which is how the network answers from an older state.
// Depth grows with the logarithm of the number of labels for the hashed and
// the counted labels used here.

// node is one node of a labelled map. A nil *node is the empty tree.
type node struct {
	digest      [32]byte
	left, right *node
	bit         int // fork: index of the first bit in which the sides differ

	label []byte // labelled node: never nil, forks have nil
	value item
}

// item is what a label stands for: a leaf value or another labelled map.
type item struct {
	leaf bool
	data []byte
	kids *node
}

func leafOf(data []byte) item { return item{leaf: true, data: data} }
func mapOf(kids *node) item   { return item{kids: kids} }

var (
	emptyDigest = sha256.Sum256([]byte("\x11ic-hashtree-empty"))

	sepFork    = []byte("\x10ic-hashtree-fork")
	sepLabeled = []byte("\x13ic-hashtree-labeled")
	sepLeaf    = []byte("\x10ic-hashtree-leaf")
)

func digestOf(n *node) [32]byte {
	if n == nil {
		return emptyDigest
	}
	return n.digest
}

func (v item) digest() [32]byte {
	if !v.leaf {
		return digestOf(v.kids)
	}
	return leafDigest(v.data)
}

func leafDigest(data []byte) [32]byte {
	if len(data) <= 64 { // certified data, times, codes: no allocation
		var buf [17 + 64]byte
		n := copy(buf[:], sepLeaf)
		n += copy(buf[n:], data)
		return sha256.Sum256(buf[:n])
	}
	h := sha256.New()
	h.Write(sepLeaf)
	h.Write(data)
	var out [32]byte
	h.Sum(out[:0])
	return out
}

func forkDigest(l, r [32]byte) [32]byte {
	var buf [17 + 64]byte
	copy(buf[:], sepFork)
	copy(buf[17:], l[:])
	copy(buf[49:], r[:])
	return sha256.Sum256(buf[:])
}

func labeledDigest(label []byte, sub [32]byte) [32]byte {
	buf := make([]byte, 0, 160)
	buf = append(buf, sepLabeled...)
	buf = append(buf, label...)
	buf = append(buf, sub[:]...)
	return sha256.Sum256(buf)
}

func newLabeled(label []byte, v item) *node {
	if label == nil {
		label = []byte{}
	}
	return &node{label: label, value: v, digest: labeledDigest(label, v.digest())}
}

func newFork(bit int, l, r *node) *node {
	return &node{bit: bit, left: l, right: r, digest: forkDigest(l.digest, r.digest)}
}

// labelBit is bit i of a label, each byte preceded by a one and the end marked
// by a zero, which keeps the order of byte strings when one starts another.
func labelBit(label []byte, i int) int {
	at, off := i/9, i%9
	switch {
	case at >= len(label):
		return 0
	case off == 0:
		return 1
	}
	return int(label[at]>>(8-off)) & 1
}

// firstDifference is the first bit in which two different labels differ.
func firstDifference(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if x := a[i] ^ b[i]; x != 0 {
			bit := 1
			for x&0x80 == 0 {
				x <<= 1
				bit++
			}
			return i*9 + bit
		}
	}
	return n * 9
}

// nearest is the labelled node that shares the longest prefix with label.
func (n *node) nearest(label []byte) *node {
	for n.label == nil {
		if labelBit(label, n.bit) == 0 {
			n = n.left
		} else {
			n = n.right
		}
	}
	return n
}

// get returns what label stands for.
func (n *node) get(label []byte) (item, bool) {
	if n == nil {
		return item{}, false
	}
	if f := n.nearest(label); bytes.Equal(f.label, label) {
		return f.value, true
	}
	return item{}, false
}

// lookup follows a path of labels to a leaf.
func (n *node) lookup(path ...[]byte) ([]byte, bool) {
	v := mapOf(n)
	for _, label := range path {
		if v.leaf {
			return nil, false
		}
		var ok bool
		if v, ok = v.kids.get(label); !ok {
			return nil, false
		}
	}
	return v.data, v.leaf
}

// with returns the map in which label stands for v. The label is kept.
func (n *node) with(label []byte, v item) *node {
	fresh := newLabeled(label, v)
	if n == nil {
		return fresh
	}
	found := n.nearest(label)
	if bytes.Equal(found.label, label) {
		return n.replace(label, fresh)
	}
	return n.insert(firstDifference(found.label, label), fresh)
}

func (n *node) replace(label []byte, fresh *node) *node {
	switch {
	case n.label != nil:
		return fresh
	case labelBit(label, n.bit) == 0:
		return newFork(n.bit, n.left.replace(label, fresh), n.right)
	}
	return newFork(n.bit, n.left, n.right.replace(label, fresh))
}

func (n *node) insert(bit int, fresh *node) *node {
	if n.label != nil || bit < n.bit {
		if labelBit(fresh.label, bit) == 0 {
			return newFork(bit, fresh, n)
		}
		return newFork(bit, n, fresh)
	}
	if labelBit(fresh.label, n.bit) == 0 {
		return newFork(n.bit, n.left.insert(bit, fresh), n.right)
	}
	return newFork(n.bit, n.left, n.right.insert(bit, fresh))
}

// without returns the map that lacks label.
func (n *node) without(label []byte) *node {
	switch {
	case n == nil:
		return nil
	case n.label != nil:
		if bytes.Equal(n.label, label) {
			return nil
		}
		return n
	}
	l, r := n.left, n.right
	if labelBit(label, n.bit) == 0 {
		l = l.without(label)
	} else {
		r = r.without(label)
	}
	switch {
	case l == nil:
		return r
	case r == nil:
		return l
	case l == n.left && r == n.right:
		return n
	}
	return newFork(n.bit, l, r)
}

// each calls f for every label in order until f returns false.
func (n *node) each(f func(label []byte, v item) bool) bool {
	switch {
	case n == nil:
		return true
	case n.label != nil:
		return f(n.label, n.value)
	}
	return n.left.each(f) && n.right.each(f)
}

// neighbours are the labels beside an absent one: together they prove absence.
func (n *node) neighbours(label []byte) (before, after []byte) {
	n.each(func(l []byte, _ item) bool {
		if bytes.Compare(l, label) > 0 {
			after = l
			return false
		}
		before = l
		return true
	})
	return before, after
}

// pick says what of a tree a witness reveals.
type pick struct {
	all  bool             // everything below, to the leaves
	kids map[string]*pick // these labels; a nil pick shows the label and prunes what is below
}

// pickPaths selects the given paths with everything below them.
func pickPaths(paths ...[][]byte) *pick {
	root := &pick{}
	for _, path := range paths {
		p := root
		for _, label := range path {
			if p.all {
				break
			}
			if p.kids == nil {
				p.kids = map[string]*pick{}
			}
			next := p.kids[string(label)]
			if next == nil {
				next = &pick{}
				p.kids[string(label)] = next
			}
			p = next
		}
		p.all = true
	}
	return root
}

// appendWitness writes the tree of v pruned to what p selects. An absent label
// is answered by its neighbours.
func (v item) appendWitness(dst []byte, p *pick) []byte {
	switch {
	case p == nil:
		return appendPruned(dst, v.digest())
	case v.leaf:
		return appendBytes(append(dst, 0x82, 0x03), v.data)
	case v.kids == nil:
		return append(dst, 0x81, 0x00)
	case p.all:
		return v.kids.appendAll(dst)
	}
	labels := make([]string, 0, len(p.kids))
	picks := make(map[string]*pick, len(p.kids))
	show := func(label []byte, q *pick) {
		if label == nil {
			return
		}
		if old, ok := picks[string(label)]; !ok {
			labels = append(labels, string(label))
			picks[string(label)] = q
		} else if old == nil {
			picks[string(label)] = q
		}
	}
	for label, q := range p.kids {
		if _, ok := v.kids.get([]byte(label)); ok {
			show([]byte(label), q)
			continue
		}
		before, after := v.kids.neighbours([]byte(label))
		show(before, nil)
		show(after, nil)
	}
	slices.Sort(labels)
	return v.kids.appendPicked(dst, labels, picks)
}

func (n *node) appendAll(dst []byte) []byte {
	if n.label == nil {
		return n.right.appendAll(n.left.appendAll(append(dst, 0x83, 0x01)))
	}
	return n.value.appendWitness(appendBytes(append(dst, 0x83, 0x02), n.label), &pick{all: true})
}

// appendPicked writes n with the given labels, all of which lie below it.
func (n *node) appendPicked(dst []byte, labels []string, picks map[string]*pick) []byte {
	if len(labels) == 0 {
		return appendPruned(dst, n.digest)
	}
	if n.label != nil {
		return n.value.appendWitness(appendBytes(append(dst, 0x83, 0x02), n.label), picks[labels[0]])
	}
	at, _ := slices.BinarySearchFunc(labels, n.bit, func(label string, bit int) int {
		return labelBit([]byte(label), bit)*2 - 1
	})
	dst = n.left.appendPicked(append(dst, 0x83, 0x01), labels[:at], picks)
	return n.right.appendPicked(dst, labels[at:], picks)
}

func appendPruned(dst []byte, digest [32]byte) []byte {
	return append(append(dst, 0x82, 0x04, 0x58, 0x20), digest[:]...)
}
