package verify

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"errors"
	"fmt"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// ErrUnknownScheme is wrapped by errors about public keys of a kind that this package cannot check. The Internet Computer
// may know it nevertheless.
var ErrUnknownScheme = errors.New("unknown signature scheme")

// publicKey checks signatures of one key. Implementations are immutable.
type publicKey interface {
	// verify returns nil if sig is the key's signature of msg. Certificates in the signature are judged with a, which
	// may be nil where the key does not need it. Errors are *Error.
	verify(msg, sig []byte, a *Authority, now time.Time) error
}

// The encodings of the frequent keys up to the key itself: SubjectPublicKeyInfo with the algorithm's object identifiers.
const (
	ed25519Prefix   = "\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"
	secp256k1Prefix = "\x30\x56\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x0a\x03\x42\x00"
	p256Prefix      = "\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00"
)

// Object identifiers, DER contents: 1.3.6.1.4.1.56387.1.1 and .2 are the Internet Computer's own.
const (
	oidCOSE        = "\x2b\x06\x01\x04\x01\x83\xb8\x43\x01\x01"
	oidCanisterSig = "\x2b\x06\x01\x04\x01\x83\xb8\x43\x01\x02"
)

// pointSize is the size of an uncompressed point of a 256-bit curve: 04, x and y.
const pointSize = 1 + 32 + 32

// parsePublicKey reads a public key in DER form, as envelopes and delegations carry it. The result does not alias
// der. Errors wrap ErrUnknownScheme for a kind that is none of the five that the Internet Computer documents, and have
// CauseMalformed for a broken key of a known kind.
func parsePublicKey(der []byte) (publicKey, error) {
	if key, ok := bytes.CutPrefix(der, []byte(ed25519Prefix)); ok && len(key) == ed25519.PublicKeySize {
		return ed25519Key(bytes.Clone(key)), nil
	}
	if point, ok := bytes.CutPrefix(der, []byte(secp256k1Prefix)); ok && len(point) == pointSize && point[0] == 4 {
		key, err := secp256k1.ParsePubKey(point)
		if err != nil {
			return nil, badKey("secp256k1 point is not on the curve")
		}
		return secp256k1Key{key}, nil
	}
	if point, ok := bytes.CutPrefix(der, []byte(p256Prefix)); ok && len(point) == pointSize && point[0] == 4 {
		key, err := parseP256(point)
		if err != nil {
			return nil, err
		}
		return p256Key{key}, nil
	}
	oid, key, err := parseSPKI(der)
	if err != nil {
		return nil, err
	}
	switch string(oid) {
	case oidCOSE:
		return parseCOSE(key)
	case oidCanisterSig:
		return parseCanisterKey(key)
	}
	return nil, &Error{Cause: CauseScheme, Text: "public key is of a kind the gateway cannot check", Err: ErrUnknownScheme}
}

// parseP256 reads an uncompressed point of the curve P-256.
func parseP256(point []byte) (*ecdsa.PublicKey, error) {
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, badKey("P-256 point is not on the curve")
	}
	return key, nil
}

// badKey is the error for a key of a known kind that cannot be one.
func badKey(reason string) error {
	return &Error{Cause: CauseMalformed, Text: "decoding public key", Err: fmt.Errorf("%w: %s", ErrMalformed, reason)}
}

// DER tags of a SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7).
const (
	derBitString = 0x03
	derOID       = 0x06
	derSequence  = 0x30
)

// parseSPKI returns the object identifier of the algorithm and the bits of the key. Parameters of the algorithm are not
// looked at.
func parseSPKI(der []byte) (oid, key []byte, err error) {
	info, rest, ok := cutDER(der, derSequence)
	if !ok || len(rest) != 0 {
		return nil, nil, badKey("not a DER sequence")
	}
	algorithm, info, ok := cutDER(info, derSequence)
	if !ok {
		return nil, nil, badKey("no algorithm")
	}
	if oid, _, ok = cutDER(algorithm, derOID); !ok {
		return nil, nil, badKey("no algorithm identifier")
	}
	key, rest, ok = cutDER(info, derBitString)
	if !ok || len(rest) != 0 || len(key) == 0 || key[0] != 0 {
		return nil, nil, badKey("no string of whole bytes")
	}
	return oid, key[1:], nil // the first byte counted unused bits
}

// cutDER reads one element with the given tag and returns its contents and what follows. Lengths are definite, minimal and
// below 65536.
func cutDER(b []byte, tag byte) (contents, rest []byte, ok bool) {
	if len(b) < 2 || b[0] != tag {
		return nil, nil, false
	}
	n, head := int(b[1]), 2
	switch {
	case n < 0x80:
	case n == 0x81 && len(b) >= 3 && b[2] >= 0x80:
		n, head = int(b[2]), 3
	case n == 0x82 && len(b) >= 4 && b[2] != 0:
		n, head = int(b[2])<<8|int(b[3]), 4
	default:
		return nil, nil, false
	}
	if n > len(b)-head {
		return nil, nil, false
	}
	return b[head : head+n], b[head+n:], true
}
