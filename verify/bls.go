package verify

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	bls12381 "github.com/consensys/gnark-crypto/ecc/bls12-381"
)

// Sizes of BLS12-381 keys and signatures as the Internet Computer uses them: keys in G2, signatures in G1, both compressed.
const (
	blsKeySize       = 96
	blsSignatureSize = 48
)

// blsSuite is the hash-to-curve domain of the signature scheme (IC interface specification, "Certificate").
const blsSuite = "BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"

// blsPrefix is the DER that precedes the 96 bytes of a key.
var blsPrefix, _ = hex.DecodeString("308182301d060d2b0601040182dc7c0503010201060c2b0601040182dc7c05030201036100")

var (
	errBLSKey       = fmt.Errorf("%w: not a bls12-381 public key in der form", ErrMalformed)
	errBLSSignature = errors.New("bls signature does not verify")
)

// blsLines are the values that a pairing with a fixed point needs, 24 kB of them.
type blsLines = [2][len(bls12381.LoopCounter) - 1]bls12381.LineEvaluationAff

// blsKey is a public key, decoded and prepared. It is immutable and safe for concurrent use.
type blsKey struct {
	raw   [blsKeySize]byte
	lines blsLines
}

// parseBLSKey decodes a key in DER form, checks that it is in the right subgroup and prepares it.
func parseBLSKey(der []byte) (*blsKey, error) {
	raw, ok := bytes.CutPrefix(der, blsPrefix)
	if !ok || len(raw) != blsKeySize {
		return nil, errBLSKey
	}
	var point bls12381.G2Affine
	// SetBytes checks curve and subgroup. With the point at infinity every signature at infinity would verify.
	if n, err := point.SetBytes(raw); err != nil || n != blsKeySize || point.IsInfinity() {
		return nil, errBLSKey
	}
	return &blsKey{raw: [blsKeySize]byte(raw), lines: bls12381.PrecomputeLines(point)}, nil
}

// der returns the key in DER form.
func (k *blsKey) der() []byte { return append(bytes.Clone(blsPrefix), k.raw[:]...) }

// generatorLines are the lines of the negated generator of G2, the other fixed point of every check.
var generatorLines = sync.OnceValue(func() *blsLines {
	_, _, _, g2 := bls12381.Generators()
	g2.Neg(&g2)
	lines := bls12381.PrecomputeLines(g2)
	return &lines
})

// scratchLines holds copies of line tables. PairingCheckFixedQ scales the tables it is given in place, so a table used
// twice would refuse valid signatures, and one used concurrently would be a data race (gnark-crypto v0.22.0,
// MillerLoopFixedQ).
var scratchLines = sync.Pool{New: func() any { return new([2]blsLines) }}

// verify checks a signature over message: e(signature, -g2) e(H(message), key) = 1. The error is errBLSSignature.
func (k *blsKey) verify(message, signature []byte) error {
	var sig bls12381.G1Affine
	// SetBytes checks curve and subgroup.
	if len(signature) != blsSignatureSize {
		return errBLSSignature
	}
	if n, err := sig.SetBytes(signature); err != nil || n != blsSignatureSize || sig.IsInfinity() {
		return errBLSSignature
	}
	point, err := bls12381.HashToG1(message, []byte(blsSuite))
	if err != nil {
		return errBLSSignature
	}
	lines := scratchLines.Get().(*[2]blsLines)
	defer scratchLines.Put(lines)
	lines[0], lines[1] = *generatorLines(), k.lines
	ok, err := bls12381.PairingCheckFixedQ([]bls12381.G1Affine{sig, point}, lines[:])
	if err != nil || !ok {
		return errBLSSignature
	}
	return nil
}

// verifyRoot checks the signature of a state root.
func (k *blsKey) verifyRoot(root [32]byte, signature []byte) error {
	const domain = "\x0dic-state-root"
	return k.verify(append([]byte(domain), root[:]...), signature)
}
