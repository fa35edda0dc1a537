package verify

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/certification/hashtree"
)

// stateOf verifies a certificate of the subnet with parts of its state.
func (n *testNet) stateOf(t *testing.T, parts ...hashtree.Node) *Certificate {
	t.Helper()
	first, last := n.canisterRangeOf()
	tree := testLabels(append(parts, n.timeNode(n.now))...)
	cert, err := n.authority().Certificate(n.sign(n.subnet, tree, n.delegation(n.flatTree(first, last))), first, n.now)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// boundaryNode is what the state says of a node; with no domain it has an address only.
func boundaryNode(i int, domain string) hashtree.Node {
	address := labeled("ipv6_address", hashtree.Leaf("2001:db8::1"))
	id := string(binary.BigEndian.AppendUint32([]byte{7}, uint32(i)))
	if domain == "" {
		return labeled(id, address)
	}
	return labeled(id, testLabels(labeled("domain", hashtree.Leaf(domain)), address))
}

func TestBoundaryNodes(t *testing.T) {
	n := newTestNet(t)
	long := strings.Repeat("a", 63)
	good := []string{"bn1.icp.example", "BN2.Icp.Example", "a-b.xn--p1ai", "1.2.3.example", long + "." + long + "." + long + ".example", "bn1.icp.example"}
	bad := []string{
		"bn1", "localhost", "bn.localhost", "printer.local", "x.internal", "1.0.0.127.in-addr.arpa", "x.onion",
		"127.0.0.1", "0x7f.1", "127.0.0.0x1", "2130706433", "::1", "[::1]", "2001:db8::1", "1.2.3.4.5",
		"bn1.example:8443", "user@bn1.example", "user:pw@bn1.example", "bn1.example/path", "bn1.example?x", "bn1.example#x",
		"https://bn1.example", "bn1.example.", ".bn1.example", "bn1..example", "-bn1.example", "bn1-.example", "bn_1.example",
		"b\u00fccher.example", "bn1.example\n", " bn1.example", "bn1.example\x00.evil", "\u212aelvin.example", "bn\xff.example", "x.y",
		long + "a.example", strings.Repeat("a.", 124) + "example", "%62n1.example", "bn1.example\\@evil",
	}
	var nodes []hashtree.Node
	for i, d := range slices.Concat(good, bad, []string{""}) {
		nodes = append(nodes, boundaryNode(i, d))
	}
	got, err := BoundaryNodes(n.stateOf(t, labeled("api_boundary_nodes", testLabels(nodes...))))
	want := []string{"1.2.3.example", "a-b.xn--p1ai", long + "." + long + "." + long + ".example", "bn1.icp.example", "bn2.icp.example"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v\nwant %q", got, err, want)
	}
}

// Who passes the certificate on may prune it. A list that he could have shortened is none.
func TestBoundaryNodesAreTheWholeList(t *testing.T) {
	n := newTestNet(t)
	one, two := boundaryNode(1, "bn1.example"), boundaryNode(2, "bn2.example")
	hash := func(n hashtree.Node) hashtree.Node { return hashtree.Pruned(n.Reconstruct()) }
	for name, tt := range map[string]struct {
		state []hashtree.Node
		want  []string
		fails bool
	}{
		"both":            {state: []hashtree.Node{labeled("api_boundary_nodes", testLabels(one, two))}, want: []string{"bn1.example", "bn2.example"}},
		"none":            {state: []hashtree.Node{labeled("api_boundary_nodes", hashtree.Empty{})}},
		"no such path":    {},
		"a leaf":          {state: []hashtree.Node{labeled("api_boundary_nodes", hashtree.Leaf("bn1.example"))}},
		"domain a tree":   {state: []hashtree.Node{labeled("api_boundary_nodes", labeled("\x07", labeled("domain", labeled("x", hashtree.Leaf("bn1.example")))))}},
		"second hidden":   {state: []hashtree.Node{labeled("api_boundary_nodes", testLabels(one, hash(two)))}, fails: true},
		"first hidden":    {state: []hashtree.Node{labeled("api_boundary_nodes", testLabels(hash(one), two))}, fails: true},
		"all hidden":      {state: []hashtree.Node{labeled("api_boundary_nodes", hash(testLabels(one, two)))}, fails: true},
		"path hidden":     {state: []hashtree.Node{hash(labeled("api_boundary_nodes", testLabels(one, two)))}, fails: true},
		"a domain hidden": {state: []hashtree.Node{labeled("api_boundary_nodes", testLabels(one, labeled("\x08", hash(labeled("domain", hashtree.Leaf("bn2.example"))))))}, fails: true},
		"a name hidden":   {state: []hashtree.Node{labeled("api_boundary_nodes", testLabels(one, labeled("\x08", labeled("domain", hash(hashtree.Leaf("bn2.example"))))))}, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := BoundaryNodes(n.stateOf(t, tt.state...))
			if tt.fails != (err != nil) || !slices.Equal(got, tt.want) {
				t.Errorf("got %q, %v", got, err)
			}
			if err != nil && CauseOf(err) != CauseMalformed {
				t.Errorf("cause %q", CauseOf(err))
			}
		})
	}
}

