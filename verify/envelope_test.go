package verify

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	agent "github.com/aviate-labs/agent-go"
	"github.com/aviate-labs/agent-go/certification"
	"github.com/aviate-labs/agent-go/certification/hashtree"
	"github.com/aviate-labs/agent-go/identity"
	"github.com/aviate-labs/agent-go/principal"
	"github.com/fxamacker/cbor/v2"
)

const (
	goldenOpenID      = "ca1ac2d033f65b4e803d12721ce0c5077ccce53be47f0f9e8e9e355aa4a3c730"
	goldenDelegatedID = "29af0eb68251441b16e1d77378b74ab787de7be95aa0e8083ae365d0e76ca78d"
	goldenExpiry      = 1735689840000000000
)

// goldenTime is the clock of all vectors.
var goldenTime = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

func TestClientFrameGolden(t *testing.T) {
	frame := unhex(t, goldenOpenFrame)
	e, err := ParseClientFrame(frame)
	if err != nil {
		t.Fatal(err)
	}
	wantHex(t, "request id", e.RequestID[:], goldenOpenID)
	if e.RequestType != RequestCall || e.MethodName != "ws_open" || e.IngressExpiry != goldenExpiry ||
		e.Canister != mustPrincipal(t, goldenCanister) || e.Sender != mustPrincipal(t, goldenClient) ||
		len(e.PublicKey) != 88 || len(e.Signature) != 64 || e.Delegations != nil || len(e.Nonce) != 16 {
		t.Errorf("got %+v", e)
	}
	if !bytes.HasSuffix(frame, e.Raw) || len(e.Raw) != len(frame)-3-1-9 {
		t.Error("raw is not the exact envelope")
	}
	if got := AppendClientFrame(nil, e.Raw); !bytes.Equal(got, frame) {
		t.Errorf("frame built again: got %x", got)
	}
	tagged := append([]byte(selfDescribeTag), e.Raw...)
	if got := AppendClientFrame(nil, tagged); !bytes.Equal(got, frame) {
		t.Errorf("frame built again from the tagged envelope: got %x", got)
	}
	if _, err := ParseClientFrame(frame[3:]); err != nil {
		t.Errorf("without the tag: %v", err)
	}
	if again, err := ParseEnvelope(tagged); err != nil || again.RequestID != e.RequestID || !bytes.Equal(again.Raw, e.Raw) {
		t.Errorf("tagged envelope: %v", err)
	}

	e, err = ParseClientFrame(unhex(t, goldenDelegatedFrame))
	if err != nil {
		t.Fatal(err)
	}
	wantHex(t, "request id", e.RequestID[:], goldenDelegatedID)
	if e.Delegations == nil {
		t.Error("no delegations")
	}
}

func TestClientFrameRefuses(t *testing.T) {
	frame := unhex(t, goldenOpenFrame)
	for n := range frame {
		if _, err := ParseClientFrame(frame[:n]); !errors.Is(err, ErrMalformed) || CauseOf(err) != CauseMalformed {
			t.Fatalf("cut at %d: got %v", n, err)
		}
	}
	e, err := ParseClientFrame(frame)
	if err != nil {
		t.Fatal(err)
	}
	content := func(change func(map[string]any)) string {
		var m map[string]any
		if err := cbor.Unmarshal(e.Content, &m); err != nil {
			t.Fatal(err)
		}
		change(m)
		b, err := cbor.Marshal(map[string]any{"envelope": map[string]any{"content": m}})
		if err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(b)
	}
	without := func(key string) string { return content(func(m map[string]any) { delete(m, key) }) }
	with := func(key string, v any) string { return content(func(m map[string]any) { m[key] = v }) }
	nested := func(depth int) any {
		var v any = uint64(1)
		for range depth {
			v = []any{v}
		}
		return v
	}
	for _, tc := range []struct{ name, in string }{
		{"trailing byte", goldenOpenFrame + "00"},
		{"not a map", "80"},
		{"text", "6161"},
		{"no envelope", "a0"},
		{"other key", "a16161a0"},
		{"envelope twice", "a268656e76656c6f7065a068656e76656c6f7065a0"},
		{"envelope not a map", "a168656e76656c6f706500"},
		{"envelope without content", "a168656e76656c6f7065a0"},
		{"content twice", "a168656e76656c6f7065a267636f6e74656e74a067636f6e74656e74a0"},
		{"indefinite map", "bf68656e76656c6f7065a0ff"},
		{"gigabyte map", "ba40000000"},
		{"gigabyte key", "a17a40000000"},
		{"gigabyte envelope", "a168656e76656c6f7065" + "5a40000000"},
		{"nested 10,000 deep", "a168656e76656c6f7065" + strings.Repeat("81", 10000) + "00"},
		{"no sender", without("sender")},
		{"no request_type", without("request_type")},
		{"no ingress_expiry", without("ingress_expiry")},
		{"no canister_id", without("canister_id")},
		{"no method_name", without("method_name")},
		{"no arg", without("arg")},
		{"sender is text", with("sender", "aaaaa-aa")},
		{"principal of 30 bytes", with("sender", make([]byte, 30))},
		{"nonce of 33 bytes", with("nonce", make([]byte, 33))},
		{"float field", with("new", 1.5)},
		{"boolean field", with("new", true)},
		{"nested 17 deep", with("new", nested(17))},
		{"map with a number as key", with("new", map[any]any{uint64(1): "a"})},
		{"negative expiry", with("ingress_expiry", -1)},
	} {
		if got, err := ParseClientFrame(unhex(t, tc.in)); !errors.Is(err, ErrMalformed) || CauseOf(err) != CauseMalformed {
			t.Errorf("%s: got %+v, %v", tc.name, got, err)
		}
	}
	// What may be there: null instead of an absent field, and anything signed that has a hash.
	for _, in := range []string{with("nonce", nil), without("nonce"), with("new", nested(14)), with("new", -5)} {
		if _, err := ParseClientFrame(unhex(t, in)); err != nil {
			t.Errorf("%s: %v", in, err)
		}
	}
}

