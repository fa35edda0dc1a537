package verify

import (
	"bytes"
	"iter"
)

// Lookup is what a tree proves about a path. Only Found and Absent are proofs.
type Lookup int

// The results of a lookup.
const (
	// Unknown means that the path may be in a pruned part: the tree proves nothing.
	Unknown Lookup = iota
	// Found means that the path leads to a leaf.
	Found
	// Absent means that the tree proves that there is nothing at the path.
	Absent
	// LookupError means that the path leads to a subtree instead of a leaf.
	LookupError
)

// String returns the name of the result, in lower case.
func (l Lookup) String() string {
	switch l {
	case Found:
		return "found"
	case Absent:
		return "absent"
	case LookupError:
		return "not a leaf"
	}
	return "unknown"
}

// Lookup returns the value of the leaf at path, an alias of the parsed bytes. The value is nil unless the result is Found.
func (t *Tree) Lookup(path ...[]byte) ([]byte, Lookup) {
	at, r := t.find(path...)
	if r != Found {
		return nil, r
	}
	switch t.nodes[at].kind {
	case treeLeaf:
		return t.span(at), Found
	case treeEmpty:
		return nil, Absent
	case treePruned:
		return nil, Unknown
	}
	return nil, LookupError
}

// find returns the node at path, of any kind.
func (t *Tree) find(path ...[]byte) (uint32, Lookup) {
	if len(t.nodes) == 0 {
		return 0, Unknown
	}
	return t.findFrom(0, path...)
}

// findFrom is find below the node at.
func (t *Tree) findFrom(at uint32, path ...[]byte) (uint32, Lookup) {
	for _, label := range path {
		child, ok := t.child(at, label)
		if !ok {
			return 0, t.missing(at, label)
		}
		at = child
	}
	return at, Found
}

// child returns what is below label in the subtree at. Labels increase, so at each fork one comparison with the first label
// on the right decides the side.
func (t *Tree) child(at uint32, label []byte) (uint32, bool) {
	for {
		n := &t.nodes[at]
		switch n.kind {
		case treeFork:
			at++
			if first := t.nodes[n.right].min; first > 0 && bytes.Compare(label, t.span(first-1)) >= 0 {
				at = n.right
			}
		case treeLabeled:
			return at + 1, bytes.Equal(label, t.span(at))
		default:
			return 0, false
		}
	}
}

// missing tells whether the subtree at proves that label, which child did not find, does not exist. It does if no pruned
// node lies between the neighbours of label.
func (t *Tree) missing(at uint32, label []byte) Lookup {
	result := Absent
	for i, end := at, t.nodes[at].end; i < end; {
		switch n := &t.nodes[i]; n.kind {
		case treeLabeled:
			if bytes.Compare(t.span(i), label) > 0 {
				return result
			}
			result = Absent
			i = n.end
		case treePruned:
			result = Unknown
			i++
		default:
			i++
		}
	}
	return result
}

// children iterates over the labels of the subtree at and the nodes below them.
func (t *Tree) children(at uint32) iter.Seq2[[]byte, uint32] {
	return func(yield func([]byte, uint32) bool) {
		for i, end := at, t.nodes[at].end; i < end; {
			if t.nodes[i].kind != treeLabeled {
				i++
				continue
			}
			if !yield(t.span(i), i+1) {
				return
			}
			i = t.nodes[i].end
		}
	}
}

// whole reports whether no label of the subtree at may hide in a pruned part. What is below the labels is not looked at.
func (t *Tree) whole(at uint32) bool {
	for i, end := at, t.nodes[at].end; i < end; {
		switch n := &t.nodes[i]; n.kind {
		case treePruned:
			return false
		case treeLabeled:
			i = n.end
		default:
			i++
		}
	}
	return true
}