// A subnet that somebody has rented speaks for its canisters, not for the network.
func TestBoundaryNodesOfACloudEngine(t *testing.T) {
	n := newTestNet(t)
	first, _ := n.canisterRangeOf()
	tree := testLabels(labeled("api_boundary_nodes", boundaryNode(1, "bn1.example")), n.timeNode(n.now))
	typed := func(kind hashtree.Node) hashtree.Node {
		return testLabels(
			labeled("subnet", labeled(string(n.id.Bytes()), testLabels(
				labeled("canister_ranges", n.ranges(first, first)), labeled("public_key", hashtree.Leaf(n.der(n.subnet))), kind,
			))),
			n.timeNode(n.now),
		)
	}
	pruned := func(n hashtree.Node) hashtree.Node { return hashtree.Pruned(n.Reconstruct()) }
	for name, tt := range map[string]struct {
		delegation hashtree.Node
		want       Cause
	}{
		"cloud engine":   {n.typedTree("cloud_engine"), CauseDelegation},
		"application":    {n.typedTree("application"), ""},
		"before types":   {n.flatTree(first, first), ""},
		"type hidden":    {typed(pruned(labeled("type", hashtree.Leaf("cloud_engine")))), CauseDelegation},
		"value hidden":   {typed(labeled("type", pruned(hashtree.Leaf("cloud_engine")))), CauseDelegation},
		"another hidden": {typed(testLabels(labeled("type", hashtree.Leaf("system")), pruned(labeled("zone", hashtree.Leaf("x"))))), ""},
	} {
		cert, err := n.authority().Certificate(n.sign(n.subnet, tree, n.delegation(tt.delegation)), first, n.now)
		if err != nil {
			t.Fatal(name, err)
		}
		if got, err := BoundaryNodes(cert); CauseOf(err) != tt.want || (err == nil) != (len(got) == 1) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestManyBoundaryNodes(t *testing.T) {
	n := newTestNet(t)
	var nodes []hashtree.Node
	for i := range 5000 {
		nodes = append(nodes, boundaryNode(i, fmt.Sprintf("bn%d.example", i)))
	}
	got, err := BoundaryNodes(n.stateOf(t, labeled("api_boundary_nodes", testLabels(nodes...))))
	if err != nil || len(got) != len(nodes) {
		t.Errorf("got %d, %v", len(got), err)
	}
}

func TestInstallTime(t *testing.T) {
	n := newTestNet(t)
	canister, other := n.canisterRangeOf()
	at := n.now.Add(-time.Hour + time.Nanosecond)
	of := func(id Principal, parts ...hashtree.Node) hashtree.Node {
		return labeled("canister", labeled(string(id.Bytes()), testLabels(parts...)))
	}
	stamp := func(raw []byte) hashtree.Node { return labeled("last_install_timestamp", hashtree.Leaf(raw)) }
	leb := binary.AppendUvarint(nil, uint64(at.UnixNano()))
	module := labeled("module_hash", hashtree.Leaf("hash"))
	pruned := func(n hashtree.Node) hashtree.Node { return hashtree.Pruned(n.Reconstruct()) }
	for name, tt := range map[string]struct {
		state []hashtree.Node
		want  time.Time
		fails bool
	}{
		"known":                   {state: []hashtree.Node{of(canister, stamp(leb), module)}, want: at},
		"installed before":        {state: []hashtree.Node{of(canister, module)}},
		"no such canister":        {state: []hashtree.Node{of(other, stamp(leb))}},
		"no canisters":            {},
		"hidden":                  {state: []hashtree.Node{of(canister, pruned(stamp(leb)), module)}, fails: true},
		"canister hidden":         {state: []hashtree.Node{pruned(of(canister, stamp(leb)))}, fails: true},
		"a tree":                  {state: []hashtree.Node{of(canister, labeled("last_install_timestamp", stamp(leb)))}, fails: true},
		"empty":                   {state: []hashtree.Node{of(canister, stamp([]byte{}))}, fails: true},
		"zero":                    {state: []hashtree.Node{of(canister, stamp([]byte{0}))}, fails: true},
		"more than the number":    {state: []hashtree.Node{of(canister, stamp(append(leb[:len(leb):len(leb)], 0)))}, fails: true},
		"beyond what times allow": {state: []hashtree.Node{of(canister, stamp(binary.AppendUvarint(nil, 1<<63)))}, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := InstallTime(n.stateOf(t, tt.state...), canister)
			if tt.fails != (err != nil) || !got.Equal(tt.want) {
				t.Errorf("got %s, %v", got, err)
			}
			if err != nil && CauseOf(err) != CauseMalformed {
				t.Errorf("cause %q", CauseOf(err))
			}
		})
	}
}
