package verify

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"math"
)

// Bounds of hash trees.
const (
	// MaxTreeDepth is the deepest nesting of CBOR arrays that Tree.Parse accepts. A Rust canister with 100,000 queued
	// messages gives witnesses of 34 levels.
	MaxTreeDepth = 128
	// MaxTreeNodes is the largest number of nodes that Tree.Parse accepts. A page of 50 messages from such a queue has
	// fewer than 4,000; all public keys of the Internet Computer fit as well.
	MaxTreeNodes = 1 << 16
)

// Errors of hash trees, made once so that hostile input costs no allocation.
var (
	errTreeDepth = fmt.Errorf("%w: hash tree nested deeper than %d levels", ErrMalformed, MaxTreeDepth)
	errTreeNodes = fmt.Errorf("%w: hash tree of more than %d nodes", ErrMalformed, MaxTreeNodes)
	errTreeNode  = fmt.Errorf("%w: hash tree node of unknown form", ErrMalformed)
	errTreeHash  = fmt.Errorf("%w: pruned hash tree node is not 32 bytes", ErrMalformed)
	errTreeOrder = fmt.Errorf("%w: hash tree labels do not increase", ErrMalformed)
	errTreeLeaf  = fmt.Errorf("%w: hash tree has a leaf beside labels", ErrMalformed)
)

// The five kinds of hash tree nodes, numbered as on the wire (IC interface specification, "Certificate").
const (
	treeEmpty   = 0
	treeFork    = 1
	treeLabeled = 2
	treeLeaf    = 3
	treePruned  = 4
)

// Tree is a hash tree of the Internet Computer, parsed into a flat list and hashed on the way. The zero value is ready to
// use. A Tree may parse again and then reuses its memory. Reading it concurrently is safe, parsing is not.
type Tree struct {
	raw   []byte     // what was parsed; spans of nodes point into it
	nodes []treeNode // in pre-order; the root is the first
	sum   hash.Hash  // for values too long for a stack buffer, made when needed
}

// treeNode is one node. Its first child, if it has one, follows it directly in the list.
type treeNode struct {
	digest   [32]byte
	from, to uint32 // span in raw of a label or a leaf's value
	right    uint32 // a fork's right child
	end      uint32 // the node after this subtree
	min      uint32 // 1 + the first labeled node at this level of the subtree, 0 if there is none
	kind     uint8
}

// noLabel says that no label came before on a level.
const noLabel = math.MaxUint32

// treeFrame is a node whose children are still being parsed.
type treeFrame struct {
	node uint32
	prev uint32 // the last label on the level of a labeled node
}

// Parse reads a tree from CBOR, with or without the self-describe tag, and computes all digests. The tree keeps raw, which
// must not change while the tree is in use.
//
// It requires what the specification calls well-formed: labels of one level strictly increase and leaves have a label
// (or are the whole tree). The error wraps ErrMalformed; after one the tree is empty, so that nothing can be found in it.
func (t *Tree) Parse(raw []byte) error {
	err := t.parse(raw)
	if err != nil {
		t.raw, t.nodes = nil, t.nodes[:0]
	}
	return err
}

func (t *Tree) parse(raw []byte) error {
	if len(raw) > math.MaxInt32 {
		return errTreeNodes
	}
	if t.nodes == nil {
		// A guess that saves growing step by step: most nodes are pruned ones, 36 bytes each.
		t.nodes = make([]treeNode, 0, min(len(raw)/24+4, MaxTreeNodes))
	}
	t.raw, t.nodes = raw, t.nodes[:0]
	c := cborReader{buf: raw}
	c.selfDescribe()

	var stack [MaxTreeDepth]treeFrame
	depth := 0
	prev := uint32(noLabel) // last label on the current level
	for {
		if depth == MaxTreeDepth {
			return errTreeDepth
		}
		if len(t.nodes) == MaxTreeNodes {
			return errTreeNodes
		}
		at := uint32(len(t.nodes))
		t.nodes = append(t.nodes, treeNode{})
		node := &t.nodes[at]
		if err := node.read(&c, raw); err != nil {
			return err
		}
		switch node.kind {
		case treeFork:
			stack[depth] = treeFrame{node: at}
			depth++
			continue
		case treeLabeled:
			label := raw[node.from:node.to]
			if prev != noLabel && bytes.Compare(t.span(prev), label) >= 0 {
				return errTreeOrder
			}
			stack[depth] = treeFrame{node: at, prev: at}
			depth++
			prev = noLabel
			continue
		case treeLeaf:
			if depth > 0 && t.nodes[stack[depth-1].node].kind == treeFork {
				return errTreeLeaf
			}
		}
		t.close(at)

		// The node is complete, and with it every open node of which it is the last child.
		for depth > 0 {
			f := stack[depth-1]
			parent := &t.nodes[f.node]
			if parent.kind == treeFork && parent.right == 0 {
				parent.right = uint32(len(t.nodes))
				break
			}
			t.close(f.node)
			if parent.kind == treeLabeled {
				prev = f.prev
			}
			depth--
		}
		if depth == 0 {
			return c.done()
		}
	}
}

