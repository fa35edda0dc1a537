package verify

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/aviate-labs/agent-go/certification"
	"github.com/fxamacker/cbor/v2"
)

// strictCBOR is how fxamacker's library reads CBOR most like a replica.
func strictCBOR(tb testing.TB) cbor.DecMode {
	tb.Helper()
	mode, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF}.DecMode()
	if err != nil {
		tb.Fatal(err)
	}
	return mode
}

// checkRequestID compares a request id with the one that agent-go computes, where it can.
func checkRequestID(t *testing.T, mode cbor.DecMode, e *Envelope) {
	t.Helper()
	var generic any
	if mode.Unmarshal(e.Content, &generic) != nil {
		return // fxamacker's library has other limits
	}
	if want, err := certification.HashAny(generic); err == nil && want != e.RequestID {
		t.Fatalf("request id %x, agent-go has %x\n%x", e.RequestID, want, e.Content)
	}
}

func FuzzClientFrame(f *testing.F) {
	f.Add(unhex(f, goldenOpenFrame))
	f.Add(unhex(f, goldenDelegatedFrame))
	f.Add(unhex(f, goldenHandshake))
	f.Add(unhex(f, "a168656e76656c6f7065a167636f6e74656e74a0"))
	for _, e := range recordedEnvelopes(f) {
		f.Add(AppendClientFrame(nil, e.Raw))
	}
	mode := strictCBOR(f)
	f.Fuzz(func(t *testing.T, frame []byte) {
		e, err := ParseClientFrame(frame)
		if err != nil {
			if e != nil || CauseOf(err) != CauseMalformed {
				t.Fatalf("got %+v, %v", e, err)
			}
			return
		}
		if !bytes.Contains(frame, e.Raw) || !bytes.Contains(e.Raw, e.Content) {
			t.Fatal("raw or content is not a part of the frame")
		}
		again, err := ParseClientFrame(AppendClientFrame(nil, e.Raw))
		if err != nil || again.RequestID != e.RequestID || !bytes.Equal(again.Raw, e.Raw) {
			t.Fatalf("in a frame of ours: got %+v, %v", again, err)
		}
		checkRequestID(t, mode, e)
	})
}

// goldenIDs are the only requests whose signatures are around, so the only ones that may verify.
var goldenIDs = []string{goldenOpenID, goldenDelegatedID}

func FuzzEnvelope(f *testing.F) {
	for _, in := range []string{goldenOpenFrame, goldenDelegatedFrame} {
		f.Add(mustParse(f, unhex(f, in)).Raw)
	}
	signed := slices.Clone(goldenIDs) // by keys that no fuzzer has
	for _, e := range recordedEnvelopes(f) {
		f.Add(e.Raw)
		signed = append(signed, hex.EncodeToString(e.RequestID[:]))
	}
	mode := strictCBOR(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := ParseEnvelope(raw)
		if err != nil {
			if CauseOf(err) != CauseMalformed {
				t.Fatal(err)
			}
			return
		}
		checkRequestID(t, mode, e)
		chain, err := VerifySender(e, goldenTime, nil, nil)
		if err != nil {
			if cause := CauseOf(err); cause == CauseOther || cause == "" {
				t.Fatalf("no cause in %v", err)
			}
			return
		}
		if !slices.Contains(signed, hex.EncodeToString(e.RequestID[:])) {
			t.Fatalf("forged: %x", raw)
		}
		if again, err := VerifySender(e, goldenTime, nil, chain); err != nil || again != chain {
			t.Fatalf("cached: %v", err)
		}
	})
}

func FuzzDelegations(f *testing.F) {
	golden := mustParse(f, unhex(f, goldenDelegatedFrame))
	f.Add(golden.Delegations)
	root, session := ed25519FromSeed(f, 0x22), ed25519FromSeed(f, 0x33)
	for _, n := range []int{2, 20, 21} {
		keys := make([]Signer, n)
		for i := range keys {
			keys[i] = ed25519FromSeed(f, byte(40+i))
		}
		keys[n-1] = session
		r := Request{Delegations: chainOf(f, nil, root, keys...), RootKey: root.PublicKey()}
		f.Add(signed(f, r, session).Delegations)
	}
	for _, e := range recordedEnvelopes(f) {
		f.Add(e.Delegations)
	}
	known := map[string]bool{} // session keys that the root key ever vouched for
	for i := range 21 {
		known[string(ed25519FromSeed(f, byte(40+i)).PublicKey())] = true
	}
	known[string(session.PublicKey())] = true
	f.Fuzz(func(t *testing.T, chain []byte) {
		links, err := parseChain(chain, golden.Canister)
		if err != nil {
			if CauseOf(err) != CauseMalformed {
				t.Fatal(err)
			}
		} else if len(links) > MaxDelegations {
			t.Fatalf("%d links", len(links))
		}
		e := *golden
		e.Delegations = chain
		if _, err := VerifySender(&e, goldenTime, nil, nil); err != nil {
			return
		}
		for _, l := range links {
			if !known[string(l.publicKey)] {
				t.Fatalf("forged: %x", chain)
			}
		}
	})
}

