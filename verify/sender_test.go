package verify

import (
	"bytes"
	"crypto/elliptic"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/identity"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/fxamacker/cbor/v2"
)

func mustParse(t testing.TB, frame []byte) *Envelope {
	t.Helper()
	e, err := ParseClientFrame(frame)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// signed returns the parsed envelope of a request by s.
func signed(t testing.TB, r Request, s Signer) *Envelope {
	t.Helper()
	if r.Type == "" {
		r.Type = RequestCall
	}
	if r.Canister == (Principal{}) {
		r.Canister = mustPrincipal(t, goldenCanister)
	}
	if r.Method == "" {
		r.Method = "ws_message"
	}
	r.IngressExpiry = goldenTime.Add(4 * time.Minute)
	raw, _, err := r.Sign(s)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ParseEnvelope(raw)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestVerifySenderGolden(t *testing.T) {
	for _, frame := range []string{goldenOpenFrame, goldenDelegatedFrame} {
		e := mustParse(t, unhex(t, frame))
		chain, err := VerifySender(e, goldenTime, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		again, err := VerifySender(e, goldenTime, nil, chain)
		if err != nil || again != chain {
			t.Errorf("cached: got %p, %v, want %p", again, err, chain)
		}
		at, expires := chain.Expires()
		if want := e.Delegations != nil; expires != want || expires && at.UnixNano() != 1735690500000000000 {
			t.Errorf("expires %v %v, want %v", at, expires, want)
		}
	}
}

// Every byte of the golden frames counts: no change is accepted as the same sender's.
func TestVerifySenderRefusesEveryChange(t *testing.T) {
	for _, golden := range []string{goldenOpenFrame, goldenDelegatedFrame} {
		frame := unhex(t, golden)
		for i := range frame {
			changed := bytes.Clone(frame)
			changed[i] ^= 1
			e, err := ParseClientFrame(changed)
			if err != nil {
				continue
			}
			if _, err := VerifySender(e, goldenTime, nil, nil); err == nil {
				t.Errorf("byte %d changed: accepted", i)
			} else if CauseOf(err) == CauseOther || CauseOf(err) == "" {
				t.Errorf("byte %d changed: no cause in %v", i, err)
			}
		}
	}
}

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

func TestVerifySenderRefuses(t *testing.T) {
	id := ed25519FromSeed(t, 1)
	anonymous := signed(t, Request{}, nil)
	if _, err := VerifySender(anonymous, goldenTime, nil, nil); CauseOf(err) != CauseAnonymous {
		t.Errorf("anonymous: got %v", err)
	}
	e := signed(t, Request{}, id)
	stranger := *e
	stranger.PublicKey = ed25519FromSeed(t, 2).PublicKey()
	if _, err := VerifySender(&stranger, goldenTime, nil, nil); CauseOf(err) != CauseSender {
		t.Errorf("somebody else's key: got %v", err)
	}
	victim := *e
	victim.Sender = mustPrincipal(t, goldenClient)
	if _, err := VerifySender(&victim, goldenTime, nil, nil); CauseOf(err) != CauseSender {
		t.Errorf("somebody else's principal: got %v", err)
	}
	// A chain of one sender is no help to another.
	chain, err := VerifySender(e, goldenTime, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifySender(&victim, goldenTime, nil, chain); CauseOf(err) != CauseSender {
		t.Errorf("somebody else's principal with a cached chain: got %v", err)
	}
	unknown := *e
	unknown.PublicKey = unhex(t, "3076301006072a8648ce3d020106052b81040022036200"+strings.Repeat("04", 97)) // P-384
	unknown.Sender = SelfAuthenticating(unknown.PublicKey)
	if _, err := VerifySender(&unknown, goldenTime, nil, nil); CauseOf(err) != CauseScheme || !errors.Is(err, ErrUnknownScheme) {
		t.Errorf("unknown scheme: got %v", err)
	}
}

// chainOf returns delegations from root to the last of keys, one after the other.
func chainOf(t testing.TB, change func(int, *SignedDelegation), root Signer, keys ...Signer) []SignedDelegation {
	t.Helper()
	var chain []SignedDelegation
	signer := root
	for i, key := range keys {
		d := SignedDelegation{PublicKey: key.PublicKey(), Expiration: goldenTime.Add(time.Hour)}
		if change != nil {
			change(i, &d)
		}
		if err := d.Sign(signer); err != nil {
			t.Fatal(err)
		}
		chain = append(chain, d)
		signer = key
	}
	return chain
}

func TestDelegations(t *testing.T) {
	canister := mustPrincipal(t, goldenCanister)
	other := mustPrincipal(t, "aaaaa-aa")
	root := ed25519FromSeed(t, 100)
	var keys []Signer
	for i := range byte(21) {
		keys = append(keys, ed25519FromSeed(t, 101+i))
	}
	mixed := identities(t)
	many := func(n int, with ...Principal) []Principal {
		targets := make([]Principal, n)
		for i := range targets {
			targets[i], _ = PrincipalFromBytes([]byte{byte(i), byte(i >> 8), 1})
		}
		return append(targets, with...)
	}
	for _, tc := range []struct {
		name   string
		change func(int, *SignedDelegation)
		root   Signer
		keys   []Signer
		typ    string
		cause  Cause
	}{
		{name: "one", keys: keys[:1]},
		{name: "two", keys: keys[:2]},
		{name: "twenty", keys: keys[:20]},
		{name: "twenty-one", keys: keys[:21], cause: CauseMalformed},
		{name: "mixed kinds", root: mixed["p256"], keys: []Signer{mixed["secp256k1"], mixed["ed25519"], keys[0]}},
		{name: "key twice", keys: []Signer{keys[0], keys[1], keys[0]}, cause: CauseDelegation},
		{name: "back to the root", keys: []Signer{keys[0], root}, cause: CauseDelegation},
		{name: "expires now", keys: keys[:1], change: func(_ int, d *SignedDelegation) { d.Expiration = goldenTime }},
		{name: "expired", keys: keys[:1], change: func(_ int, d *SignedDelegation) { d.Expiration = goldenTime.Add(-1) }, cause: CauseDelegationExpired},
		{name: "second expired", keys: keys[:3], change: func(i int, d *SignedDelegation) {
			if i == 1 {
				d.Expiration = goldenTime.Add(-time.Hour)
			}
		}, cause: CauseDelegationExpired},
		{name: "targets with the canister", keys: keys[:2], change: func(_ int, d *SignedDelegation) { d.Targets = []Principal{other, canister} }},
		{name: "targets without it", keys: keys[:1], change: func(_ int, d *SignedDelegation) { d.Targets = []Principal{other} }, cause: CauseTargets},
		{name: "one of two without it", keys: keys[:2], change: func(i int, d *SignedDelegation) {
			d.Targets = [][]Principal{{canister}, {other}}[i]
		}, cause: CauseTargets},
		{name: "1000 targets", keys: keys[:1], change: func(_ int, d *SignedDelegation) { d.Targets = many(999, canister) }},
		{name: "1001 targets", keys: keys[:1], change: func(_ int, d *SignedDelegation) { d.Targets = many(1000, canister) }, cause: CauseMalformed},
		{name: "all permissions", keys: keys[:1], change: func(_ int, d *SignedDelegation) { d.Permissions = "all" }},
		{name: "queries only", keys: keys[:1], change: func(_ int, d *SignedDelegation) { d.Permissions = "queries" }, cause: CausePermissions},
		{name: "queries only, for a query", keys: keys[:1], typ: RequestQuery, change: func(_ int, d *SignedDelegation) { d.Permissions = "queries" }},
		{name: "other permissions", keys: keys[:1], change: func(_ int, d *SignedDelegation) { d.Permissions = "everything" }, cause: CausePermissions},
	} {
		if tc.root == nil {
			tc.root = root
		}
		chain := chainOf(t, tc.change, tc.root, tc.keys...)
		r := Request{Type: tc.typ, Delegations: chain, RootKey: tc.root.PublicKey()}
		e := signed(t, r, tc.keys[len(tc.keys)-1])
		_, err := VerifySender(e, goldenTime, nil, nil)
		if CauseOf(err) != tc.cause {
			t.Errorf("%s: got %v", tc.name, err)
		}
		if tc.cause != "" {
			continue
		}
		// Each signature of the chain is checked, and the request must be by the last key.
		for i := range chain {
			forged := append([]SignedDelegation(nil), chain...)
			forged[i].Signature = bytes.Clone(forged[i].Signature)
			forged[i].Signature[10] ^= 1
			e := signed(t, Request{Type: tc.typ, Delegations: forged, RootKey: tc.root.PublicKey()}, tc.keys[len(tc.keys)-1])
			if _, err := VerifySender(e, goldenTime, nil, nil); CauseOf(err) != CauseDelegation {
				t.Errorf("%s, link %d forged: got %v", tc.name, i, err)
			}
		}
		if _, err := VerifySender(signed(t, r, tc.root), goldenTime, nil, nil); CauseOf(err) != CauseSignature {
			t.Errorf("%s, signed by the root: got %v", tc.name, err)
		}
	}
}

// Fields of a delegation that we do not know are signed and stay signed.
func TestDelegationUnknownField(t *testing.T) {
	root, session := ed25519FromSeed(t, 1), ed25519FromSeed(t, 2)
	signedPart := appendCBORHead(nil, cborMap, 3)
	signedPart = appendCBORBytes(appendCBORText(signedPart, "pubkey"), session.PublicKey())
	signedPart = appendCBORHead(appendCBORText(signedPart, "expiration"), cborUint, uint64(goldenTime.Add(time.Hour).UnixNano()))
	signedPart = appendCBORText(appendCBORText(signedPart, "later"), "value")
	hash, err := hashCBOR(signedPart, maxDelegationValues)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := root.Sign(delegationMessage(hash))
	if err != nil {
		t.Fatal(err)
	}
	chain := appendCBORHead(nil, cborArray, 1)
	chain = appendCBORHead(chain, cborMap, 2)
	chain = append(appendCBORText(chain, "delegation"), signedPart...)
	chain = appendCBORBytes(appendCBORText(chain, "signature"), signature)

	e := signed(t, Request{Delegations: make([]SignedDelegation, 1), RootKey: root.PublicKey()}, session)
	e.Delegations = chain
	if _, err := VerifySender(e, goldenTime, nil, nil); err != nil {
		t.Errorf("unknown field: %v", err)
	}
	e.Delegations = bytes.Replace(chain, []byte("value"), []byte("valve"), 1)
	if _, err := VerifySender(e, goldenTime, nil, nil); CauseOf(err) != CauseDelegation {
		t.Errorf("unknown field changed: got %v", err)
	}
}

func TestSenderChainCache(t *testing.T) {
	canister, other := mustPrincipal(t, goldenCanister), mustPrincipal(t, "ryjl3-tyaaa-aaaaa-aaaba-cai")
	root, first, second := ed25519FromSeed(t, 1), ed25519FromSeed(t, 2), ed25519FromSeed(t, 3)
	target := func(_ int, d *SignedDelegation) { d.Targets = []Principal{canister} }
	r := Request{Delegations: chainOf(t, target, root, first), RootKey: root.PublicKey()}
	chain, err := VerifySender(signed(t, r, first), goldenTime, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Arg = []byte("next message")
	if again, err := VerifySender(signed(t, r, first), goldenTime, nil, chain); again != chain || err != nil {
		t.Errorf("next message: got %p, %v", again, err)
	}
	// The cached chain excuses nobody from signing.
	forged := signed(t, r, first)
	forged.RequestID[0] ^= 1
	if _, err := VerifySender(forged, goldenTime, nil, chain); CauseOf(err) != CauseSignature {
		t.Errorf("forged message: got %v", err)
	}
	// It ends when its delegations do.
	if _, err := VerifySender(signed(t, r, first), goldenTime.Add(time.Hour), nil, chain); err != nil {
		t.Errorf("in the last moment: %v", err)
	}
	if _, err := VerifySender(signed(t, r, first), goldenTime.Add(time.Hour+1), nil, chain); CauseOf(err) != CauseDelegationExpired {
		t.Errorf("after the end: got %v", err)
	}
	// It holds for the canister it was verified for: targets are judged again for another.
	elsewhere := r
	elsewhere.Canister = other
	if _, err := VerifySender(signed(t, elsewhere, first), goldenTime, nil, chain); CauseOf(err) != CauseTargets {
		t.Errorf("another canister: got %v", err)
	}
	// A read_state has no canister; its chain must not serve calls, nor a call's chain a read_state.
	state := Request{Type: RequestReadState, Delegations: r.Delegations, RootKey: r.RootKey, IngressExpiry: goldenTime.Add(time.Minute)}
	raw, _, err := state.Sign(first)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ParseEnvelope(raw)
	if err != nil {
		t.Fatal(err)
	}
	stateChain, err := VerifySender(e, goldenTime, nil, chain)
	if err != nil || stateChain == chain {
		t.Errorf("read_state: got %p, %v", stateChain, err)
	}
	toManagement := *signed(t, r, first)
	toManagement.Canister = Principal{}
	if _, err := VerifySender(&toManagement, goldenTime, nil, stateChain); CauseOf(err) != CauseTargets {
		t.Errorf("chain of a read_state for a call: got %v", err)
	}
	// A renewed delegation of the same root is another chain.
	renewed := Request{Delegations: chainOf(t, target, root, second), RootKey: root.PublicKey()}
	if again, err := VerifySender(signed(t, renewed, second), goldenTime, nil, chain); again == chain || err != nil {
		t.Errorf("renewed delegation: got %p, %v", again, err)
	}
}

// A chain does not keep the frame alive or depend on it.
func TestSenderChainDoesNotAlias(t *testing.T) {
	frame := unhex(t, goldenDelegatedFrame)
	chain, err := VerifySender(mustParse(t, frame), goldenTime, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	clear(frame)
	if again, err := VerifySender(mustParse(t, unhex(t, goldenDelegatedFrame)), goldenTime, nil, chain); again != chain || err != nil {
		t.Errorf("got %p, %v", again, err)
	}
}

// Texts name cause and remedy, and nothing of the keys and signatures.
func TestSenderErrorTexts(t *testing.T) {
	root, session := ed25519FromSeed(t, 1), ed25519FromSeed(t, 2)
	expired := func(_ int, d *SignedDelegation) { d.Expiration = goldenTime.Add(-42 * time.Minute) }
	e := signed(t, Request{Delegations: chainOf(t, expired, root, session), RootKey: root.PublicKey()}, session)
	_, err := VerifySender(e, goldenTime, nil, nil)
	if want := "sender delegation expired 42 min ago, sign in again"; fmt.Sprint(err) != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

// A malformed list of delegations is refused before any key is looked at.
func TestDelegationsMalformed(t *testing.T) {
	root := ed25519FromSeed(t, 1)
	good := mustParse(t, unhex(t, goldenDelegatedFrame)).Delegations
	e := signed(t, Request{}, root)
	for _, in := range []string{
		"00", "a0", "8100", "81a0", "81a16a64656c65676174696f6ea0", "95" + strings.Repeat("a0", 21), "9a40000000",
		"81a26a64656c65676174696f6ea0697369676e617475726540", "81a2697369676e617475726540697369676e617475726540",
	} {
		e.Delegations = unhex(t, in)
		if _, err := VerifySender(e, goldenTime, nil, nil); CauseOf(err) != CauseMalformed || !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v", in, err)
		}
	}
	for n := range good {
		e.Delegations = good[:n:n]
		if _, err := VerifySender(e, goldenTime, nil, nil); CauseOf(err) != CauseMalformed {
			t.Errorf("cut at %d: got %v", n, err)
		}
	}
}
