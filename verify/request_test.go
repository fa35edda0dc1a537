package verify

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	agent "github.com/aviate-labs/agent-go"
	"github.com/aviate-labs/agent-go/certification/hashtree"
	"github.com/aviate-labs/agent-go/principal"
)

func TestSignedRequestGolden(t *testing.T) {
	frame := unhex(t, goldenOpenFrame)
	e, err := ParseClientFrame(frame)
	if err != nil {
		t.Fatal(err)
	}
	r := Request{
		Type: RequestCall, Canister: e.Canister, Method: e.MethodName, Arg: e.Arg, Nonce: e.Nonce,
		IngressExpiry: time.Unix(0, goldenExpiry),
	}
	// The golden signature is of one secp256k1 implementation; replay it, so that every other byte must agree.
	raw, id, err := r.Sign(replaySigner{t, e.PublicKey, e.Signature, append([]byte("\x0aic-request"), unhex(t, goldenOpenID)...)})
	if err != nil {
		t.Fatal(err)
	}
	wantHex(t, "request id", id[:], goldenOpenID)
	if !bytes.Equal(AppendClientFrame(nil, raw), frame) {
		t.Errorf("got %x", raw)
	}
}

// Ed25519 signatures are deterministic, so the whole golden delegated frame must come out.
func TestSignedDelegatedRequestGolden(t *testing.T) {
	root, session := ed25519FromSeed(t, 0x22), ed25519FromSeed(t, 0x33)
	d := SignedDelegation{
		PublicKey: session.PublicKey(), Expiration: time.Unix(0, 1735690500000000000),
		Targets: []Principal{mustPrincipal(t, goldenCanister)},
	}
	if err := d.Sign(root); err != nil {
		t.Fatal(err)
	}
	hash, err := hashCBOR(d.appendDelegation(nil), maxDelegationValues)
	if err != nil {
		t.Fatal(err)
	}
	wantHex(t, "delegation hash", hash[:], "184731afdb9e8d7ad10f5c69a4bf177780fc66510e76a0c4efc7d93defeb1315")
	r := Request{
		Type: RequestCall, Canister: mustPrincipal(t, goldenCanister), Method: "ws_open", Arg: []byte("DIDL\x00\x00"),
		Nonce: bytes.Repeat([]byte{7}, 16), IngressExpiry: time.Unix(0, goldenExpiry),
		Delegations: []SignedDelegation{d}, RootKey: root.PublicKey(),
	}
	raw, id, err := r.Sign(session)
	if err != nil {
		t.Fatal(err)
	}
	wantHex(t, "request id", id[:], goldenDelegatedID)
	wantHex(t, "frame", AppendClientFrame(nil, raw), goldenDelegatedFrame)
}

// Request ids of our own requests agree with agent-go's.
func TestRequestAgainstAgentGo(t *testing.T) {
	id := ed25519FromSeed(t, 1)
	canister := mustPrincipal(t, goldenCanister)
	expiry := goldenTime.Add(4 * time.Minute)
	for _, r := range []Request{
		{Type: RequestCall, Canister: canister, Method: "m", Arg: []byte{1}, Nonce: []byte{2}, IngressExpiry: expiry},
		{Type: RequestQuery, Canister: canister, Method: "q", IngressExpiry: expiry},
		{Type: RequestReadState, Paths: [][][]byte{{[]byte("time")}, {[]byte("subnet"), {1, 2}}}, Nonce: []byte{3}, IngressExpiry: expiry},
	} {
		raw, got, err := r.Sign(id)
		if err != nil {
			t.Fatal(err)
		}
		other := agent.Request{
			Type: r.Type, Sender: id.Sender(), IngressExpiry: uint64(expiry.UnixNano()), Nonce: r.Nonce, MethodName: r.Method,
		}
		if r.Type == RequestReadState {
			for _, path := range r.Paths {
				var labels []hashtree.Label
				for _, l := range path {
					labels = append(labels, l)
				}
				other.Paths = append(other.Paths, labels)
			}
		} else {
			other.CanisterID, other.Arguments = principal.Principal{Raw: canister.Bytes()}, append([]byte{}, r.Arg...)
		}
		if want := agent.NewRequestID(other); got != [32]byte(want) {
			t.Errorf("%s: got %x, want %x", r.Type, got, want)
		}
		e, err := ParseEnvelope(raw)
		if err != nil || e.RequestID != got || e.Sender.String() != id.Sender().String() {
			t.Errorf("%s: parsed %+v, %v", r.Type, e, err)
		}
		if !id.Verify(append([]byte("\x0aic-request"), got[:]...), e.Signature) {
			t.Errorf("%s: the signature does not verify", r.Type)
		}
	}
	anonymous := Request{Type: RequestQuery, Canister: canister, Method: "q", IngressExpiry: expiry}
	raw, _, err := anonymous.Sign(nil)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := ParseEnvelope(raw); err != nil || !e.Sender.IsAnonymous() || e.PublicKey != nil || e.Signature != nil {
		t.Errorf("anonymous: got %+v, %v", e, err)
	}
	anonymous.IngressExpiry = time.Time{}
	if _, _, err := anonymous.Sign(nil); err == nil {
		t.Error("request without expiry signed")
	}
}

// replaySigner returns a signature made elsewhere, for exactly the message it is of.
type replaySigner struct {
	t        testing.TB
	der, sig []byte
	message  []byte
}

func (s replaySigner) Sender() principal.Principal { return principal.NewSelfAuthenticating(s.der) }
func (s replaySigner) PublicKey() []byte           { return s.der }
func (s replaySigner) Sign(msg []byte) ([]byte, error) {
	if !bytes.Equal(msg, s.message) {
		return nil, fmt.Errorf("signed message is %x", msg)
	}
	return s.sig, nil
}
