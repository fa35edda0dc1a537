package verify

import (
	"bytes"
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/certification"
	"github.com/aviate-labs/agent-go/certification/hashtree"
)

// testNode is a replica node.
type testNode struct {
	key ed25519.PrivateKey
	der []byte
	id  Principal
}

func newTestNode(seed byte) testNode {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32))
	der := append(bytes.Clone(nodeKeyPrefix), key.Public().(ed25519.PublicKey)...)
	return testNode{key, der, SelfAuthenticating(der)}
}

// sign signs an answer as the specification says, by agent-go's hash. The fields are without timestamp and request id.
func (n testNode) sign(t testing.TB, at time.Time, id [32]byte, fields object) object {
	t.Helper()
	kv := []certification.KeyValuePair{{Key: "timestamp", Value: uint64(at.UnixNano())}, {Key: "request_id", Value: id[:]}}
	for k, v := range fields {
		kv = append(kv, certification.KeyValuePair{Key: k, Value: v})
	}
	hash, err := certification.RepresentationIndependentHash(kv)
	if err != nil {
		t.Fatal(err)
	}
	return object{
		"timestamp": uint64(at.UnixNano()), "identity": n.id.Bytes(),
		"signature": ed25519.Sign(n.key, append([]byte("\x0bic-response"), hash[:]...)),
	}
}

func TestVerifyNode(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	id := [32]byte{9, 8, 7}
	one, two, stranger := newTestNode(1), newTestNode(2), newTestNode(3)
	odd := testNode{key: one.key, der: append(bytes.Clone(one.der), 0), id: Anonymous}
	keys := func(p Principal) ([]byte, bool) {
		for _, n := range []testNode{one, two, odd} {
			if n.id == p {
				return n.der, true
			}
		}
		return nil, false
	}
	replied := object{"status": "replied", "reply": object{"arg": []byte("DIDL\x00\x00")}}
	rejected := object{"status": "rejected", "reject_code": uint64(300), "reject_message": "trapped", "error_code": "IC0503"}
	bare := object{"status": "rejected", "reject_code": uint64(0), "reject_message": "trapped"}
	hollow := object{"status": "rejected", "reject_code": uint64(0), "reject_message": "trapped", "error_code": ""}
	with := func(base object, key string, value any) object {
		out := object{key: value}
		for k, v := range base {
			if k != key {
				out[k] = v
			}
		}
		return out
	}
	for _, tt := range []struct {
		name string
		body object
		sigs []any
		want Cause
	}{
		{"replied", replied, []any{one.sign(t, now, id, replied)}, ""},
		{"rejected", rejected, []any{one.sign(t, now, id, rejected)}, ""},
		{"rejected without error code", bare, []any{one.sign(t, now, id, bare)}, ""},
		{"rejected with empty error code", hollow, []any{one.sign(t, now, id, hollow)}, ""},
		{"two nodes", replied, []any{one.sign(t, now, id, replied), two.sign(t, now, id, replied)}, ""},
		{"almost too old", replied, []any{one.sign(t, now.Add(-MaxCertificateAge), id, replied)}, ""},
		{"almost too far ahead", replied, []any{one.sign(t, now.Add(MaxClockSkew), id, replied)}, ""},
		{"none", replied, nil, CauseSignature},
		{"empty error code added", hollow, []any{one.sign(t, now, id, bare)}, CauseSignature},
		{"empty error code taken away", bare, []any{one.sign(t, now, id, hollow)}, CauseSignature},
		{"one good, one bad", replied, []any{one.sign(t, now, id, replied), two.sign(t, now, id, rejected)}, CauseSignature},
		{"one node twice", replied, []any{one.sign(t, now, id, replied), one.sign(t, now, id, replied)}, CauseSignature},
		{"another request", replied, []any{one.sign(t, now, [32]byte{}, replied)}, CauseSignature},
		{"another reply", with(replied, "reply", object{"arg": []byte("DIDL")}), []any{one.sign(t, now, id, replied)}, CauseSignature},
		{"another message", with(rejected, "reject_message", "x"), []any{one.sign(t, now, id, rejected)}, CauseSignature},
		{"another code", with(rejected, "reject_code", 1), []any{one.sign(t, now, id, rejected)}, CauseSignature},
		{"a stranger", replied, []any{stranger.sign(t, now, id, replied)}, CauseNode},
		{"a node with a strange key", replied, []any{odd.sign(t, now, id, replied)}, CauseNode},
		{"old", replied, []any{one.sign(t, now.Add(-6*time.Minute), id, replied)}, CauseCertificateOld},
		{"ahead", replied, []any{one.sign(t, now.Add(6*time.Minute), id, replied)}, CauseCertificateFuture},
		{"impossible time", replied, []any{with(one.sign(t, now, id, replied), "timestamp", uint64(1)<<63)}, CauseCertificateFuture},
		{"another time", replied, []any{with(one.sign(t, now, id, replied), "timestamp", uint64(now.UnixNano()+1))}, CauseSignature},
		{"short signature", replied, []any{with(one.sign(t, now, id, replied), "signature", []byte{1})}, CauseSignature},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q, err := ParseQueryReply(encode(t, with(tt.body, "signatures", append([]any{}, tt.sigs...))))
			if err != nil {
				t.Fatal(err)
			}
			err = q.VerifyNode(id, keys, now)
			if tt.want == "" && err != nil {
				t.Error(err)
			}
			if tt.want != "" {
				wantCause(t, err, tt.want)
			}
		})
	}
}