// Whatever is in the content takes part in the request id, as agent-go computes it over a decoded map.
func TestRequestIDAgainstAgentGo(t *testing.T) {
	for name, value := range map[string]any{
		"empty":    map[string]any{},
		"numbers":  map[string]any{"a": uint64(0), "b": uint64(127), "c": uint64(128), "d": uint64(1<<64 - 1)},
		"negative": map[string]any{"a": int64(-1), "b": int64(-64), "c": int64(-65), "d": int64(-1 << 63), "e": int64(-624485)},
		"nested": map[string]any{
			"sender_info": map[string]any{"sig": []byte{1}, "info": map[string]any{"a": "b", "list": []any{[]any{}, "x", []byte{}}}},
			"sender":      []byte{4}, "arg": []byte{}, "absent": nil,
		},
		"maps among maps": map[string]any{
			"z": map[string]any{"b": []any{map[string]any{"d": uint64(1), "c": map[string]any{}}, []any{}, map[string]any{"a": "", "e": nil}}, "a": uint64(2)},
			"a": []any{[]any{map[string]any{"x": []any{uint64(3)}}}, "after"}, "y": map[string]any{"only": nil}, "b": int64(-1),
		},
		"paths": map[string]any{"paths": []any{[]any{[]byte("a"), []byte("b")}, []any{}}},
	} {
		raw, err := cbor.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		got, err := hashCBOR(raw, maxHashValues)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var generic any
		if err := cbor.Unmarshal(raw, &generic); err != nil {
			t.Fatal(err)
		}
		want, err := certification.HashAny(generic)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s: got %x, want %x", name, got, want)
		}
	}
	// A bignum is the number it holds (agent-go does not know bignums here, so compare with the plain number).
	plain, _ := hashCBOR(unhex(t, "a161611903e8"), maxHashValues)
	if big, err := hashCBOR(unhex(t, "a16161c24203e8"), maxHashValues); big != plain || err != nil {
		t.Errorf("bignum: got %x, %v, want %x", big, err, plain)
	}
}

// What is hashed has bounds, whatever its shape.
func TestHashBounds(t *testing.T) {
	list := func(n int) []byte { return append(appendCBORHead(nil, cborArray, uint64(n)), make([]byte, n)...) }
	deep := func(n int, head string) []byte { return append(bytes.Repeat([]byte(head), n), 0) }
	for _, tc := range []struct {
		name string
		in   []byte
		want error
	}{
		{"as many parts as may be", list(99), nil},
		{"one part more", list(100), errHashCount},
		{"parts in parts", bytes.Repeat([]byte{0x81}, 101), errHashDepth},
		{"many lists", append(appendCBORHead(nil, cborArray, 101), bytes.Repeat([]byte{0x80}, 101)...), errHashCount},
		{"as deep as may be", deep(maxHashDepth-1, "\x81"), nil},
		{"one level more", deep(maxHashDepth, "\x81"), errHashDepth},
		{"maps as deep as may be", deep(maxHashDepth-1, "\xa1\x61a"), nil},
		{"maps one level more", deep(maxHashDepth, "\xa1\x61a"), errHashDepth},
		{"an empty list at the bottom", deep(maxHashDepth-1, "\x81")[:maxHashDepth-1], errCBORShort},
		{"gigabyte list", unhex(t, "9a40000000"), errCBORShort},
		{"list cut", unhex(t, "820180"[:4]), errCBORShort},
		{"null in a list", unhex(t, "81f6"), errHashType},
		{"key twice", unhex(t, "a2616100616101"), errCBORDuplicate},
		{"key twice, once null", unhex(t, "a26161f6616101"), errCBORDuplicate},
		{"two values", unhex(t, "0000"), errCBORTrailing},
		{"nothing", nil, errHashType},
	} {
		if _, err := hashCBOR(tc.in, 100); err != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
	}
	// A delegation has room for all the targets there may be, not for any number of numbers.
	root, session := ed25519FromSeed(t, 1), ed25519FromSeed(t, 2)
	e := signed(t, Request{Delegations: chainOf(t, nil, root, session), RootKey: root.PublicKey()}, session)
	more := append(appendCBORText(nil, "later"), list(maxDelegationValues)...)
	e.Delegations = bytes.Replace(e.Delegations, []byte("\xa2\x66pubkey"), append(append([]byte{0xa3}, more...), "\x66pubkey"...), 1)
	if _, err := VerifySender(e, goldenTime, nil, nil); !errors.Is(err, errHashCount) {
		t.Errorf("delegation: got %v", err)
	}
}

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

