package verify

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

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