func TestNodeKeys(t *testing.T) {
	n := newTestNet(t)
	canister := parsed(t, vectorCanister)
	one, two := newTestNode(1), newTestNode(2)
	if one.id.Compare(two.id) > 0 {
		one, two = two, one
	}
	nodes := func(list ...testNode) hashtree.Node {
		var out []hashtree.Node
		for _, x := range list {
			out = append(out, labeled(string(x.id.Bytes()), labeled("public_key", hashtree.Leaf(x.der))))
		}
		return labeled("node", testLabels(out...))
	}
	subnet := func(id Principal, inner hashtree.Node) hashtree.Node { return labeled(string(id.Bytes()), inner) }
	root := SelfAuthenticating(n.der(n.root))
	low, _ := PrincipalFromBytes([]byte{0})
	high, _ := PrincipalFromBytes(bytes.Repeat([]byte{0xff}, 29))
	for _, tt := range []struct {
		name      string
		delegated bool
		tree      hashtree.Node // below "subnet"
		want      int
	}{
		{"delegated", true, subnet(n.id, nodes(one, two)), 2},
		{"delegated, other subnets beside it", true, testLabels(subnet(low, labeled("public_key", leaf("x"))), subnet(n.id, nodes(one)), subnet(high, nodes(two))), 1},
		{"a node with another kind of key", true, subnet(n.id, nodes(one, testNode{der: []byte("key"), id: high})), 1},
		{"one node pruned", true, subnet(n.id, labeled("node", testLabels(
			labeled(string(one.id.Bytes()), labeled("public_key", hashtree.Leaf(one.der))), hashtree.Pruned{},
		))), 1},
		{"root subnet", false, subnet(root, nodes(one, two)), 2},
		{"root subnet beside another", false, testLabels(subnet(low, nodes(one)), subnet(root, nodes(two))), 1},
		{"only subnet, of any name", false, subnet(low, nodes(one)), 1},
		{"two subnets, neither the root", false, testLabels(subnet(low, nodes(one)), subnet(high, nodes(two))), 0},
		{"delegated, another subnet", true, subnet(low, nodes(one)), 0},
		{"no nodes", true, subnet(n.id, labeled("node", hashtree.Empty{})), 0},
		{"pruned", true, subnet(n.id, hashtree.Pruned{}), 0},
		{"a leaf", true, subnet(n.id, labeled("node", leaf("x"))), 0},
		{"node with a long name", true, subnet(n.id, labeled("node", labeled(string(make([]byte, 30)), labeled("public_key", hashtree.Leaf(one.der))))), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tree := testLabels(labeled("subnet", tt.tree), n.timeNode(n.now))
			cert := n.sign(n.root, tree, nil)
			if tt.delegated {
				cert = n.sign(n.subnet, tree, n.delegation(n.flatTree(n.canisterRangeOf())))
			}
			c, err := n.authority().Certificate(cert, canister, n.now)
			if err != nil {
				t.Fatal(err)
			}
			keys, err := NodeKeys(c)
			if tt.want == 0 {
				if err == nil {
					t.Errorf("got %d keys", len(keys))
				}
				return
			}
			if err != nil || len(keys) != tt.want {
				t.Fatalf("got %d keys, %v", len(keys), err)
			}
			for id, der := range keys {
				if id != SelfAuthenticating(der) {
					t.Errorf("node %v has the key of another", id)
				}
			}
		})
	}
}