func TestCheckExpiry(t *testing.T) {
	for _, tc := range []struct {
		ahead time.Duration
		cause Cause
		text  string
	}{
		{4 * time.Minute, "", ""},
		{time.Nanosecond, "", ""},
		{MaxIngressExpiry, "", ""},
		{MaxIngressExpiry + 1, CauseNotYet, "expiry 330 s ahead of IC time, check the clock (about 120 s fast)"},
		{14 * time.Minute, CauseNotYet, "expiry 14 min ahead of IC time, check the clock (about 10 min fast)"},
		{1000 * time.Hour, CauseNotYet, "expiry 1000 h ahead of IC time, check the clock (about 999 h fast)"},
		{0, "", ""},
		{-1, CauseExpired, "expired 0 s ago by IC time, check the clock (about 210 s slow)"},
		{-42 * time.Second, CauseExpired, "expired 42 s ago by IC time, check the clock (about 252 s slow)"},
	} {
		e := Envelope{IngressExpiry: uint64(goldenTime.Add(tc.ahead).UnixNano())}
		err := e.CheckExpiry(goldenTime)
		if CauseOf(err) != tc.cause || (err != nil && err.Error() != tc.text) {
			t.Errorf("%s ahead: got %v", tc.ahead, err)
		}
	}
}

func ed25519FromSeed(t testing.TB, b byte) *identity.Ed25519Identity {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, 32))
	id, err := identity.NewEd25519Identity(key.Public().(ed25519.PublicKey), key)
	if err != nil {
		t.Fatal(err)
	}
	return id
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

// stuffed returns the golden ws_open with unknown keys, here and there, that hold lists of small numbers: n in all.
func stuffed(t testing.TB, n int, inFrame, inEnvelope, inContent bool) []byte {
	t.Helper()
	e := mustParse(t, unhex(t, goldenOpenFrame))
	places := 0
	for _, here := range []bool{inFrame, inEnvelope, inContent} {
		if here {
			places++
		}
	}
	// stuff adds an unknown key to a map of fewer than 23 entries.
	stuff := func(raw []byte, here bool) []byte {
		if !here {
			return raw
		}
		out := append([]byte{raw[0] + 1}, raw[1:]...)
		out = appendCBORHead(appendCBORText(out, "unknown"), cborArray, uint64(n/places))
		return append(out, make([]byte, n/places)...)
	}
	envelope := bytes.Replace(e.Raw, e.Content, stuff(e.Content, inContent), 1)
	frame := AppendClientFrame(nil, stuff(envelope, inEnvelope))
	return append([]byte(selfDescribeTag), stuff(frame[len(selfDescribeTag):], inFrame)...)
}

// What a frame may make us pass over is bounded for all of it, wherever it is.
func TestClientFrameBounded(t *testing.T) {
	for _, where := range [][3]bool{{true, false, false}, {false, true, false}, {false, false, true}, {true, true, true}} {
		if _, err := ParseClientFrame(stuffed(t, 9000, where[0], where[1], where[2])); err != nil {
			t.Errorf("%v: %v", where, err)
		}
		for _, n := range []int{maxClientValues, 2 << 20} {
			if _, err := ParseClientFrame(stuffed(t, n, where[0], where[1], where[2])); CauseOf(err) != CauseMalformed {
				t.Errorf("%v, %d values: got %v", where, n, err)
			}
		}
	}
	// The largest frame that can mean something passes.
	root := ed25519FromSeed(t, 1)
	keys := make([]Signer, MaxDelegations)
	for i := range keys {
		keys[i] = ed25519FromSeed(t, byte(2+i))
	}
	targets := make([]Principal, MaxDelegationTargets)
	for i := range targets {
		targets[i] = parsed(t, vectorCanister)
	}
	r := Request{Delegations: chainOf(t, func(_ int, d *SignedDelegation) { d.Targets = targets }, root, keys...), RootKey: root.PublicKey()}
	e := signed(t, r, keys[len(keys)-1])
	if e, err := ParseClientFrame(AppendClientFrame(nil, e.Raw)); err != nil {
		t.Error(err)
	} else if _, err := VerifySender(e, goldenTime, nil, nil); err != nil {
		t.Error(err)
	}
}

// BenchmarkHostileFrame is what a frame of 2 MiB full of small values costs before it is refused.
func BenchmarkHostileFrame(b *testing.B) {
	for name, where := range map[string][3]bool{"frame": {true}, "envelope": {false, true}, "content": {false, false, true}} {
		frame := stuffed(b, 2<<20-1000, where[0], where[1], where[2])
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseClientFrame(frame); err == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
}
