package verify

import (
	"bytes"
	"errors"
	"testing"

	"github.com/aviate-labs/agent-go/certification"
	"github.com/fxamacker/cbor/v2"
)

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
