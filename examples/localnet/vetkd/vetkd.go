// Package vetkd is verifiable encrypted threshold key derivation over
// BLS12-381, as the Internet Computer has it: the master key's side, which on
// mainnet is shared between the nodes of a subnet and here is held whole, and
// the side of the one who asked for a key.
//
// Canisters ask for keys with the methods vetkd_public_key and vetkd_derive_key
// of the management canister (interface specification, section "IC method
// vetkd_derive_key"). The bytes are those of the implementation in dfinity/ic
// and of the packages of dfinity/vetkeys, against whose vectors they are
// tested.
package vetkd

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	bls12381 "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr"
)

// Sizes of encoded points and of what is made of them, in bytes.
const (
	TransportKeySize = bls12381.SizeOfG1AffineCompressed
	PublicKeySize    = bls12381.SizeOfG2AffineCompressed
	EncryptedKeySize = 2*bls12381.SizeOfG1AffineCompressed + bls12381.SizeOfG2AffineCompressed
	KeySize          = bls12381.SizeOfG1AffineCompressed
)

// Errors of what others sent.
var (
	// ErrTransportKey says that bytes are no point of the group G1. The identity
	// is one: a key that is encrypted to it is not encrypted at all, and the
	// network does not mind. Canisters have to refuse it, see IsIdentity.
	ErrTransportKey = errors.New("not a transport public key: 48 bytes of a compressed point of G1 are needed")
	// ErrPublicKey says that bytes are no public key.
	ErrPublicKey = errors.New("not a public key: 96 bytes of a compressed point of G2 other than the identity are needed")
	// ErrEncryptedKey says that an encrypted key is damaged, is for another
	// transport key, or is not the one that was asked for.
	ErrEncryptedKey = errors.New("the encrypted key does not open to the key that was asked for")
)

// Domain separators of dfinity/ic.
const (
	canisterDomain = "ic-vetkd-bls12-381-g2-canister-id"
	contextDomain  = "ic-vetkd-bls12-381-g2-context"
	hashDomain     = "BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_AUG_"
)

// MasterKey is the secret that all keys of a name are derived from. Its methods
// may be called concurrently.
type MasterKey struct {
	secret fr.Element
	public bls12381.G2Affine
}

// NewMasterKey makes the key that belongs to a seed.
func NewMasterKey(seed [32]byte) *MasterKey {
	k := &MasterKey{secret: hashToScalar(seed[:], "master key of a local network")}
	k.public.ScalarMultiplicationBase(scalar(&k.secret))
	return k
}

// PublicKey is the key that clients derive all others from: PublicKeySize bytes.
func (k *MasterKey) PublicKey() []byte { return encodeG2(&k.public) }

// Encrypt derives the key of a canister for a context and an input, and
// encrypts it to a transport public key: EncryptedKeySize bytes, other ones
// each time. The error is ErrTransportKey, or of the source of randomness.
func (k *MasterKey) Encrypt(canister, context, input, transport []byte) ([]byte, error) {
	to, err := decodeG1(transport)
	if err != nil {
		return nil, ErrTransportKey
	}
	secret := k.secret
	public, offset := derive(&k.public, canister, canisterDomain)
	secret.Add(&secret, &offset)
	if len(context) > 0 {
		public, offset = derive(&public, context, contextDomain)
		secret.Add(&secret, &offset)
	}
	var random fr.Element
	if _, err := random.SetRandom(); err != nil {
		return nil, fmt.Errorf("choosing a number: %w", err)
	}
	var e1, e3, part bls12381.G1Affine
	var e2 bls12381.G2Affine
	r := scalar(&random)
	e1.ScalarMultiplicationBase(r)
	e2.ScalarMultiplicationBase(r)
	m := hashToG1(&public, input)
	part.ScalarMultiplication(&m, scalar(&secret))
	e3.ScalarMultiplication(&to, r)
	e3.Add(&e3, &part)
	return append(append(encodeG1(&e1), encodeG2(&e2)...), encodeG1(&e3)...), nil
}

// DerivePublic is the public key of a canister for a context, from the master
// key's public key. Clients do this by themselves and so need to trust nobody
// for it. An empty context is that of the canister as a whole. The error is
// ErrPublicKey.
func DerivePublic(master, canister, context []byte) ([]byte, error) {
	public, err := decodeG2(master)
	if err != nil {
		return nil, err
	}
	public, _ = derive(&public, canister, canisterDomain)
	if len(context) > 0 {
		public, _ = derive(&public, context, contextDomain)
	}
	return encodeG2(&public), nil
}

// TransportKey is the secret of one who asks for keys.
type TransportKey struct{ secret fr.Element }

// NewTransportKey makes one of random numbers.
func NewTransportKey() (*TransportKey, error) {
	k := &TransportKey{}
	if _, err := k.secret.SetRandom(); err != nil {
		return nil, fmt.Errorf("choosing a transport key: %w", err)
	}
	return k, nil
}

// PublicKey is what a key is encrypted to: TransportKeySize bytes.
func (k *TransportKey) PublicKey() []byte {
	var p bls12381.G1Affine
	p.ScalarMultiplicationBase(scalar(&k.secret))
	return encodeG1(&p)
}

