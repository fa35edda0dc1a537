package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
)

// MaxPrincipalBytes is the longest principal the Internet Computer has, in bytes.
const MaxPrincipalBytes = 29

// maxPrincipalText is the length of the longest principal text: 53 base32 digits in groups of five with dashes between.
const maxPrincipalText = 63

var (
	errPrincipalLong = fmt.Errorf("%w: principal longer than %d bytes", ErrMalformed, MaxPrincipalBytes)
	errPrincipalText = fmt.Errorf("%w: not the canonical text of a principal", ErrMalformed)
)

// principalBase32 is the alphabet of principal texts, lower-case RFC 4648 without padding.
var principalBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Principal identifies a canister or a user of the Internet Computer. It is comparable and usable as a map key. The zero
// value is the management canister, "aaaaa-aa".
type Principal struct {
	n uint8
	b [MaxPrincipalBytes]byte // zero beyond n, so that == compares principals
}

// Anonymous is the principal of requests that nobody signed, "2vxsx-fae".
var Anonymous = Principal{n: 1, b: [MaxPrincipalBytes]byte{4}}

// PrincipalFromBytes returns the principal with the given bytes, which it copies. The error wraps ErrMalformed if there are
// more than MaxPrincipalBytes.
func PrincipalFromBytes(raw []byte) (Principal, error) {
	if len(raw) > MaxPrincipalBytes {
		return Principal{}, errPrincipalLong
	}
	p := Principal{n: uint8(len(raw))}
	copy(p.b[:], raw)
	return p, nil
}

// ParsePrincipal parses the text form of a principal. Only the canonical text is accepted: lower-case, dashes after every
// fifth digit, checksum right. Anything else is an error that wraps ErrMalformed.
func ParsePrincipal(text string) (Principal, error) {
	if len(text) > maxPrincipalText {
		return Principal{}, errPrincipalText
	}
	var digits [maxPrincipalText]byte
	n := 0
	for i := range len(text) {
		if text[i] == '-' {
			continue
		}
		digits[n] = text[i]
		n++
	}
	var raw [maxPrincipalText]byte
	size, err := principalBase32.Decode(raw[:], digits[:n])
	if err != nil || size < 4 {
		return Principal{}, errPrincipalText
	}
	p, err := PrincipalFromBytes(raw[4:size])
	if err != nil {
		return Principal{}, err
	}
	// Encoding again checks the checksum, the dashes, the case and stray bits of the last digit at once.
	var canonical [maxPrincipalText]byte
	if string(p.AppendText(canonical[:0])) != text {
		return Principal{}, errPrincipalText
	}
	return p, nil
}

// SelfAuthenticating returns the principal of the holder of a public key in DER form: its SHA-224 digest followed by 02.
func SelfAuthenticating(der []byte) Principal {
	p := Principal{n: MaxPrincipalBytes}
	digest := sha256.Sum224(der)
	copy(p.b[:], digest[:])
	p.b[MaxPrincipalBytes-1] = 2
	return p
}

// AppendBytes appends the principal's bytes to dst.
func (p Principal) AppendBytes(dst []byte) []byte { return append(dst, p.b[:p.n]...) }

// Bytes returns a copy of the principal's bytes: at most MaxPrincipalBytes, none for the management canister.
func (p Principal) Bytes() []byte { return p.AppendBytes(make([]byte, 0, p.n)) }

// AppendText appends the canonical text of the principal to dst.
func (p Principal) AppendText(dst []byte) []byte {
	var raw [4 + MaxPrincipalBytes]byte
	binary.BigEndian.PutUint32(raw[:], crc32.ChecksumIEEE(p.b[:p.n]))
	copy(raw[4:], p.b[:p.n])
	var digits [maxPrincipalText]byte
	n := principalBase32.EncodedLen(4 + int(p.n))
	principalBase32.Encode(digits[:], raw[:4+p.n])
	for i := 0; i < n; i += 5 {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = append(dst, digits[i:min(i+5, n)]...)
	}
	return dst
}

// String returns the canonical text of the principal.
func (p Principal) String() string {
	var buf [maxPrincipalText]byte
	return string(p.AppendText(buf[:0]))
}

// MarshalText returns the canonical text, for encoding/json and its like. It never fails.
func (p Principal) MarshalText() ([]byte, error) { return p.AppendText(nil), nil }

// UnmarshalText is ParsePrincipal for encoding/json and its like.
func (p *Principal) UnmarshalText(text []byte) error {
	q, err := ParsePrincipal(string(text))
	if err != nil {
		return err
	}
	*p = q
	return nil
}

// IsAnonymous reports whether p is the anonymous principal.
func (p Principal) IsAnonymous() bool { return p == Anonymous }

// Compare orders principals as byte strings, the order that canister ranges use. It returns -1, 0 or 1.
func (p Principal) Compare(q Principal) int { return bytes.Compare(p.b[:p.n], q.b[:q.n]) }

// ClientKey names one connection of a client to a canister: the client's principal and the nonce it chose when opening.
// It is comparable.
type ClientKey struct {
	// Principal is the client, as the canister sees it.
	Principal Principal
	// Nonce is the client's random number for this connection. It is not for logs.
	Nonce uint64
}

// String returns "<principal>_<nonce>", the form in the canister's error texts. It is part of the protocol and not for logs.
func (k ClientKey) String() string {
	buf := make([]byte, 0, maxPrincipalText+21)
	buf = k.Principal.AppendText(buf)
	buf = append(buf, '_')
	return string(strconv.AppendUint(buf, k.Nonce, 10))
}
