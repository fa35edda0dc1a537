package client_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/candid"
	"github.com/aviate-labs/agent-go/certification"
	"github.com/aviate-labs/agent-go/identity"
	"github.com/fxamacker/cbor/v2"

	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// requestID hashes a request with agent-go.
func requestID(t *testing.T, raw cbor.RawMessage) [32]byte {
	t.Helper()
	var fields map[string]any
	if err := cbor.Unmarshal(raw, &fields); err != nil {
		t.Fatal(err)
	}
	var rows []certification.KeyValuePair
	for k, v := range fields {
		rows = append(rows, certification.KeyValuePair{Key: k, Value: v})
	}
	id, err := certification.RepresentationIndependentHash(rows)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// The envelope of a ws_message, taken apart with other libraries than it was made with.
func TestComposedMessage(t *testing.T) {
	f := newForger(t)
	now := time.Date(2026, 5, 4, 3, 2, 59, 999, time.UTC)
	nonce := uint64(42)
	o := f.options()
	o.Now, o.Nonce = func() time.Time { return now }, &nonce
	c, err := client.NewComposer(o)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Expiry(); !got.Equal(time.Date(2026, 5, 4, 3, 6, 0, 0, time.UTC)) {
		t.Errorf("expiry %v", got)
	}
	frame, err := c.Message(3, false, []byte("payload"), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(frame, []byte("\xd9\xd9\xf7\xa1")) {
		t.Errorf("frame starts with %x", frame[:4])
	}
	var outer struct {
		Envelope struct {
			Content   cbor.RawMessage `cbor:"content"`
			Key       []byte          `cbor:"sender_pubkey"`
			Signature []byte          `cbor:"sender_sig"`
		} `cbor:"envelope"`
	}
	if err := cbor.Unmarshal(frame, &outer); err != nil {
		t.Fatal(err)
	}
	e := outer.Envelope
	var content struct {
		Type     string `cbor:"request_type"`
		Method   string `cbor:"method_name"`
		Canister []byte `cbor:"canister_id"`
		Sender   []byte `cbor:"sender"`
		Expiry   uint64 `cbor:"ingress_expiry"`
		Nonce    []byte `cbor:"nonce"`
		Arg      []byte `cbor:"arg"`
	}
	if err := cbor.Unmarshal(e.Content, &content); err != nil {
		t.Fatal(err)
	}
	if content.Type != "call" || content.Method != "ws_message" || !bytes.Equal(content.Canister, f.canister.Bytes()) ||
		content.Expiry != uint64(c.Expiry().UnixNano()) || len(content.Nonce) != 16 {
		t.Errorf("content: %+v", content)
	}
	if sum := sha256.Sum224(e.Key); !bytes.Equal(content.Sender, append(sum[:], 2)) || !bytes.Equal(content.Sender, c.Key().Principal.Bytes()) {
		t.Errorf("sender %x for key %x", content.Sender, e.Key)
	}
	id := requestID(t, e.Content)
	if !ed25519.Verify(ed25519.PublicKey(e.Key[12:]), append([]byte("\x0aic-request"), id[:]...), e.Signature) {
		t.Error("the signature does not verify")
	}
	_, values, err := candid.Decode(content.Arg)
	if err != nil {
		t.Fatal(err)
	}
	if len(values) != 2 {
		t.Errorf("%d arguments, the interface has two", len(values))
	}
	m, err := verify.DecodeMessageArg(content.Arg)
	if err != nil || m.Sequence != 3 || m.Service || string(m.Content) != "payload" || m.Client != c.Key() || m.Timestamp != uint64(now.UnixNano()) {
		t.Errorf("message: %+v, %v", m, err)
	}
}

func TestComposerDelegation(t *testing.T) {
	f := newForger(t)
	owner, err := identity.NewRandomSecp256k1Identity()
	if err != nil {
		t.Fatal(err)
	}
	session, err := identity.NewRandomEd25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	d := verify.SignedDelegation{PublicKey: session.PublicKey(), Expiration: time.Now().Add(time.Hour), Targets: []verify.Principal{f.canister}}
	if err := d.Sign(owner); err != nil {
		t.Fatal(err)
	}
	o := f.options()
	o.Identity, o.Delegations, o.SenderKey = session, []verify.SignedDelegation{d}, owner.PublicKey()
	c, err := client.NewComposer(o)
	if err != nil {
		t.Fatal(err)
	}
	frame, err := c.Open(f.gateway, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := verify.ParseClientFrame(frame)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verify.VerifySender(e, time.Now(), nil, nil); err != nil {
		t.Error(err)
	}
	if want := owner.Sender().String(); e.Sender.String() != want || c.Key().Principal != e.Sender {
		t.Errorf("sender %v, want %s", e.Sender, want)
	}

	o.SenderKey = nil
	if _, err := client.NewComposer(o); err == nil {
		t.Error("delegations without SenderKey accepted")
	}
	o.Identity = nil
	if _, err := client.NewComposer(o); err == nil {
		t.Error("delegations without an identity accepted")
	}
}

func TestComposerDefaults(t *testing.T) {
	f, began := newForger(t), time.Now()
	a, err := client.NewComposer(f.options())
	if err != nil {
		t.Fatal(err)
	}
	b, err := client.NewComposer(f.options())
	if err != nil {
		t.Fatal(err)
	}
	if a.Key().Principal == b.Key().Principal || a.Key().Nonce == b.Key().Nonce {
		t.Error("two sessions share a key or a nonce")
	}
	if x := a.Expiry(); x.Before(began.Add(3*time.Minute)) || x.After(time.Now().Add(4*time.Minute)) {
		t.Errorf("expiry %v after the start", x.Sub(began))
	}
}
