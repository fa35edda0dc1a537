package verify

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aviate-labs/agent-go/certification/hashtree"
	"github.com/fxamacker/cbor/v2"
)

// parseTree parses a tree that must be good.
func parseTree(t testing.TB, raw []byte) *Tree {
	t.Helper()
	var tree Tree
	if err := tree.Parse(raw); err != nil {
		t.Fatalf("parsing tree: %v", err)
	}
	return &tree
}

// encodeTree encodes a tree of agent-go's types with fxamacker's encoder, without the tag.
func encodeTree(t testing.TB, n hashtree.Node) []byte {
	t.Helper()
	raw, err := hashtree.Serialize(n)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// The digests are those of PROTOCOL.md 4.6, computed by the canister kit.
func TestTreeGolden(t *testing.T) {
	witness := vector(t, "witness")
	tree := parseTree(t, witness)
	for name, tt := range map[string]struct {
		node uint32
		want string
	}{
		"websocket":   {0, "dacc627163977de5b9fd01b044327fc06bc26a51426e98b5edffd78cad5dd45b"},
		"outer fork":  {1, "dfabddda7d9b3cb14dfcc7882eec99c52d61624a3b19a82e8dad779547be118e"},
		"pruned left": {2, "a1e9242d0010475ac0df2ab5a51ece424fd7f0114cd019ffb3de46b54a26ca7a"},
		"inner fork":  {3, "3f07d22117e0ac4f4b1e345eca0c3f6aa24fad73f8f2380c362d98eb664c6b60"},
		"labeled key": {4, "b0fae8db637fad2e441a30ff0bc83b02a2883a916aa11581275c4bce7550bad3"},
		"leaf":        {5, "4c4e064c62815197de4a5b6582131b672f54a14fca55abd84fe3f74a19eb4e2c"},
	} {
		if got := tree.nodes[tt.node].digest; !bytes.Equal(got[:], unhex(t, tt.want)) {
			t.Errorf("%s: got %x", name, got)
		}
	}
	key := []byte(vectorGateway + "_00000000000000000001")
	value, r := tree.Lookup([]byte("websocket"), key)
	if r != Found || !bytes.Equal(value, unhex(t, "d537b046e036921e5619152a93d711071415c880f75901ab49c0d3834e2ffc89")) {
		t.Errorf("lookup: got %x, %v", value, r)
	}
	// Already pruned to this key by the canister: there is nothing left to prune.
	if got := tree.AppendPruned(nil, []byte("websocket"), key); !bytes.Equal(got, witness) {
		t.Errorf("pruned differs from the canister's own witness:\n%x\n%x", got, witness)
	}
	// Without the tag it is the same tree.
	if untagged := parseTree(t, witness[3:]); untagged.Digest() != tree.Digest() {
		t.Error("tag changes the digest")
	}
	if _, r := tree.Lookup([]byte("websocket"), []byte(vectorGateway+"_00000000000000000000")); r != Unknown {
		t.Errorf("pruned neighbour: got %v", r)
	}
	if _, r := tree.Lookup([]byte("websocket")); r != LookupError {
		t.Errorf("subtree: got %v", r)
	}
}

// testLabels returns a tree as a canister has it: every label at one level, forks balanced.
func testLabels(nodes ...hashtree.Node) hashtree.Node {
	switch len(nodes) {
	case 0:
		return hashtree.Empty{}
	case 1:
		return nodes[0]
	}
	half := len(nodes) / 2
	return hashtree.Fork{LeftTree: testLabels(nodes[:half]...), RightTree: testLabels(nodes[half:]...)}
}

func labeled(label string, tree hashtree.Node) hashtree.Node {
	return hashtree.Labeled{Label: hashtree.Label(label), Tree: tree}
}

func leaf(value string) hashtree.Node { return hashtree.Leaf(value) }

// The example and its root hash are those of the interface specification, section "Certificate".
func TestTreeSpecificationExample(t *testing.T) {
	full := testLabels(
		hashtree.Fork{
			LeftTree: labeled("a", hashtree.Fork{
				LeftTree: hashtree.Fork{
					LeftTree:  labeled("x", leaf("hello")),
					RightTree: hashtree.Empty{},
				},
				RightTree: labeled("y", leaf("world")),
			}),
			RightTree: labeled("b", leaf("good")),
		},
		hashtree.Fork{
			LeftTree:  labeled("c", hashtree.Empty{}),
			RightTree: labeled("d", leaf("morning")),
		},
	)
	tree := parseTree(t, encodeTree(t, full))
	const root = "eb5c5b2195e62d996b84c9bcc8259d19a83786a2f59e0878cec84c811f669aa0"
	if got := tree.Digest(); !bytes.Equal(got[:], unhex(t, root)) {
		t.Fatalf("root hash: got %x", got)
	}
	pruned := parseTree(t, unhex(t, "83018301830241618301820458201b4feff9bef8131788b0c9dc6dbad6e81e524249c879e9f10f71ce3749f5a638"+
		"83024179820345776f726c6483024162820458207b32ac0c6ba8ce35ac82c255fc7906f7fc130dab2a090f80fe12f9c2cae83ba6"+
		"830182045820ec8324b8a1f1ac16bd2e806edba78006479c9877fed4eb464a25485465af601d830241648203476d6f726e696e67"))
	if pruned.Digest() != tree.Digest() {
		t.Error("root hash of the pruned example differs")
	}
	for _, tt := range []struct {
		name  string
		tree  *Tree
		path  string
		value string
		want  Lookup
	}{
		{"leaf", tree, "a/x", "hello", Found},
		{"leaf in the right half", tree, "d", "morning", Found},
		{"subtree", tree, "a", "", LookupError},
		{"empty subtree", tree, "c", "", Absent},
		{"below an empty subtree", tree, "c/x", "", Absent},
		{"below a leaf", tree, "b/x", "", Absent},
		{"before the first", tree, "A", "", Absent},
		{"between two", tree, "aa", "", Absent},
		{"after the last", tree, "e", "", Absent},
		{"after the last in a fork with an empty half", tree, "a/xx", "", Absent},
		{"pruned: in the pruned part", pruned, "a/x", "", Unknown},
		{"pruned: beside it", pruned, "a/y", "world", Found},
		{"pruned: after the last", pruned, "a/z", "", Absent},
		{"pruned: before the first", pruned, "a/a", "", Unknown},
		{"pruned: a pruned value", pruned, "b", "", Unknown},
		{"pruned: below a pruned value", pruned, "b/x", "", Unknown},
		{"pruned: label in a pruned part", pruned, "c", "", Unknown},
		{"pruned: between two that show", pruned, "aa", "", Absent},
		{"pruned: beyond a pruned part", pruned, "d", "morning", Found},
		{"pruned: after all", pruned, "e", "", Absent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			value, r := tt.tree.Lookup(treePath(tt.path)...)
			if r != tt.want || string(value) != tt.value {
				t.Errorf("%s: got %q, %v, want %q, %v", tt.path, value, r, tt.value, tt.want)
			}
		})
	}
}

