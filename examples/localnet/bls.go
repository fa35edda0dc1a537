package localnet

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"

	bls12381 "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr"
)

// blsSuite is the ciphersuite of the IC: signatures in G1, keys in G2.
var blsSuite = []byte("BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_")

// blsKeyPrefix precedes the 96 key bytes in the DER form of a BLS key.
var blsKeyPrefix, _ = hex.DecodeString("308182301d060d2b0601040182dc7c0503010201060c2b0601040182dc7c05030201036100")

// blsKey is the key of a subnet. On mainnet its secret is shared between the
// nodes; here one process holds it whole.
type blsKey struct {
	secret big.Int
	public bls12381.G2Affine
	der    []byte
}

func newBLSKey(seed [32]byte) *blsKey {
	var scalar fr.Element
	// 64 bytes reduced modulo the group order: no measurable bias.
	lo, hi := sha256.Sum256(append([]byte("bls lo"), seed[:]...)), sha256.Sum256(append([]byte("bls hi"), seed[:]...))
	scalar.SetBytes(append(lo[:], hi[:]...))
	k := &blsKey{}
	scalar.BigInt(&k.secret)
	k.public.ScalarMultiplicationBase(&k.secret)
	pub := k.public.Bytes()
	k.der = append(append([]byte{}, blsKeyPrefix...), pub[:]...)
	return k
}

// sign signs a state root and returns the 48 bytes of the signature.
func (k *blsKey) sign(root [32]byte) []byte {
	h, err := bls12381.HashToG1(append([]byte("\x0dic-state-root"), root[:]...), blsSuite)
	if err != nil { // the suite name is a constant of legal length
		panic(fmt.Sprintf("hashing to G1: %v", err))
	}
	var sig bls12381.G1Affine
	sig.ScalarMultiplication(&h, &k.secret)
	out := sig.Bytes()
	return out[:]
}

// seedFor derives the secret named by label from the seed of the network.
func seedFor(seed uint64, label string) [32]byte {
	return sha256.Sum256(append(binary.BigEndian.AppendUint64([]byte("localnet "), seed), label...))
}
