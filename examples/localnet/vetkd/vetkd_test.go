package vetkd

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	bls12381 "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fp"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The values of the public tests of dfinity/vetkeys: backend/rs/ic_vetkeys/tests/utils.rs (U) and
// frontend/ic_vetkeys/src/utils/utils.test.ts (T), commit 0158fc520adb03f4a5974c9a557b8ff9d23194f7.
const (
	vectorPublic    = "972c4c6cc184b56121a1d27ef1ca3a2334d1a51be93573bd18e168f78f8fe15ce44fb029ffe8e9c3ee6bea2660f4f35e0774a35a80d6236c050fd8f831475b5e145116d3e83d26c533545f64b08464e4bcc755f990a381efa89804212d4eef5f"
	vectorTransport = "167b736e44a1c134bd46ca834220c75c186768612568ac264a01554c46633e76"
	vectorEncrypted = "b1a13757eaae15a3c8884fc1a3453f8a29b88984418e65f1bd21042ce1d6809b2f8a49f7326c1327f2a3921e8ff1d6c3adde2a801f1f88de98ccb40c62e366a279e7aec5875a0ce2f2a9f3e109d9cb193f0197eadb2c5f5568ee4d6a87e115910662e01e604087246be8b081fc6b8a06b4b0100ed1935d8c8d18d9f70d61718c5dba23a641487e72b3b25884eeede8feb3c71599bfbcebe60d29408795c85b4bdf19588c034d898e7fc513be8dbd04cac702a1672f5625f5833d063b05df7503"
	vectorKey       = "987db5406ce297e729c8564a106dc896943b00216a095fe9c5d32a16a330c02eb80e6f468ede83cde5462b5145b58f65"
)

func vectorTransportKey(t *testing.T) *TransportKey {
	k := &TransportKey{}
	k.secret.SetBytes(unhex(t, vectorTransport))
	return k
}

func TestVectors(t *testing.T) {
	scalarOf := func(msg, domain string) string {
		e := hashToScalar([]byte(msg), domain)
		b := e.Bytes()
		return hex.EncodeToString(b[:])
	}
	hashOf := func(public, input string) string {
		p, err := decodeG2(unhex(t, public))
		if err != nil {
			t.Fatal(err)
		}
		h := hashToG1(&p, unhex(t, input))
		return hex.EncodeToString(encodeG1(&h))
	}
	public := func(master, canister, context string) string {
		p, err := DerivePublic(unhex(t, master), []byte(canister), []byte(context))
		if err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(p)
	}
	step := func(parent, context string) string {
		p, err := decodeG2(unhex(t, parent))
		if err != nil {
			t.Fatal(err)
		}
		p, _ = derive(&p, []byte(context), contextDomain)
		return hex.EncodeToString(encodeG2(&p))
	}
	symmetric := func(key, domain string) string {
		b, err := SymmetricKey(unhex(t, key), domain, 32)
		if err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(b)
	}
	opened, err := vectorTransportKey(t).Open(unhex(t, vectorEncrypted), unhex(t, vectorPublic), []byte("message"))
	if err != nil {
		t.Fatal(err)
	}
	const (
		scalarDomain = "QUUX-V01-CS02-with-BLS12381SCALAR_XMD:SHA-256_SSWU_RO_"
		master       = "9183b871aa141d15ba2efc5bc58a49cb6a167741364804617f48dfe11e0285696b7018f172dad1a87ed81abf27ea4c320995041e2ee4a47b2226a2439d92a38557a7e2acc72fd157283b20f1f37ba872be235214c6a9cbba1eb2ef39deec72a5"
	)
	for _, v := range []struct{ name, got, want string }{
		{"T hash to scalar, nothing", scalarOf("", scalarDomain), "3b3fdf74b194c0a0f683d67a312a4e72d663d74b8478dc7b56be41e0ce11caa1"},
		{"T hash to scalar, abc", scalarOf("abc", scalarDomain), "47e7a8839695a3df27f202cf71e295a8554b47cef75c1e316b1865317720e188"},
		{"T augmented hash", hashOf("80e38f040fae321c75cf8faf8c6e9500c92b7cac022ca3eb48fb01c8e91d8c2bc806c2665ed28a0a8c87a4bff717dd3c0c4eb57ad635bc582f89c171b8478f2fe1b806c3faeed7133b13141aaf4a65aa0c5d7902dc80102e91e6f73fe56fa34f", "25138dfc69267bd861d8ad9f05b9"),
			"8e946e53188c951301b895c228c48cdeebf008d0fbc5b0aa8bff07a30926fb166485137dc372983433032673f74c24e6"},
		{"U canister's key", public(master, "test-canister-id", ""), "af78a908589d332fc8b9d042807c483e73872e2aea7620bdb985b9289d5a99ebfd5ac0ec4844a4c542f6d0f12a716d941674953cef4f38dde601ce9792db8832557eaa051733c5541fa5017465d69b62cc4d93f2079fb8c050b4bd735ef75859"},
		{"U key of a context", public(master, "test-canister-id", "test-context"), "a20125b8cdfc57f71b6f67e557e82c1307c1af9f728573f3b682f3b1816684f3f6aed5d8dd40a309b457a25dab7d8a1416fc0e0973000321c0c1dd844d80a5708e81fdd8338ea6433f175992fa05ef343b1e7f89a09f3b5b7c0766ccb3c624cd"},
		{"U second level", step("8bf165ea580742abf5fd5123eb848aa116dcf75c3ddb3cd3540c852cf99f0c5394e72dfc2f25dbcb5f9220f251cd04040a508a0bcb8b2543908d6626b46f09d614c924c5deb63a9949338ae4f4ac436bd77f8d0a392fd29de0f392a009fa61f3", "test-context"),
			"80b4f1e11766d32bed0ea4e8b05e82bf84519de4a63eca0213d9e3603a946ea2968150882d1e9508701f34048fcec80919b4f493a2a254fc13dc956f1d82c6b8e641f962e1c0342c95eb58e168327d5e51e9337627ac9f1aa93d2e3058a1ff09"},
		{"U transport key", hex.EncodeToString(vectorTransportKey(t).PublicKey()), "911969d56f42875d37a92d7eaa5d43293eff9f9a20ba4c60523e70a695eaeadeb721659b52a49d74e67841ad19033a12"},
		{"U opened key", hex.EncodeToString(opened), vectorKey},
		{"T symmetric key", symmetric(vectorKey, "QUUX-V01-CS02-with-expander-SHA256-128"), "ed2984e1a5eca6d49294e96db7f31b9f47fb3ae5f48383926f16811ffb9fd991"},
		{"U symmetric key", symmetric("ad19676dd92f116db11f326ff0822f295d87cc00cf65d9f132b5a618bb7381e5b0c3cb814f15e4a0f015359dcfa8a1da", "ic-test-domain-sep"), "3b7bd854033cdc119865ba3019dc1e35010fdaf90f8ff5c9cfe9d1d557dddb29"},
	} {
		if v.got != v.want {
			t.Errorf("%s: %s, not %s", v.name, v.got, v.want)
		}
	}
	if !verify(unhex(t, vectorKey), unhex(t, vectorPublic), []byte("message")) || verify(unhex(t, vectorKey), unhex(t, vectorPublic), []byte("wrong message")) {
		t.Error("U: the signature is not verified as in the vector")
	}
}

