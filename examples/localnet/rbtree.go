package localnet

import "strings"

// rbNode is a node of a left-leaning red-black tree (Sedgewick 2008) with a key
// at every node, the shape of the certified map of the Rust canister library:
// the hash tree of a node is its label beside those of its children. Nodes are
// never changed once their tree is sealed, so that an older root stays
// readable; sharing is by copying the path to a change.
type rbNode struct {
	key         string
	leaf        []byte
	left, right *rbNode
	red, sealed bool

	labeled [32]byte // of key and leaf
	digest  [32]byte // of the whole subtree, once sealed
}

func newRBNode(key string, leaf []byte) *rbNode {
	return &rbNode{key: key, leaf: leaf, red: true, labeled: labeledDigest([]byte(key), leafDigest(leaf))}
}

func isRed(n *rbNode) bool { return n != nil && n.red }

// own returns a node that may be changed: n itself while it is unsealed.
func (n *rbNode) own() *rbNode {
	if n == nil || !n.sealed {
		return n
	}
	c := *n
	c.sealed = false
	return &c
}

// seal computes the digests of what changed and ends the changing.
func (n *rbNode) seal() {
	if n == nil || n.sealed {
		return
	}
	n.left.seal()
	n.right.seal()
	n.digest = n.labeled
	if n.right != nil {
		n.digest = forkDigest(n.digest, n.right.digest)
	}
	if n.left != nil {
		n.digest = forkDigest(n.left.digest, n.digest)
	}
	n.sealed = true
}

func rotateLeft(h *rbNode) *rbNode {
	x := h.right.own()
	h.right, x.left = x.left, h
	x.red, h.red = h.red, true
	return x
}

func rotateRight(h *rbNode) *rbNode {
	x := h.left.own()
	h.left, x.right = x.right, h
	x.red, h.red = h.red, true
	return x
}

func flipColors(h *rbNode) {
	h.left, h.right = h.left.own(), h.right.own()
	h.red, h.left.red, h.right.red = !h.red, !h.left.red, !h.right.red
}

func fixUp(h *rbNode) *rbNode {
	if isRed(h.right) && !isRed(h.left) {
		h = rotateLeft(h)
	}
	if isRed(h.left) && isRed(h.left.left) {
		h = rotateRight(h)
	}
	if isRed(h.left) && isRed(h.right) {
		flipColors(h)
	}
	return h
}

func (n *rbNode) insert(key string, leaf []byte) *rbNode {
	if n == nil {
		return newRBNode(key, leaf)
	}
	h := n.own()
	switch strings.Compare(key, h.key) {
	case 0:
		h.leaf, h.labeled = leaf, labeledDigest([]byte(key), leafDigest(leaf))
	case -1:
		h.left = h.left.insert(key, leaf)
	default:
		h.right = h.right.insert(key, leaf)
	}
	return fixUp(h)
}

func moveRedLeft(h *rbNode) *rbNode {
	flipColors(h)
	if isRed(h.right.left) {
		h.right = rotateRight(h.right)
		h = rotateLeft(h)
		flipColors(h)
	}
	return h
}

func moveRedRight(h *rbNode) *rbNode {
	flipColors(h)
	if isRed(h.left.left) {
		h = rotateRight(h)
		flipColors(h)
	}
	return h
}

func (n *rbNode) deleteMin() *rbNode {
	h := n.own()
	if h.left == nil {
		return nil
	}
	if !isRed(h.left) && !isRed(h.left.left) {
		h = moveRedLeft(h)
	}
	h.left = h.left.deleteMin()
	return fixUp(h)
}

func (n *rbNode) min() *rbNode {
	for n.left != nil {
		n = n.left
	}
	return n
}

// delete removes a key that is present.
func (n *rbNode) delete(key string) *rbNode {
	h := n.own()
	if key < h.key {
		if !isRed(h.left) && !isRed(h.left.left) {
			h = moveRedLeft(h)
		}
		h.left = h.left.delete(key)
		return fixUp(h)
	}
	if isRed(h.left) {
		h = rotateRight(h)
	}
	if key == h.key && h.right == nil {
		return nil
	}
	if !isRed(h.right) && !isRed(h.right.left) {
		h = moveRedRight(h)
	}
	if key == h.key {
		m := h.right.min()
		h.key, h.leaf, h.labeled = m.key, m.leaf, m.labeled
		h.right = h.right.deleteMin()
	} else {
		h.right = h.right.delete(key)
	}
	return fixUp(h)
}

func (n *rbNode) has(key string) bool {
	for n != nil && n.key != key {
		if key < n.key {
			n = n.left
		} else {
			n = n.right
		}
	}
	return n != nil
}

// rbWitness is the tree of a Rust canister.
type rbWitness struct{ root *rbNode }

func (t rbWitness) with(key string, leaf []byte) witnessTree {
	root := t.root.insert(key, leaf)
	root.red = false
	root.seal()
	return rbWitness{root}
}

func (t rbWitness) without(key string) witnessTree {
	if !t.root.has(key) {
		return t
	}
	root := t.root.own()
	if !isRed(root.left) && !isRed(root.right) {
		root.red = true
	}
	if root = root.delete(key); root != nil {
		root = root.own()
		root.red = false
		root.seal()
	}
	return rbWitness{root}
}

func (t rbWitness) digest() [32]byte {
	inner := emptyDigest
	if t.root != nil {
		inner = t.root.digest
	}
	return labeledDigest(websocketLabel, inner)
}

func (t rbWitness) witness(keys []string) []byte {
	dst := appendBytes(append([]byte(selfDescribe), 0x83, 0x02), websocketLabel)
	if t.root == nil {
		return append(dst, 0x81, 0x00)
	}
	return t.root.appendRange(dst, keys[0], keys[len(keys)-1])
}

// appendRange writes the subtree pruned to the keys from lo to hi.
func (n *rbNode) appendRange(dst []byte, lo, hi string) []byte {
	if !n.touches(lo, hi) {
		return appendPruned(dst, n.digest)
	}
	if n.left != nil {
		dst = append(dst, 0x83, 0x01)
		dst = n.left.appendRange(dst, lo, hi)
	}
	in := lo <= n.key && n.key <= hi
	switch {
	case n.right == nil && in:
		return n.appendLabeled(dst)
	case n.right == nil:
		return appendPruned(dst, n.labeled)
	case !in && !n.right.touches(lo, hi):
		return appendPruned(dst, forkDigest(n.labeled, n.right.digest))
	}
	dst = append(dst, 0x83, 0x01)
	if in {
		dst = n.appendLabeled(dst)
	} else {
		dst = appendPruned(dst, n.labeled)
	}
	return n.right.appendRange(dst, lo, hi)
}

func (n *rbNode) appendLabeled(dst []byte) []byte {
	dst = appendBytes(append(dst, 0x83, 0x02), []byte(n.key))
	return appendBytes(append(dst, 0x82, 0x03), n.leaf)
}

// touches tells whether the subtree holds a key from lo to hi.
func (n *rbNode) touches(lo, hi string) bool {
	for n != nil {
		switch {
		case n.key < lo:
			n = n.right
		case n.key > hi:
			n = n.left
		default:
			return true
		}
	}
	return false
}
