package verify

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/certification"
	"github.com/aviate-labs/agent-go/certification/bls"
	"github.com/aviate-labs/agent-go/certification/hashtree"
	bls12381 "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/fxamacker/cbor/v2"
)

// testNet is a network for tests: it signs what the test wants, right or wrong. Trees are agent-go's, the CBOR is
// fxamacker's and the signatures are agent-go's, so nothing of ours checks itself.
type testNet struct {
	t      testing.TB
	root   *bls.SecretKey
	subnet *bls.SecretKey
	id     Principal // of the subnet
	now    time.Time
}

func newTestNet(t testing.TB) *testNet {
	n := &testNet{
		t: t, root: bls.NewSecretKeyByCSPRNG(), subnet: bls.NewSecretKeyByCSPRNG(),
		now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC),
	}
	n.id = SelfAuthenticating(n.der(n.subnet))
	return n
}

// der returns the public key of a secret one in DER form.
func (n *testNet) der(key *bls.SecretKey) []byte {
	raw := (*bls12381.G2Affine)(key.PublicKey()).Bytes()
	der, err := certification.PublicBLSKeyToDER(raw[:])
	if err != nil {
		n.t.Fatal(err)
	}
	return der
}

// authority returns an Authority for the network.
func (n *testNet) authority() *Authority {
	a, err := NewAuthority(n.der(n.root))
	if err != nil {
		n.t.Fatal(err)
	}
	return a
}

// marshal encodes v.
func (n *testNet) marshal(v any) []byte {
	raw, err := cbor.Marshal(v)
	if err != nil {
		n.t.Fatal(err)
	}
	return raw
}

// sign returns a certificate of tree.
func (n *testNet) sign(key *bls.SecretKey, tree hashtree.Node, delegation any) []byte {
	root := tree.Reconstruct()
	sig, err := key.Sign(append([]byte("\x0dic-state-root"), root[:]...))
	if err != nil {
		n.t.Fatal(err)
	}
	raw := (*bls12381.G1Affine)(sig).Bytes()
	m := map[string]any{"tree": cbor.RawMessage(encodeTree(n.t, tree)), "signature": raw[:]}
	if delegation != nil {
		m["delegation"] = delegation
	}
	return append([]byte{0xd9, 0xd9, 0xf7}, n.marshal(m)...)
}

// timeNode is the certified time.
func (n *testNet) timeNode(at time.Time) hashtree.Node {
	return hashtree.Labeled{
		Label: hashtree.Label("time"),
		Tree:  hashtree.Leaf(binary.AppendUvarint(nil, uint64(at.UnixNano()))),
	}
}

// ranges encodes canister ranges, given as pairs.
func (n *testNet) ranges(canisters ...Principal) hashtree.Node {
	var list [][][]byte
	for pair := range slices.Chunk(canisters, 2) {
		list = append(list, [][]byte{pair[0].Bytes(), pair[1].Bytes()})
	}
	return hashtree.Leaf(append([]byte{0xd9, 0xd9, 0xf7}, n.marshal(list)...))
}

// flatTree and shardedTree state the subnet's key and ranges in the two layouts.
func (n *testNet) flatTree(canisters ...Principal) hashtree.Node {
	return testLabels(
		labeled("subnet", labeled(string(n.id.Bytes()), testLabels(
			labeled("canister_ranges", n.ranges(canisters...)),
			labeled("public_key", hashtree.Leaf(n.der(n.subnet))),
		))),
		n.timeNode(n.now.Add(-8*24*time.Hour)),
	)
}

func (n *testNet) shardedTree(canisters ...Principal) hashtree.Node {
	var shards []hashtree.Node
	for pair := range slices.Chunk(canisters, 2) {
		shards = append(shards, labeled(string(pair[0].Bytes()), n.ranges(pair...)))
	}
	return testLabels(
		labeled("canister_ranges", labeled(string(n.id.Bytes()), testLabels(shards...))),
		labeled("subnet", labeled(string(n.id.Bytes()), labeled("public_key", hashtree.Leaf(n.der(n.subnet))))),
		n.timeNode(n.now.Add(-8*24*time.Hour)),
	)
}

// delegation returns the value of a certificate's delegation, certified by the root key.
func (n *testNet) delegation(tree hashtree.Node) any {
	return map[string][]byte{"subnet_id": n.id.Bytes(), "certificate": n.sign(n.root, tree, nil)}
}

// stateTree is the state of a subnet with certified data of one canister.
func (n *testNet) stateTree(canister Principal, certified []byte, at time.Time) hashtree.Node {
	return testLabels(
		labeled("canister", labeled(string(canister.Bytes()), labeled("certified_data", hashtree.Leaf(certified)))),
		n.timeNode(at),
	)
}

// canisterRangeOf are the first and last canister of the subnet in tests.
func (n *testNet) canisterRangeOf() (first, last Principal) {
	f, _ := PrincipalFromBytes([]byte{0x80, 0, 0, 0, 0, 0x10, 0, 0, 1, 1})
	l, _ := PrincipalFromBytes([]byte{0x80, 0, 0, 0, 0, 0x1f, 0xff, 0xff, 1, 1})
	return f, l
}

// certificate returns a good certificate of a delegated subnet, flat layout.
func (n *testNet) certificate(canister Principal, certified []byte) []byte {
	return n.sign(n.subnet, n.stateTree(canister, certified, n.now), n.delegation(n.flatTree(n.canisterRangeOf())))
}

// agentVerify is agent-go's verdict on a certificate.
func agentVerify(raw []byte, canister Principal, root []byte) error {
	var cert certification.Certificate
	if err := cbor.Unmarshal(raw, &cert); err != nil {
		return err
	}
	return certification.VerifyCertificate(cert, agentPrincipal(canister), root)
}
