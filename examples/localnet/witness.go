package localnet

// witnessTree is the certified map of a CDK canister: message keys to the
// hashes of their contents, under the label "websocket". It is immutable.
type witnessTree interface {
	with(key string, leaf []byte) witnessTree
	without(key string) witnessTree
	// digest is the root hash with the label, the canister's certified data.
	digest() [32]byte
	// witness encodes the tree pruned to keys, which are ascending, adjacent
	// and present.
	witness(keys []string) []byte
}

var websocketLabel = []byte("websocket")

func newWitnessTree(motoko bool) witnessTree {
	if motoko {
		return trieWitness{}
	}
	return rbWitness{}
}

// trieWitness has its keys at the leaves, as the Motoko library's tree.
type trieWitness struct{ root *node }

func (t trieWitness) with(key string, leaf []byte) witnessTree {
	return trieWitness{t.root.with([]byte(key), leafOf(leaf))}
}

func (t trieWitness) without(key string) witnessTree {
	return trieWitness{t.root.without([]byte(key))}
}

func (t trieWitness) digest() [32]byte {
	return labeledDigest(websocketLabel, digestOf(t.root))
}

func (t trieWitness) witness(keys []string) []byte {
	paths := make([][][]byte, len(keys))
	for i, k := range keys {
		paths[i] = [][]byte{[]byte(k)}
	}
	dst := appendBytes(append([]byte(selfDescribe), 0x83, 0x02), websocketLabel)
	return mapOf(t.root).appendWitness(dst, pickPaths(paths...))
}