// Open decrypts a key that was encrypted to k, and verifies that it is the one
// that belongs to a derived public key and an input: KeySize bytes, the same
// for everybody. The error is ErrPublicKey or ErrEncryptedKey.
func (k *TransportKey) Open(encrypted, public, input []byte) ([]byte, error) {
	dpk, err := decodeG2(public)
	if err != nil {
		return nil, err
	}
	if len(encrypted) != EncryptedKeySize {
		return nil, fmt.Errorf("%w: it has %d bytes, not %d", ErrEncryptedKey, len(encrypted), EncryptedKeySize)
	}
	const second, third = bls12381.SizeOfG1AffineCompressed, EncryptedKeySize - bls12381.SizeOfG1AffineCompressed
	e1, err1 := decodeG1(encrypted[:second])
	var e2 bls12381.G2Affine
	err2 := setCompressed(&e2, encrypted[second:third])
	e3, err3 := decodeG1(encrypted[third:])
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrEncryptedKey, err)
	}
	_, _, g1, g2 := bls12381.Generators()
	var key, mask bls12381.G1Affine
	mask.ScalarMultiplication(&e1, scalar(&k.secret))
	key.Sub(&e3, &mask)
	if !samePairing(&e1, &g2, &g1, &e2) || !signed(&key, &dpk, input) {
		return nil, ErrEncryptedKey
	}
	return encodeG1(&key), nil
}

// signed tells whether key is the one that belongs to a derived public key and
// an input: a BLS signature of the input.
func signed(key *bls12381.G1Affine, public *bls12381.G2Affine, input []byte) bool {
	_, _, _, g2 := bls12381.Generators()
	m := hashToG1(public, input)
	return samePairing(key, &g2, &m, public)
}

// SymmetricKey derives n bytes, at most 8160, for one purpose from a key.
func SymmetricKey(key []byte, domain string, n int) ([]byte, error) {
	return hkdf.Key(sha256.New, key, nil, domain, n)
}

// IsIdentity tells whether a transport public key is the identity of the group,
// which encrypts nothing. No other encoding of it is a transport public key.
func IsIdentity(transport []byte) bool {
	var identity bls12381.G1Affine
	return string(transport) == string(encodeG1(&identity))
}

// derive is one step from a public key to that of a part of it: the key, and
// what has to be added to its secret.
func derive(public *bls12381.G2Affine, name []byte, domain string) (bls12381.G2Affine, fr.Element) {
	parent := public.Bytes()
	offset := hashToScalar(appendSized(appendSized(nil, parent[:]), name), domain)
	var out bls12381.G2Affine
	out.ScalarMultiplicationBase(scalar(&offset))
	out.Add(&out, public)
	return out, offset
}

func appendSized(dst, b []byte) []byte {
	return append(binary.BigEndian.AppendUint64(dst, uint64(len(b))), b...)
}

// hashToScalar is hash_to_field of RFC 9380 into the field of scalars.
func hashToScalar(msg []byte, domain string) fr.Element {
	out, err := fr.Hash(msg, []byte(domain), 1)
	if err != nil { // the domains are constants of legal length
		panic(fmt.Sprintf("hashing to a scalar: %v", err))
	}
	return out[0]
}

// hashToG1 hashes an input with the public key before it, as BLS signatures
// with message augmentation do.
func hashToG1(public *bls12381.G2Affine, input []byte) bls12381.G1Affine {
	p, err := bls12381.HashToG1(append(encodeG2(public), input...), []byte(hashDomain))
	if err != nil { // the domain is a constant of legal length
		panic(fmt.Sprintf("hashing to G1: %v", err))
	}
	return p
}

// samePairing tells whether e(a, b) = e(c, d).
func samePairing(a *bls12381.G1Affine, b *bls12381.G2Affine, c *bls12381.G1Affine, d *bls12381.G2Affine) bool {
	var minus bls12381.G1Affine
	minus.Neg(c)
	ok, err := bls12381.PairingCheck([]bls12381.G1Affine{*a, minus}, []bls12381.G2Affine{*b, *d})
	return ok && err == nil
}

func scalar(e *fr.Element) *big.Int { return e.BigInt(new(big.Int)) }

func encodeG1(p *bls12381.G1Affine) []byte {
	b := p.Bytes()
	return b[:]
}

func encodeG2(p *bls12381.G2Affine) []byte {
	b := p.Bytes()
	return b[:]
}

// decodeG1 reads a compressed point of the group G1, the identity included.
func decodeG1(b []byte) (p bls12381.G1Affine, err error) {
	if len(b) != bls12381.SizeOfG1AffineCompressed {
		return p, fmt.Errorf("a point of G1 has %d bytes, not %d", bls12381.SizeOfG1AffineCompressed, len(b))
	}
	err = setCompressed(&p, b)
	return p, err
}

// decodeG2 reads a public key.
func decodeG2(b []byte) (p bls12381.G2Affine, err error) {
	if len(b) != PublicKeySize || setCompressed(&p, b) != nil || p.IsInfinity() {
		return p, ErrPublicKey
	}
	return p, nil
}

// setCompressed reads all of b, whose length is that of a compressed point: a
// longer form, which a bit in it announces, is cut short by that. Curve and
// group are checked.
func setCompressed(p interface{ SetBytes([]byte) (int, error) }, b []byte) error {
	_, err := p.SetBytes(b)
	return err
}