func FuzzPublicKey(f *testing.F) {
	for _, in := range []string{goldenOpenFrame, goldenDelegatedFrame} {
		f.Add(mustParse(f, unhex(f, in)).PublicKey, []byte("signature"))
	}
	for _, a := range artefacts(f) {
		if a.Kind == "sig" {
			f.Add(a.Beside(f, a.Key), a.Bytes(f))
		}
	}
	for _, key := range authenticators(f) {
		sig, err := key.Sign([]byte("another message"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(key.PublicKey(), sig)
	}
	n := newTestNet(f)
	s := newCanisterSigner(n)
	sig, err := s.Sign([]byte("another message"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.PublicKey(), sig)
	f.Add(spki(f, oidCanisterSig, bytes.Repeat([]byte{0xff}, 256)), sig)
	for _, id := range identities(f) {
		f.Add(id.PublicKey(), make([]byte, 64))
	}
	a := n.authority()
	f.Fuzz(func(t *testing.T, der, sig []byte) {
		key, err := parsePublicKey(der)
		if err != nil {
			if cause := CauseOf(err); key != nil || cause != CauseMalformed && cause != CauseScheme {
				t.Fatalf("got %v, %v", key, err)
			}
			return
		}
		if err := key.verify([]byte("message"), sig, a, goldenTime); err == nil && !isEd25519(key) || err != nil && CauseOf(err) != CauseSignature {
			t.Fatalf("signature %x: got %v", sig, err)
		}
		// The two kinds that the standard library knows.
		switch key := key.(type) {
		case p256Key:
			if other, err := x509.ParsePKIXPublicKey(der); err != nil || !key.Equal(other.(*ecdsa.PublicKey)) {
				t.Fatalf("%x: crypto/x509 has %v, %v", der, other, err)
			}
		case ed25519Key:
			if other, err := x509.ParsePKIXPublicKey(der); err != nil || !bytes.Equal(key, other.(ed25519.PublicKey)) {
				t.Fatalf("%x: crypto/x509 has %v, %v", der, other, err)
			}
		}
	})
}

func FuzzContent(f *testing.F) {
	f.Add(unhex(f, goldenContent))
	f.Add(unhex(f, goldenContent)[3:])
	for _, frame := range recordedFrames(f) {
		f.Add(frame.Content)
	}
	f.Add(unhex(f, goldenHandshake))
	mode := strictCBOR(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseContent(b)
		if err != nil {
			if CauseOf(err) != CauseMalformed {
				t.Fatal(err)
			}
			return
		}
		again, err := ParseContent(AppendContent(nil, &m))
		if err != nil || again.Client != m.Client || again.Sequence != m.Sequence || again.Timestamp != m.Timestamp ||
			again.Service != m.Service || !bytes.Equal(again.Content, m.Content) {
			t.Fatalf("encoded again: got %+v, %v, want %+v", again, err, m)
		}
		var other map[string]cbor.RawMessage
		if mode.Unmarshal(b, &other) != nil {
			return // fxamacker's library has other limits
		}
		var content []byte
		var sequence uint64
		if mode.Unmarshal(other["content"], &content) != nil || mode.Unmarshal(other["sequence_num"], &sequence) != nil {
			return
		}
		if !bytes.Equal(content, m.Content) || sequence != m.Sequence {
			t.Fatalf("fxamacker has %x, %d, we have %+v", content, sequence, m)
		}
	})
}

// isEd25519 tells whether a key is of the one scheme with keys for which anybody can sign: the few points of small order.
// Whoever uses one gives his own principal away, which is his affair, and a fuzzer may well find it.
func isEd25519(key publicKey) bool {
	_, plain := key.(ed25519Key)
	return plain
}
