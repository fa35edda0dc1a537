package verify

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
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