func treePath(path string) (labels [][]byte) {
	for s := range strings.SplitSeq(path, "/") {
		labels = append(labels, []byte(s))
	}
	return labels
}

func TestTreeEmptyBeforeLabel(t *testing.T) {
	// agent-go takes an empty left half for a proof of absence and does not find x.
	tree := parseTree(t, encodeTree(t, hashtree.Fork{LeftTree: hashtree.Empty{}, RightTree: labeled("x", leaf("1"))}))
	if v, r := tree.Lookup([]byte("x")); r != Found || string(v) != "1" {
		t.Errorf("got %q, %v", v, r)
	}
	got := parseTree(t, tree.AppendPruned(nil, []byte("x")))
	if got.Digest() != tree.Digest() {
		t.Error("pruning beside an empty half changes the digest")
	}
	// Neither does @dfinity/agent 2.4 find it, unless the empty half is pruned.
	if got.nodes[1].kind != treePruned {
		t.Error("clients do not find the leaf beside an empty half")
	}
}

func TestTreeRefuses(t *testing.T) {
	hash := "5820" + strings.Repeat("00", 32)
	for _, tt := range []struct {
		name, in string
		want     error
	}{
		{"nothing", "", errCBORShort},
		{"tag alone", "d9d9f7", errCBORShort},
		{"null", "f6", errCBORType},
		{"empty array", "80", errCBORShort},
		{"empty array, more after it", "8000", errTreeNode},
		{"unknown kind", "8105", errTreeNode},
		{"empty with a child", "82008100", errTreeNode},
		{"fork of one", "82018100", errTreeNode},
		{"fork of three", "8401810081008100", errTreeNode},
		{"fork cut", "83018100", errCBORShort},
		{"label alone", "82024161", errTreeNode},
		{"text label", "830261618100", errCBORType},
		{"leaf without value", "8103", errTreeNode},
		{"text leaf", "82036161", errCBORType},
		{"short hash", "8204581f" + strings.Repeat("00", 31), errTreeHash},
		{"long hash", "82045821" + strings.Repeat("00", 33), errTreeHash},
		{"indefinite array", "9f00ff", errCBORIndefinite},
		{"huge array", "9bffffffffffffffff00", errCBORShort},
		{"label longer than the input", "83025bffffffffffffffff", errCBORShort},
		{"same label twice", "8301 83024161820340 83024161820340", errTreeOrder},
		{"labels decrease", "8301 83024162820340 83024161820340", errTreeOrder},
		{"labels decrease across forks", "8301 8301 83024161820340 83024163820340 8301 82045820" + strings.Repeat("00", 32) + " 83024162820340", errTreeOrder},
		{"labels decrease below a label", "830241788301 83024162820340 83024161820340", errTreeOrder},
		{"leaf in a fork", "8301 820340 8204" + hash, errTreeLeaf},
		{"tag inside", "8301 d9d9f78100 8100", errCBORType},
		{"bytes after it", "810000", errCBORTrailing},
		{"too deep", strings.Repeat("83024161", MaxTreeDepth) + "820340", errTreeDepth},
		{"ten thousand deep, cut", strings.Repeat("83018100", 10000), errTreeDepth},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tree := parseTree(t, vector(t, "witness"))
			err := tree.Parse(unhex(t, tt.in))
			if err != tt.want || !errors.Is(err, ErrMalformed) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if _, r := tree.Lookup([]byte("websocket")); r != Unknown || tree.Digest() != [32]byte{} {
				t.Error("something is left of the tree before")
			}
			if got := tree.AppendPruned(nil, []byte("a")); len(got) != 0 {
				t.Errorf("pruned to %x", got)
			}
		})
	}
}

