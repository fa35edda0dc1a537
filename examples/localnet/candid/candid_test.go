package candid

import (
	"reflect"
	"strings"
	"testing"

	agentcandid "github.com/aviate-labs/agent-go/candid"
	"github.com/aviate-labs/agent-go/principal"

	"github.com/icws-gateway/caddy-icws/verify"
)

// What is written reads back, and agent-go reads it too, whose Candid shares nothing with this.
func TestEncode(t *testing.T) {
	p, q := verify.Anonymous, verify.SelfAuthenticating([]byte("key"))
	whole := Fields(map[string]any{
		"nothing": nil, "yes": true, "no": false, "number": uint64(1<<64 - 1), "text": "hé", "blob": []byte{1, 2},
		"who": p, "people": []verify.Principal{p, q}, "nobody": []verify.Principal{}, "some": Option{uint64(7)},
		"inner": Fields(map[string]any{"x": uint64(1)}), "which": Case("this", Fields(map[string]any{"y": "z"})), "bare": Case("that", nil),
	})
	got, err := Read(Encode(whole))
	if err != nil {
		t.Fatal(err)
	}
	want := Record{}
	for id, v := range whole {
		want[id] = v
	}
	want[ID("people")], want[ID("nobody")] = []any{p, q}, []any(nil) // vectors are read as they are in Candid
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v\nnot %v", got, want)
	}

	var out struct {
		Number uint64                `ic:"number"`
		Text   string                `ic:"text"`
		Blob   []byte                `ic:"blob"`
		Yes    bool                  `ic:"yes"`
		People []principal.Principal `ic:"people"`
		Some   *uint64               `ic:"some"`
	}
	arg := Encode(Fields(map[string]any{"number": uint64(300), "text": "hé", "blob": []byte{1, 2}, "yes": true, "people": []verify.Principal{p, q}, "some": Option{uint64(7)}}))
	if err := agentcandid.Unmarshal(arg, []any{&out}); err != nil {
		t.Fatal(err)
	}
	if out.Number != 300 || out.Text != "hé" || string(out.Blob) != "\x01\x02" || !out.Yes || len(out.People) != 2 || string(out.People[1].Raw) != string(q.Bytes()) || out.Some == nil || *out.Some != 7 {
		t.Errorf("agent-go reads %+v", out)
	}
	var which struct {
		This *uint64 `ic:"this,variant"`
	}
	if err := agentcandid.Unmarshal(Encode(Case("this", uint64(5))), []any{&which}); err != nil || which.This == nil || *which.This != 5 {
		t.Errorf("agent-go reads %+v, %v", which, err)
	}

	// More than 64 types: their places in the table take two bytes.
	var deep any = uint64(9)
	for range 60 {
		deep = Fields(map[string]any{"a": deep, "b": []byte{1}})
	}
	if back, err := Read(Encode(deep)); err != nil || !reflect.DeepEqual(back, deep) {
		t.Errorf("many types: %v", err)
	}
	defer func() {
		if p := recover(); p == nil || !strings.Contains(p.(string), "int32") {
			t.Errorf("a value that has no encoding: %v", p)
		}
	}()
	Encode(int32(1))
}

// What is read stays within the bounds, whatever was written.
func FuzzRead(f *testing.F) {
	f.Add(Encode(Fields(map[string]any{"a": []byte{1}, "b": Case("c", Option{uint64(1)}), "d": []verify.Principal{verify.Anonymous}})))
	f.Add([]byte("DIDL\x02\x6d\x01\x6c\x00\x01\x00\xff\xff\xff\xff\x0f")) // a vector of 2^32-1 empty records
	f.Add([]byte("DIDL\x01\x6c\x01\x00\x00\x01\x00"))                     // a record in itself
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Read(b)
		if err != nil {
			return
		}
		if values, depth := measure(v); values > maxValues || depth > maxDepth+1 {
			t.Errorf("%d values, %d deep", values, depth)
		}
	})
}

func measure(v any) (values, depth int) {
	var inner []any
	switch v := v.(type) {
	case []any:
		inner = v
	case Record:
		for _, field := range v {
			inner = append(inner, field)
		}
	case Option:
		inner = []any{v.Value}
	case Variant:
		inner = []any{v.Value}
	}
	for _, v := range inner {
		n, d := measure(v)
		values, depth = values+n, max(depth, d)
	}
	return values + 1, depth + 1
}
