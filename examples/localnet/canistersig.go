package localnet

import (
	"bytes"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"reflect"

	bls12381 "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/fxamacker/cbor/v2"

	"github.com/icws-gateway/caddy-icws/verify"
)

// oidCanisterSignature marks the public keys of canisters.
var oidCanisterSignature = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 56387, 1, 2}

type subjectPublicKey struct {
	Algorithm struct{ OID asn1.ObjectIdentifier }
	Key       asn1.BitString
}

// canisterKeyDER is the public key of canister id for a seed.
func canisterKeyDER(id verify.Principal, seed []byte) []byte {
	key := append([]byte{byte(len(id.Bytes()))}, id.Bytes()...)
	key = append(key, seed...)
	var spki subjectPublicKey
	spki.Algorithm.OID = oidCanisterSignature
	spki.Key = asn1.BitString{Bytes: key, BitLength: len(key) * 8}
	der, err := asn1.Marshal(spki)
	if err != nil { // the structure is constant
		panic(err)
	}
	return der
}

// parseCanisterKey is the inverse; ok is false for keys of other kinds.
func parseCanisterKey(der []byte) (id verify.Principal, seed []byte, ok bool) {
	var spki subjectPublicKey
	rest, err := asn1.Unmarshal(der, &spki)
	if err != nil || len(rest) != 0 || !spki.Algorithm.OID.Equal(oidCanisterSignature) || spki.Key.BitLength%8 != 0 {
		return id, nil, false
	}
	key := spki.Key.Bytes
	if len(key) == 0 || int(key[0]) > len(key)-1 {
		return id, nil, false
	}
	size, key := int(key[0]), key[1:] // as a byte, 255 and one more would be 0
	if id, err = verify.PrincipalFromBytes(key[:size]); err != nil {
		return id, nil, false
	}
	return id, key[size:], true
}

// treeMode decodes certificates and trees that came with a request.
var treeMode = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:  128,
		MaxArrayElements: 4096,
		MaxMapPairs:      16,
		DefaultMapType:   reflect.TypeFor[map[string]any](),
	}.DecMode()
	if err != nil { // the options are constants
		panic(err)
	}
	return mode
}()

// verifyCanisterSignature checks the signature of a canister over msg:
// a certificate of its certified data, and a tree below that with an empty
// leaf at sig, hash of the seed, hash of msg.
func (n *Network) verifyCanisterSignature(id verify.Principal, seed, msg, sig []byte) error {
	var s struct {
		Certificate []byte `cbor:"certificate"`
		Tree        any    `cbor:"tree"`
	}
	if err := treeMode.Unmarshal(sig, &s); err != nil {
		return errors.New("malformed canister signature")
	}
	state, err := n.checkCertificate(s.Certificate, id)
	if err != nil {
		return err
	}
	tree, err := readTree(s.Tree)
	if err != nil {
		return err
	}
	root := tree.hash()
	if data, ok := state.find([]byte("canister"), id.Bytes(), []byte("certified_data")); !ok || !bytes.Equal(data, root[:]) {
		return errors.New("certified data of the canister signature does not match")
	}
	seedHash, msgHash := sha256.Sum256(seed), sha256.Sum256(msg)
	if leaf, ok := tree.find([]byte("sig"), seedHash[:], msgHash[:]); !ok || len(leaf) != 0 {
		return errors.New("canister signature is not in the tree")
	}
	return nil
}

type rawCertificate struct {
	Tree       any    `cbor:"tree"`
	Signature  []byte `cbor:"signature"`
	Delegation *struct {
		Subnet      []byte `cbor:"subnet_id"`
		Certificate []byte `cbor:"certificate"`
	} `cbor:"delegation"`
}

// checkCertificate verifies a certificate about canister id under this
// network's root key and returns its tree.
func (n *Network) checkCertificate(b []byte, id verify.Principal) (*seen, error) {
	var c rawCertificate
	if err := treeMode.Unmarshal(b, &c); err != nil {
		return nil, errors.New("malformed certificate")
	}
	key := n.root.key.der
	if c.Delegation != nil {
		var d rawCertificate
		if err := treeMode.Unmarshal(c.Delegation.Certificate, &d); err != nil || d.Delegation != nil {
			return nil, errors.New("malformed delegation")
		}
		vouched, err := checkSigned(&d, key)
		if err != nil {
			return nil, fmt.Errorf("delegation: %w", err)
		}
		var ok bool
		if key, ok = vouched.find([]byte("subnet"), c.Delegation.Subnet, []byte("public_key")); !ok {
			return nil, errors.New("delegation without public key")
		}
		if kind, ok := vouched.find([]byte("subnet"), c.Delegation.Subnet, []byte("type")); !ok || string(kind) == "cloud_engine" {
			return nil, errors.New("canister signatures of this type of subnet are not accepted")
		}
		if !vouched.rangesHold(c.Delegation.Subnet, id) {
			return nil, errors.New("canister is not in the ranges of the delegation")
		}
	}
	return checkSigned(&c, key)
}

