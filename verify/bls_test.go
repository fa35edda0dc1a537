package verify

import (
	"testing"

	bls12381 "github.com/consensys/gnark-crypto/ecc/bls12-381"
)

// If a new gnark-crypto leaves the tables alone, the copies in blsKey.verify can go.
func TestFixedQMutatesTables(t *testing.T) {
	_, _, g1, g2 := bls12381.Generators()
	before := bls12381.PrecomputeLines(g2)
	tables := []blsLines{before, before}
	var minus bls12381.G1Affine
	minus.Neg(&g1)
	ok, err := bls12381.PairingCheckFixedQ([]bls12381.G1Affine{g1, minus}, tables)
	if err != nil || !ok {
		t.Fatalf("e(g, h) e(-g, h): %v, %v", ok, err)
	}
	if tables[0] == before {
		t.Error("PairingCheckFixedQ no longer changes its tables")
	}
}

func TestBLSKeyIsReusable(t *testing.T) {
	n := newTestNet(t)
	key, err := parseBLSKey(n.der(n.root))
	if err != nil {
		t.Fatal(err)
	}
	before := key.lines
	for i := range 4 {
		message := []byte{byte(i)}
		sig, err := n.root.Sign(message)
		if err != nil {
			t.Fatal(err)
		}
		raw := (*bls12381.G1Affine)(sig).Bytes()
		if err := key.verify(message, raw[:]); err != nil {
			t.Errorf("signature %d: %v", i, err)
		}
		if err := key.verify([]byte("another"), raw[:]); err != errBLSSignature {
			t.Errorf("signature %d of another message: %v", i, err)
		}
		// The negated point is as much on the curve.
		raw[0] ^= 0x20
		if err := key.verify(message, raw[:]); err != errBLSSignature {
			t.Errorf("negated signature %d: %v", i, err)
		}
	}
	if key.lines != before {
		t.Error("verifying changes the key's tables")
	}
}

// A point on the curve outside the subgroup must not pass for a signature.
func TestBLSSignatureSubgroup(t *testing.T) {
	key, err := parseBLSKey(MainnetRootKey())
	if err != nil {
		t.Fatal(err)
	}
	// Try x coordinates until one is on the curve: nearly all such points are outside the subgroup.
	tried := 0
	for x := byte(1); x < 50; x++ {
		raw := make([]byte, blsSignatureSize)
		raw[0], raw[47] = 0x80, x
		var point bls12381.G1Affine
		if err := point.X.SetBytesCanonical(append([]byte{0}, raw[1:]...)); err != nil {
			t.Fatal(err)
		}
		var rhs = point.X
		rhs.Square(&rhs).Mul(&rhs, &point.X)
		var four = point.X
		four.SetUint64(4)
		rhs.Add(&rhs, &four)
		if point.Y.Sqrt(&rhs) == nil || point.IsInSubGroup() {
			continue
		}
		tried++
		if err := key.verify([]byte("m"), raw); err != errBLSSignature {
			t.Errorf("x = %d: %v", x, err)
		}
	}
	if tried == 0 {
		t.Error("no point outside the subgroup found")
	}
}
