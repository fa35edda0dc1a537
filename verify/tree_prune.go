package verify

// cborPrunedHead is what stands before the digest in a pruned node: array(2), 4, bytes(32).
const cborPrunedHead = "\x82\x04\x58\x20"

// AppendPruned appends the CBOR of the tree, tagged as self-described, with every subtree that is not on the way to the
// leaf at path replaced by its digest. Digest and the lookup of path stay the same. If there is no leaf at path the
// whole tree is one digest. It allocates only if dst is too small.
func (t *Tree) AppendPruned(dst []byte, path ...[]byte) []byte {
	if len(t.nodes) == 0 {
		return dst
	}
	at, r := t.find(path...)
	if r != Found || t.nodes[at].kind != treeLeaf {
		dst = append(dst, 0xd9, 0xd9, 0xf7)
		return append(append(dst, cborPrunedHead...), t.nodes[0].digest[:]...)
	}
	return t.appendPruned(dst, at)
}

// appendPruned is AppendPruned for the leaf with the given number.
func (t *Tree) appendPruned(dst []byte, leaf uint32) []byte {
	dst = append(dst, 0xd9, 0xd9, 0xf7)
	var rights [MaxTreeDepth]uint32 // right siblings to be written after what is left of them
	n := 0
	for at := uint32(0); at != leaf; {
		node := &t.nodes[at]
		switch {
		case node.kind == treeLabeled:
			dst = append(dst, 0x83, treeLabeled)
			dst = appendCBORBytes(dst, t.span(at))
			at++
		case leaf < node.right: // a fork, and the leaf is on its left
			dst = append(dst, 0x83, treeFork)
			rights[n] = node.right
			n++
			at++
		default:
			dst = append(dst, 0x83, treeFork)
			dst = t.appendSibling(dst, at+1)
			at = node.right
		}
	}
	dst = append(dst, 0x82, treeLeaf)
	dst = appendCBORBytes(dst, t.span(leaf))
	for n > 0 {
		n--
		dst = t.appendSibling(dst, rights[n])
	}
	return dst
}

// appendSibling appends a subtree as its digest. An empty one too, though it would be shorter as it is: clients in use
// take an empty left half for a proof that there is nothing in the right one.
func (t *Tree) appendSibling(dst []byte, at uint32) []byte {
	return append(append(dst, cborPrunedHead...), t.nodes[at].digest[:]...)
}

// prunedSize returns the number of bytes that appendPruned appends for a leaf.
func (t *Tree) prunedSize(leaf uint32) int {
	size := 3 + 2 + cborSize(len(t.span(leaf)))
	for at := uint32(0); at != leaf; {
		node := &t.nodes[at]
		if node.kind == treeLabeled {
			size += 2 + cborSize(len(t.span(at)))
			at++
			continue
		}
		size += 2 + len(cborPrunedHead) + 32
		if at++; leaf >= node.right {
			at = node.right
		}
	}
	return size
}