func verify(key, public, input []byte) bool {
	k, err1 := decodeG1(key)
	dpk, err2 := decodeG2(public)
	return err1 == nil && err2 == nil && signed(&k, &dpk, input)
}

// What the master key encrypts opens for who asked, for the key that was asked for, and for nothing else.
func TestEncrypt(t *testing.T) {
	master := NewMasterKey([32]byte{1})
	canister, context, input := []byte("canister"), []byte("context"), []byte("input")
	transport, err := NewTransportKey()
	if err != nil {
		t.Fatal(err)
	}
	public := func(canister, context []byte) []byte {
		p, err := DerivePublic(master.PublicKey(), canister, context)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	encrypt := func(context, to []byte) []byte {
		e, err := master.Encrypt(canister, context, input, to)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	encrypted := encrypt(context, transport.PublicKey())
	key, err := transport.Open(encrypted, public(canister, context), input)
	if err != nil {
		t.Fatal(err)
	}
	again := encrypt(context, transport.PublicKey())
	if same, err := transport.Open(again, public(canister, context), input); err != nil || !bytes.Equal(same, key) {
		t.Errorf("asked again: %x, %v, not %x", same, err, key)
	}
	if bytes.Equal(again, encrypted) {
		t.Error("the same number was chosen twice")
	}
	if whole, err := transport.Open(encrypt(nil, transport.PublicKey()), public(canister, nil), input); err != nil || bytes.Equal(whole, key) {
		t.Errorf("without a context: %x, %v", whole, err)
	}

	stranger, err := NewTransportKey()
	if err != nil {
		t.Fatal(err)
	}
	forged := NewMasterKey([32]byte{2})
	forgedPublic, err := DerivePublic(forged.PublicKey(), canister, context)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(name string, k *TransportKey, encrypted, public, input []byte) {
		t.Helper()
		if key, err := k.Open(encrypted, public, input); !errors.Is(err, ErrEncryptedKey) {
			t.Errorf("%s: %x, %v", name, key, err)
		}
	}
	refused("another transport key", stranger, encrypted, public(canister, context), input)
	refused("another canister", transport, encrypted, public([]byte("other"), context), input)
	refused("another context", transport, encrypted, public(canister, []byte("other")), input)
	refused("another input", transport, encrypted, public(canister, context), []byte("other"))
	refused("another master key", transport, encrypted, forgedPublic, input)
	for i := range encrypted {
		damaged := bytes.Clone(encrypted)
		damaged[i] ^= 1 << (i % 8)
		refused("flipped bit", transport, damaged, public(canister, context), input)
	}
	for n := range len(encrypted) {
		refused("cut short", transport, encrypted[:n], public(canister, context), input)
	}
	refused("too long", transport, append(bytes.Clone(encrypted), 0), public(canister, context), input)
	// Parts of two encryptions of the same key do not fit together.
	refused("mixed", transport, append(bytes.Clone(encrypted[:144]), again[144:]...), public(canister, context), input)
	refused("second part of another", transport, bytes.Join([][]byte{encrypted[:48], again[48:144], encrypted[144:]}, nil), public(canister, context), input)
	identity := bytes.Clone(make([]byte, PublicKeySize))
	identity[0] = 0xc0
	for name, public := range map[string][]byte{"identity": identity, "short": public(canister, context)[:95], "zero": make([]byte, PublicKeySize)} {
		if _, err := transport.Open(encrypted, public, input); !errors.Is(err, ErrPublicKey) {
			t.Errorf("public key %s: %v", name, err)
		}
		if _, err := DerivePublic(public, canister, context); !errors.Is(err, ErrPublicKey) {
			t.Errorf("master key %s: %v", name, err)
		}
	}

	// Why canisters have to refuse the identity: what comes back is the key itself.
	none := encrypt(context, identity[:TransportKeySize])
	if !bytes.Equal(none[144:], key) || !IsIdentity(identity[:TransportKeySize]) {
		t.Error("a key that is encrypted to the identity lies open")
	}
	if IsIdentity(transport.PublicKey()) || IsIdentity(identity) || IsIdentity(nil) {
		t.Error("another key passes for the identity")
	}
}

func TestHostileTransportKeys(t *testing.T) {
	master := NewMasterKey([32]byte{1})
	transport := vectorTransportKey(t).PublicKey()
	if _, err := master.Encrypt(nil, nil, nil, transport); err != nil {
		t.Fatal(err)
	}
	onCurve, offCurve := curvePoints(t)
	with := func(b []byte, i int, to byte) []byte { b = bytes.Clone(b); b[i] = to; return b }
	identity := with(make([]byte, 48), 0, 0xc0)
	var far bls12381.G1Affine
	if _, err := far.SetBytes(transport); err != nil {
		t.Fatal(err)
	}
	whole := far.RawBytes()
	for name, b := range map[string][]byte{
		"nothing":                   nil,
		"one byte short":            transport[:47],
		"one byte long":             append(bytes.Clone(transport), 0),
		"zeros":                     make([]byte, 48),
		"ones":                      bytes.Repeat([]byte{1}, 48),
		"all bits set":              bytes.Repeat([]byte{0xff}, 48),
		"no compression flag":       with(transport, 0, transport[0]&0x7f),
		"uncompressed":              whole[:],
		"uncompressed, cut":         whole[:48],
		"not on the curve":          offCurve,
		"not in the group":          onCurve,
		"identity with a sign":      with(identity, 0, 0xe0),
		"identity with more in it":  with(identity, 47, 1),
		"coordinate above the size": append([]byte{0x9a}, bytes.Repeat([]byte{0xff}, 47)...),
	} {
		if _, err := master.Encrypt([]byte("canister"), nil, nil, b); !errors.Is(err, ErrTransportKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// curvePoints are compressed points, one on the curve but not in the group, and one on no curve.
func curvePoints(t *testing.T) (onCurve, offCurve []byte) {
	t.Helper()
	for x := uint64(1); onCurve == nil || offCurve == nil; x++ {
		var p bls12381.G1Affine
		var square, four fp.Element
		p.X.SetUint64(x)
		square.Square(&p.X).Mul(&square, &p.X).Add(&square, four.SetUint64(4))
		if p.Y.Sqrt(&square) != nil {
			if p.IsOnCurve() && !p.IsInSubGroup() {
				onCurve = encodeG1(&p)
			}
			continue
		}
		raw := p.X.Bytes()
		raw[0] |= 0x80
		offCurve = raw[:]
	}
	return onCurve, offCurve
}

func FuzzOpen(f *testing.F) {
	transport := &TransportKey{}
	transport.secret.SetUint64(7)
	encrypted, err := hex.DecodeString(vectorEncrypted)
	if err != nil {
		f.Fatal(err)
	}
	public, err := hex.DecodeString(vectorPublic)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encrypted, public, transport.PublicKey())
	master := NewMasterKey([32]byte{1})
	f.Fuzz(func(t *testing.T, encrypted, public, to []byte) {
		if key, err := transport.Open(encrypted, public, []byte("input")); err == nil && !verify(key, public, []byte("input")) {
			t.Errorf("%x opens to %x, which is not verified", encrypted, key)
		}
		if out, err := master.Encrypt(nil, nil, nil, to); err == nil && len(out) != EncryptedKeySize {
			t.Errorf("%d bytes", len(out))
		}
	})
}