func TestTreeBounds(t *testing.T) {
	var tree Tree
	if err := tree.Parse(unhex(t, strings.Repeat("83024161", MaxTreeDepth-1)+"820340")); err != nil {
		t.Errorf("nesting of exactly %d: %v", MaxTreeDepth, err)
	}
	// The largest number of nodes: a chain of forks is as deep as it is long, so a balanced tree it is.
	var full func(n int) []byte
	full = func(n int) []byte {
		if n == 1 {
			return []byte{0x81, treeEmpty}
		}
		half := full(n / 2)
		return append(append([]byte{0x83, treeFork}, half...), half...)
	}
	if err := tree.Parse(full(MaxTreeNodes / 2)); err != nil {
		t.Errorf("%d nodes: %v", MaxTreeNodes-1, err)
	}
	if err := tree.Parse(full(MaxTreeNodes)); err != errTreeNodes {
		t.Errorf("%d nodes: %v", 2*MaxTreeNodes-1, err)
	}
	// Long labels and values take another way through the hash.
	long := strings.Repeat("x", 10000)
	node := labeled(long, labeled("y", leaf(long)))
	if err := tree.Parse(encodeTree(t, node)); err != nil || tree.Digest() != node.Reconstruct() {
		t.Errorf("long label: %v", err)
	}
}

// A witness of a long queue nests deeper than agent-go reads (32 levels, 31 inside a certificate).
func TestTreeDeep(t *testing.T) {
	want := labeled("k", leaf("v"))
	for range 64 {
		want = hashtree.Fork{LeftTree: hashtree.Pruned(want.Reconstruct()), RightTree: want}
	}
	raw := encodeTree(t, want)
	tree := parseTree(t, raw)
	if v, r := tree.Lookup([]byte("k")); r != Found || string(v) != "v" || tree.Digest() != want.Reconstruct() {
		t.Errorf("66 levels: got %q, %v", v, r)
	}
	if got := tree.AppendPruned(nil, []byte("k")); !bytes.Equal(got[3:], raw) {
		t.Error("pruning a tree that is pruned already changes it")
	}
	if _, err := hashtree.Deserialize(raw); err == nil {
		t.Error("agent-go reads it now: the remark in the documentation is out of date")
	}
}

// queueTree is the tree of a canister with n queued messages, and their keys.
func queueTree(n int) (hashtree.Node, [][]byte) {
	keys := make([][]byte, n)
	nodes := make([]hashtree.Node, n)
	for i := range n {
		keys[i] = fmt.Appendf(nil, "%s_%020d", vectorGateway, i)
		nodes[i] = labeled(string(keys[i]), leaf(strings.Repeat(string(rune('a'+i%26)), 32)))
	}
	return labeled("websocket", testLabels(nodes...)), keys
}

