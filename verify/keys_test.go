package verify

import (
	"bytes"
	"crypto/elliptic"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/aviate-labs/agent-go/identity"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/fxamacker/cbor/v2"
)

func identities(t testing.TB) map[string]Signer {
	t.Helper()
	p256, err := identity.NewRandomPrime256v1Identity()
	if err != nil {
		t.Fatal(err)
	}
	k1, err := identity.NewRandomSecp256k1Identity()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]Signer{"ed25519": ed25519FromSeed(t, 9), "p256": p256, "secp256k1": k1}
}

// What agent-go's identities sign verifies, and nothing else.
func TestPlainKeysAgainstAgentGo(t *testing.T) {
	for name, id := range identities(t) {
		for i := range 20 { // ECDSA is randomised: leading zeros and both halves of s come up
			e := signed(t, Request{Arg: []byte{byte(i)}}, id)
			if _, err := VerifySender(e, goldenTime, nil, nil); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		e := signed(t, Request{}, id)
		sig := e.Signature
		for _, bad := range [][]byte{sig[:63], append(bytes.Clone(sig), 0), make([]byte, 64), bytes.Repeat([]byte{0xff}, 64), {1}} {
			e.Signature = bad
			if _, err := VerifySender(e, goldenTime, nil, nil); CauseOf(err) != CauseSignature {
				t.Errorf("%s: signature of %d bytes: got %v", name, len(bad), err)
			}
		}
		for i := range sig {
			e.Signature = bytes.Clone(sig)
			e.Signature[i] ^= 0x10
			if _, err := VerifySender(e, goldenTime, nil, nil); CauseOf(err) != CauseSignature {
				t.Errorf("%s: byte %d of the signature changed: got %v", name, i, err)
			}
		}
		e.Signature = nil
		if _, err := VerifySender(e, goldenTime, nil, nil); CauseOf(err) != CauseSignature {
			t.Errorf("%s: no signature: got %v", name, err)
		}
	}
}

// Both halves of s are good on both curves, as replicas have it; zero and the order of the group and beyond are not.
func TestBothHalvesOfS(t *testing.T) {
	ids := identities(t)
	for name, order := range map[string]*big.Int{"p256": elliptic.P256().Params().N, "secp256k1": secp256k1.Params().N} {
		e := signed(t, Request{}, ids[name])
		sig := e.Signature
		s := new(big.Int).SetBytes(sig[32:])
		with := func(s *big.Int) error {
			e.Signature = append(bytes.Clone(sig[:32]), s.FillBytes(make([]byte, 32))...)
			_, err := VerifySender(e, goldenTime, nil, nil)
			return err
		}
		if err := with(s); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := with(new(big.Int).Sub(order, s)); err != nil {
			t.Errorf("%s, the other half: %v", name, err)
		}
		for _, none := range []*big.Int{order, new(big.Int).Add(order, big.NewInt(1)), new(big.Int)} {
			if err := with(none); CauseOf(err) != CauseSignature {
				t.Errorf("%s, s of %d bits: got %v", name, none.BitLen(), err)
			}
		}
	}
}

// spki is a SubjectPublicKeyInfo with an algorithm of the Internet Computer's own.
func spki(t testing.TB, oid string, bits []byte) []byte {
	t.Helper()
	der, err := asn1.Marshal(struct {
		Algorithm struct{ ID asn1.RawValue }
		Key       asn1.BitString
	}{
		struct{ ID asn1.RawValue }{asn1.RawValue{Tag: asn1.TagOID, Bytes: []byte(oid)}},
		asn1.BitString{Bytes: bits, BitLength: 8 * len(bits)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestPublicKeysRefused(t *testing.T) {
	cose := func(entries map[int]any) string {
		b, err := cbor.Marshal(entries)
		if err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(spki(t, oidCOSE, b))
	}
	raw := func(oid, bits string) string { return hex.EncodeToString(spki(t, oid, unhex(t, bits))) }
	ones := bytes.Repeat([]byte{1}, 32)
	for _, tc := range []struct {
		name, der string
		cause     Cause
	}{
		{"empty", "", CauseMalformed},
		{"not DER", "0102", CauseMalformed},
		{"sequence only", "3000", CauseMalformed},
		{"no identifier", "30023000", CauseMalformed},
		{"ed25519 of 31 bytes", "3029300506032b6570032000" + strings.Repeat("01", 31), CauseScheme},
		{"ed25519 cut", "302a300506032b6570032100" + strings.Repeat("01", 31), CauseMalformed},
		{"ed25519 with a byte behind", "302a300506032b6570032100" + strings.Repeat("01", 33), CauseMalformed},
		{"secp256k1 off the curve", hex.EncodeToString([]byte(secp256k1Prefix)) + "04" + strings.Repeat("11", 64), CauseMalformed},
		{"secp256k1 compressed", "3036301006072a8648ce3d020106052b8104000a032200024f355bdcb7cc0af728ef3cceb9615d90684bb5b2ca5f859ab0f0b704075871aa", CauseScheme},
		{"P-256 off the curve", hex.EncodeToString([]byte(p256Prefix)) + "04" + strings.Repeat("11", 64), CauseMalformed},
		{"P-384", "3076301006072a8648ce3d020106052b81040022036200" + strings.Repeat("04", 97), CauseScheme},
		{"gigabyte sequence", "308440000000", CauseMalformed},
		{"indefinite sequence", "3080", CauseMalformed},
		{"length not minimal", "308103300100", CauseMalformed},
		{"half a byte of key", "3010300c060a2b0601040183b8430101" + "030104", CauseMalformed},
		{"COSE without bits", raw(oidCOSE, ""), CauseMalformed},
		{"COSE not a map", raw(oidCOSE, "80"), CauseMalformed},
		{"COSE key twice", raw(oidCOSE, "a201020102"), CauseMalformed},
		{"COSE gigabyte map", raw(oidCOSE, "ba40000000"), CauseMalformed},
		{"COSE text as key", raw(oidCOSE, "a1616101"), CauseMalformed},
		{"COSE byte behind", raw(oidCOSE, "a000"), CauseMalformed},
		{"COSE empty", cose(map[int]any{}), CauseScheme},
		{"COSE P-384", cose(map[int]any{1: 2, 3: -35, -1: 2, -2: ones, -3: ones}), CauseScheme},
		{"COSE off the curve", cose(map[int]any{1: 2, 3: -7, -1: 1, -2: ones, -3: ones}), CauseMalformed},
		{"COSE short coordinate", cose(map[int]any{1: 2, 3: -7, -1: 1, -2: ones[1:], -3: ones}), CauseMalformed},
		{"COSE Ed25519", cose(map[int]any{1: 1, 3: -8, -1: 6, -2: ones}), CauseScheme},
		{"COSE RSA of 1024 bits", cose(map[int]any{1: 3, 3: -257, -1: bytes.Repeat([]byte{0xff}, 128), -2: []byte{1, 0, 1}}), CauseMalformed},
		{"COSE RSA of 16384 bits", cose(map[int]any{1: 3, 3: -257, -1: bytes.Repeat([]byte{0xff}, 2048), -2: []byte{1, 0, 1}}), CauseMalformed},
		{"COSE RSA with exponent 1", cose(map[int]any{1: 3, 3: -257, -1: bytes.Repeat([]byte{0xff}, 256), -2: []byte{1}}), CauseMalformed},
		{"COSE RSA with an even exponent", cose(map[int]any{1: 3, 3: -257, -1: bytes.Repeat([]byte{0xff}, 256), -2: []byte{4}}), CauseMalformed},
		{"COSE RSA with a large exponent", cose(map[int]any{1: 3, 3: -257, -1: bytes.Repeat([]byte{0xff}, 256), -2: ones}), CauseMalformed},
		{"canister without bits", raw(oidCanisterSig, ""), CauseMalformed},
		{"canister id cut", raw(oidCanisterSig, "0a00"), CauseMalformed},
		{"canister id of 30 bytes", raw(oidCanisterSig, "1e"+strings.Repeat("00", 31)), CauseMalformed},
		{"canister id of 255 bytes", raw(oidCanisterSig, "ff"+strings.Repeat("00", 255)), CauseMalformed},
	} {
		key, err := parsePublicKey(unhex(t, tc.der))
		if key != nil || CauseOf(err) != tc.cause || errors.Is(err, ErrUnknownScheme) != (tc.cause == CauseScheme) {
			t.Errorf("%s: got %v, %v, cause %s", tc.name, key, err, CauseOf(err))
		}
	}
}