func checkSigned(c *rawCertificate, der []byte) (*seen, error) {
	tree, err := readTree(c.Tree)
	if err != nil {
		return nil, err
	}
	if !verifyBLS(der, tree.hash(), c.Signature) {
		return nil, errors.New("the signature of a certificate is wrong")
	}
	return tree, nil
}

func verifyBLS(der []byte, root [32]byte, signature []byte) bool {
	raw, ok := bytes.CutPrefix(der, blsKeyPrefix)
	if !ok || len(raw) != bls12381.SizeOfG2AffineCompressed || len(signature) != bls12381.SizeOfG1AffineCompressed {
		return false
	}
	var key bls12381.G2Affine
	var sig bls12381.G1Affine
	if _, err := key.SetBytes(raw); err != nil || key.IsInfinity() {
		return false
	}
	if _, err := sig.SetBytes(signature); err != nil {
		return false
	}
	h, err := bls12381.HashToG1(append([]byte("\x0dic-state-root"), root[:]...), blsSuite)
	if err != nil {
		return false
	}
	_, _, _, g2 := bls12381.Generators()
	g2.Neg(&g2)
	ok, err = bls12381.PairingCheck([]bls12381.G1Affine{sig, h}, []bls12381.G2Affine{g2, key})
	return err == nil && ok
}

// seen is a hash tree that somebody sent.
type seen struct {
	kind  uint64
	label []byte // of a labelled node; the value of a leaf or the digest of a pruned node
	left  *seen  // of a fork
	below *seen  // of a labelled node; the right side of a fork
}

// readTree reads a tree from decoded CBOR. The decoder has bounded its depth.
func readTree(v any) (*seen, error) {
	bad := errors.New("malformed hash tree")
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return nil, bad
	}
	kind, ok := list[0].(uint64)
	if !ok || kind > 4 || len(list) != [5]int{1, 3, 3, 2, 2}[kind] {
		return nil, bad
	}
	t := &seen{kind: kind}
	if kind >= 2 {
		if t.label, ok = list[1].([]byte); !ok || kind == 4 && len(t.label) != 32 {
			return nil, bad
		}
	}
	if kind != 1 && kind != 2 {
		return t, nil
	}
	var err error
	if t.below, err = readTree(list[2]); err != nil {
		return nil, err
	}
	if kind == 1 {
		t.left, err = readTree(list[1])
	}
	return t, err
}

func (t *seen) hash() [32]byte {
	switch t.kind {
	case 0:
		return emptyDigest
	case 1:
		return forkDigest(t.left.hash(), t.below.hash())
	case 2:
		return labeledDigest(t.label, t.below.hash())
	case 3:
		return leafDigest(t.label)
	}
	return [32]byte(t.label)
}

// each calls f for every labelled node that stands directly below t.
func (t *seen) each(f func(label []byte, below *seen)) {
	switch t.kind {
	case 1:
		t.left.each(f)
		t.below.each(f)
	case 2:
		f(t.label, t.below)
	}
}

func (t *seen) sub(path ...[]byte) *seen {
	for _, want := range path {
		var next *seen
		t.each(func(label []byte, below *seen) {
			if bytes.Equal(label, want) {
				next = below
			}
		})
		if next == nil {
			return nil
		}
		t = next
	}
	return t
}

func (t *seen) find(path ...[]byte) ([]byte, bool) {
	if t = t.sub(path...); t == nil || t.kind != 3 {
		return nil, false
	}
	return t.label, true
}

// rangesHold looks a canister up in either layout of ranges.
func (t *seen) rangesHold(subnet []byte, id verify.Principal) bool {
	var lists [][]byte
	if list, ok := t.find([]byte("subnet"), subnet, []byte("canister_ranges")); ok {
		lists = append(lists, list)
	}
	if shards := t.sub([]byte("canister_ranges"), subnet); shards != nil {
		shards.each(func(_ []byte, below *seen) {
			if below.kind == 3 {
				lists = append(lists, below.label)
			}
		})
	}
	raw := id.Bytes()
	for _, list := range lists {
		var ranges [][2][]byte
		if treeMode.Unmarshal(list, &ranges) != nil {
			return false
		}
		for _, r := range ranges {
			if bytes.Compare(r[0], raw) <= 0 && bytes.Compare(raw, r[1]) <= 0 {
				return true
			}
		}
	}
	return false
}