func TestTreePruneEveryKey(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 50, 100} {
		node, keys := queueTree(n)
		raw := encodeTree(t, node)
		tree := parseTree(t, raw)
		if tree.Digest() != node.Reconstruct() {
			t.Fatalf("%d messages: digest", n)
		}
		for i, key := range keys {
			at, r := tree.find([]byte("websocket"), key)
			if r != Found {
				t.Fatalf("%d of %d: %v", i, n, r)
			}
			out := tree.AppendPruned([]byte("before"), []byte("websocket"), key)
			if size := tree.prunedSize(at); len(out)-6 != size {
				t.Errorf("%d of %d: size computed as %d, is %d", i, n, size, len(out)-6)
			}
			if !bytes.HasPrefix(out, []byte("before\xd9\xd9\xf7")) {
				t.Fatalf("%d of %d: prefix %x", i, n, out[:9])
			}
			// The second opinion reads what we wrote.
			theirs, err := hashtree.Deserialize(out[6:])
			if err != nil || theirs.Reconstruct() != node.Reconstruct() {
				t.Fatalf("%d of %d: agent-go: %v", i, n, err)
			}
			value, err := hashtree.Lookup(theirs, hashtree.Label("websocket"), key)
			if err != nil || !bytes.Equal(value, tree.span(at)) {
				t.Fatalf("%d of %d: agent-go: %x, %v", i, n, value, err)
			}
			// And nobody else's key is in it.
			if bytes.Count(out, []byte(vectorGateway)) != 1 {
				t.Errorf("%d of %d: other keys show", i, n)
			}
		}
		rest := parseTree(t, tree.AppendPruned(nil, []byte("nothing")))
		if rest.Digest() != tree.Digest() || len(rest.nodes) != 1 {
			t.Errorf("%d messages: pruned to nothing: %d nodes", n, len(rest.nodes))
		}
	}
}

func TestTreeReuseAllocatesNothing(t *testing.T) {
	node, keys := queueTree(50)
	raw := encodeTree(t, node)
	tree := parseTree(t, raw)
	dst := make([]byte, 0, 4096)
	label := []byte("websocket")
	if n := testing.AllocsPerRun(100, func() {
		if tree.Parse(raw) != nil {
			t.Error("parse")
		}
		if _, r := tree.Lookup(label, keys[7]); r != Found {
			t.Error("lookup")
		}
		dst = tree.AppendPruned(dst[:0], label, keys[7])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzTree holds our reader against agent-go's where that survives: it panics on empty arrays and stops at 32 levels.
func FuzzTree(f *testing.F) {
	f.Add(vector(f, "witness"))
	for _, name := range []string{"mainnet_certificate", "sample_certificate", "flat_certificate"} {
		parts, err := parseCertificate(vector(f, name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(parts.tree)
	}
	for _, raw := range recordedSeeds(f, "tree") {
		f.Add(raw)
	}
	for _, raw := range recordedSeeds(f, "certificate") {
		f.Add(must(parseCertificate(raw)).tree)
	}
	node, _ := queueTree(7)
	f.Add(encodeTree(f, node))
	f.Add(unhex(f, "8301810083024161820340"))
	f.Add(unhex(f, strings.Repeat("83018100", 200)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var tree Tree
		if err := tree.Parse(raw); err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("error that is not ErrMalformed: %v", err)
			}
			return
		}
		theirs, err := agentTree(raw)
		if err != nil {
			return // deeper than it reads, or a form it does not know (a tagged or wide array head)
		}
		if tree.Digest() != theirs.Reconstruct() {
			t.Fatalf("digest %x, agent-go has %x", tree.Digest(), theirs.Reconstruct())
		}
		for at := range tree.nodes {
			path := tree.pathTo(uint32(at))
			if len(path) == 0 {
				continue
			}
			value, r := tree.Lookup(path...)
			labels := make([]hashtree.Label, len(path))
			for i, p := range path {
				labels[i] = p
			}
			want, err := hashtree.Lookup(theirs, labels...)
			if err == nil && (r != Found || !bytes.Equal(value, want)) {
				t.Fatalf("lookup %q: got %x, %v, agent-go has %x", path, value, r, want)
			}
			if r != Found {
				continue
			}
			pruned := tree.AppendPruned(nil, path...)
			var again Tree
			if err := again.Parse(pruned); err != nil || again.Digest() != tree.Digest() {
				t.Fatalf("pruned to %q: %v", path, err)
			}
			if v, r := again.Lookup(path...); r != Found || !bytes.Equal(v, value) {
				t.Fatalf("pruned to %q: %v", path, r)
			}
			if at, _ := tree.find(path...); len(pruned) != tree.prunedSize(at) {
				t.Fatalf("pruned to %q: %d bytes, not %d", path, len(pruned), tree.prunedSize(at))
			}
		}
	})
}

// agentTree reads a tree with agent-go.
func agentTree(raw []byte) (n hashtree.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("agent-go panics")
		}
	}()
	if err := cbor.Wellformed(raw); err != nil {
		return nil, err
	}
	return hashtree.Deserialize(raw)
}

// pathTo returns the labels above a node, if it is below at least one.
func (t *Tree) pathTo(at uint32) (path [][]byte) {
	for i := uint32(0); i < at; i++ {
		if n := t.nodes[i]; n.kind == treeLabeled && at < n.end {
			path = append(path, t.span(i))
		}
	}
	return path
}