// read reads a node up to its first child.
func (n *treeNode) read(c *cborReader, raw []byte) error {
	size := c.array()
	kind := c.uint()
	if c.err != nil {
		return c.err
	}
	if kind > treePruned || size != [...]int{1, 3, 3, 2, 2}[kind] {
		return errTreeNode
	}
	n.kind = uint8(kind)
	if kind == treeEmpty || kind == treeFork {
		return nil
	}
	b := c.bytes()
	if c.err != nil {
		return c.err
	}
	n.to = uint32(len(raw) - len(c.buf))
	n.from = n.to - uint32(len(b))
	if kind == treePruned {
		if len(b) != len(n.digest) {
			return errTreeHash
		}
		n.digest = [32]byte(b)
	}
	return nil
}

// close completes a node after its subtree: digest, end and first label.
func (t *Tree) close(at uint32) {
	n := &t.nodes[at]
	n.end = uint32(len(t.nodes))
	switch n.kind {
	case treeEmpty:
		n.digest = emptyDigest
	case treeFork:
		left, right := &t.nodes[at+1], &t.nodes[n.right]
		n.min = left.min
		if n.min == 0 {
			n.min = right.min
		}
		var buf [len(sepFork) + 64]byte
		copy(buf[:], sepFork)
		copy(buf[len(sepFork):], left.digest[:])
		copy(buf[len(sepFork)+32:], right.digest[:])
		n.digest = sha256.Sum256(buf[:])
	case treeLabeled:
		n.min = at + 1
		n.digest = t.hash(sepLabeled, t.span(at), t.nodes[at+1].digest[:])
	case treeLeaf:
		n.digest = t.hash(sepLeaf, t.span(at), nil)
	}
}

// Domain separators: a length byte and the text.
const (
	sepEmpty   = "\x11ic-hashtree-empty"
	sepFork    = "\x10ic-hashtree-fork"
	sepLabeled = "\x13ic-hashtree-labeled"
	sepLeaf    = "\x10ic-hashtree-leaf"
)

var emptyDigest = sha256.Sum256([]byte(sepEmpty))

// hash returns the SHA-256 digest of the concatenation of its arguments, without allocating for those of common size.
func (t *Tree) hash(sep string, a, b []byte) [32]byte {
	var buf [256]byte
	if n := len(sep) + len(a) + len(b); n <= len(buf) {
		copy(buf[:], sep)
		copy(buf[len(sep):], a)
		copy(buf[len(sep)+len(a):], b)
		return sha256.Sum256(buf[:n])
	}
	return t.hashLong(sep, a, b)
}

// hashLong is hash for long values. It is on its own because what it passes on escapes to the heap.
func (t *Tree) hashLong(sep string, a, b []byte) (digest [32]byte) {
	if t.sum == nil {
		t.sum = sha256.New()
	}
	t.sum.Reset()
	t.sum.Write([]byte(sep))
	t.sum.Write(a)
	t.sum.Write(b)
	copy(digest[:], t.sum.Sum(nil))
	return digest
}

// span returns the label or value of a node.
func (t *Tree) span(at uint32) []byte {
	n := &t.nodes[at]
	return t.raw[n.from:n.to:n.to]
}

// Digest returns the root hash. It is zero if nothing was parsed.
func (t *Tree) Digest() [32]byte {
	if len(t.nodes) == 0 {
		return [32]byte{}
	}
	return t.nodes[0].digest
}
