package verify

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

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
