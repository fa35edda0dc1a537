package verify

import (
	"crypto/rsa"
	"math/big"
)

// Labels and values of COSE keys (RFC 9052, section 7 and RFC 9053), as far as the Internet Computer supports them.
const (
	coseKty = 1
	coseAlg = 3
	coseCrv = -1 // also n of an RSA key
	coseX   = -2 // also e of an RSA key
	coseY   = -3

	coseKtyEC2 = 2
	coseKtyRSA = 3

	coseAlgES256 = -7
	coseAlgRS256 = -257

	coseCrvP256 = 1
)

// Bounds of RSA keys in bits. Replicas name 8192 as their upper bound, but the library that reads the keys for them stops at
// 4096 (dfinity/ic, basic_sig/rsa_pkcs1; crate rsa 0.9). Authenticators have keys of 2048.
const (
	minRSABits = 2048
	maxRSABits = 4096
)

// maxCOSEEntries bounds the entries of a COSE key. Keys of authenticators have four or five.
const maxCOSEEntries = 16

// coseKey is a COSE key as it lies in its CBOR. The negative labels mean something else for each key type; all but crv
// are byte strings, of which n is the same label as crv.
type coseKey struct {
	kty, alg, crv int64
	n, x, y       []byte
}

// parseCOSE reads the COSE key of a WebAuthn authenticator. The interface specification names Ed25519 as well; replicas
// refuse it (dfinity/ic, rs/validator/src/webauthn.rs), so it is a kind that cannot be checked here.
func parseCOSE(raw []byte) (publicKey, error) {
	k, err := readCOSE(raw)
	if err != nil {
		return nil, &Error{Cause: CauseMalformed, Text: "decoding webauthn public key", Err: err}
	}
	switch {
	case k.kty == coseKtyEC2 && k.alg == coseAlgES256 && k.crv == coseCrvP256:
		if len(k.x) != 32 || len(k.y) != 32 {
			return nil, badKey("P-256 coordinates are not of 32 bytes")
		}
		var point [pointSize]byte
		point[0] = 4
		copy(point[1:], k.x)
		copy(point[33:], k.y)
		key, err := parseP256(point[:])
		if err != nil {
			return nil, err
		}
		return webauthnKey{p256: key}, nil
	case k.kty == coseKtyRSA && k.alg == coseAlgRS256:
		n, e := new(big.Int).SetBytes(k.n), new(big.Int).SetBytes(k.x)
		if n.BitLen() < minRSABits || n.BitLen() > maxRSABits || e.BitLen() > 31 || e.BitLen() < 2 || e.Bit(0) == 0 {
			return nil, badKey("RSA modulus or exponent out of range")
		}
		return webauthnKey{rsa: &rsa.PublicKey{N: n, E: int(e.Int64())}}, nil
	}
	return nil, &Error{Cause: CauseScheme, Text: "webauthn key is of a kind the gateway cannot check", Err: ErrUnknownScheme}
}

// readCOSE reads the map of a COSE key. Its keys are numbers, of which each may occur once.
func readCOSE(raw []byte) (k coseKey, err error) {
	c := readClient(raw)
	entries := c.entries(maxCOSEEntries)
	var seen [maxCOSEEntries]int64
	for i := 0; entries.next(&c); i++ {
		label := c.int()
		for _, s := range seen[:i] {
			if s == label {
				c.fail(errCBORDuplicate)
			}
		}
		seen[i] = label
		switch {
		case label == coseKty:
			k.kty = c.int()
		case label == coseAlg:
			k.alg = c.int()
		case label == coseCrv && c.peek() == cborBytes:
			k.n = c.bytes()
		case label == coseCrv:
			k.crv = c.int()
		case label == coseX:
			k.x = c.bytes()
		case label == coseY:
			k.y = c.bytes()
		default:
			c.skip()
		}
	}
	return k, c.done()
}

// int reads a signed integer of at most 64 bits.
func (c *cborReader) int() int64 {
	major, arg := c.head()
	if c.err == nil && arg > 1<<63-1 {
		c.fail(errCBORRange)
	}
	switch {
	case c.err != nil:
		return 0
	case major == cborUint:
		return int64(arg)
	case major == cborNegInt:
		return -1 - int64(arg)
	}
	c.fail(errCBORType)
	return 0
}
