package verify

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// object is a CBOR map to be encoded.
type object = map[string]any

// encode encodes v by fxamacker's encoder.
func encode(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestParseQueryReply(t *testing.T) {
	signature := object{"timestamp": uint64(1), "signature": []byte("sig"), "identity": []byte{1, 2}}
	for _, tt := range []struct {
		name string
		in   any
		want string // of the error; empty for none
	}{
		{"replied", object{"status": "replied", "reply": object{"arg": []byte("DIDL")}, "signatures": []any{signature}}, ""},
		{"replied, unsigned", object{"status": "replied", "reply": object{"arg": []byte("DIDL")}}, ""},
		{"replied, more fields", object{"status": "replied", "reply": object{"arg": []byte("DIDL"), "x": 1.5}, "y": []any{nil}}, ""},
		{"rejected", object{"status": "rejected", "reject_code": 5, "reject_message": "trap", "error_code": "IC0503", "signatures": []any{signature}}, ""},
		{"rejected, no error code", object{"status": "rejected", "reject_code": 5, "reject_message": "trap"}, ""},
		{"rejected, null error code", object{"status": "rejected", "reject_code": 5, "reject_message": nil, "error_code": nil}, ""},
		{"rejected, wide code", object{"status": "rejected", "reject_code": uint64(1) << 63, "reject_message": "x"}, ""},
		{"no status", object{"reply": object{"arg": []byte{}}}, "unknown status"},
		{"unknown status", object{"status": "maybe", "reply": object{"arg": []byte{}}}, "unknown status"},
		{"replied without reply", object{"status": "replied"}, "field missing"},
		{"reply without arg", object{"status": "replied", "reply": object{}}, "field missing"},
		{"reply as bytes", object{"status": "replied", "reply": []byte("DIDL")}, "another type"},
		{"rejected without code", object{"status": "rejected", "reject_message": "x"}, "field missing"},
		{"code as text", object{"status": "rejected", "reject_code": "5"}, "another type"},
		{"code as bytes of odd width", object{"status": "rejected", "reject_code": []byte{1, 2, 3}}, "another type"},
		{"negative code", object{"status": "rejected", "reject_code": -5}, "another type"},
		{"code over 64 bits", object{"status": "rejected", "reject_code": rawCBOR("\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00")}, "out of range"},
		{"signature without time", object{"status": "replied", "reply": object{"arg": []byte{}}, "signatures": []any{object{"signature": []byte{}, "identity": []byte{}}}}, "field missing"},
		{"signature by a long principal", object{"status": "replied", "reply": object{"arg": []byte{}}, "signatures": []any{object{"timestamp": 1, "signature": []byte{}, "identity": make([]byte, 30)}}}, "principal longer"},
		{"too many signatures", object{"status": "replied", "reply": object{"arg": []byte{}}, "signatures": make([]int, 65)}, "more than 64"},
		{"an array", []int{1}, "another type"},
		{"text", "429 too many requests", "another type"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, tag := range []string{"", "\xd9\xd9\xf7"} {
				q, err := ParseQueryReply(append([]byte(tag), encode(t, tt.in)...))
				if tt.want != "" {
					wantCause(t, err, CauseMalformed)
					if err != nil && !strings.Contains(err.Error(), tt.want) {
						t.Errorf("got %v, want %q in it", err, tt.want)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if q.Replied != strings.HasPrefix(tt.name, "replied") {
					t.Errorf("replied: %v", q.Replied)
				}
				if q.Replied && string(q.Arg) != "DIDL" || !q.Replied && (q.RejectCode < 5 || q.Arg != nil) {
					t.Errorf("got %+v", q)
				}
			}
		})
	}
	q, err := ParseQueryReply(encode(t, object{"status": "rejected", "reject_code": 5, "reject_message": "trap", "error_code": "IC0503", "signatures": []any{signature}}))
	if err != nil {
		t.Fatal(err)
	}
	node, _ := PrincipalFromBytes([]byte{1, 2})
	if q.RejectCode != 5 || q.RejectMessage != "trap" || q.ErrorCode != "IC0503" || len(q.Signatures) != 1 ||
		q.Signatures[0].Node != node || q.Signatures[0].Timestamp != 1 || string(q.Signatures[0].Signature) != "sig" {
		t.Errorf("got %+v", q)
	}
}

func TestParseCallReply(t *testing.T) {
	r, err := ParseCallReply(encode(t, object{"status": "replied", "certificate": []byte("cert")}))
	if err != nil || r.Rejected || string(r.Certificate) != "cert" {
		t.Errorf("replied: %+v, %v", r, err)
	}
	for name, in := range map[string]object{
		"sync":  {"status": "non_replicated_rejection", "reject_code": 2, "reject_message": "busy", "error_code": "IC0207"},
		"async": {"reject_code": 2, "reject_message": "busy", "error_code": "IC0207"},
	} {
		r, err := ParseCallReply(encode(t, in))
		if err != nil || !r.Rejected || r.RejectCode != 2 || r.RejectMessage != "busy" || r.ErrorCode != "IC0207" || r.Certificate != nil {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	for name, in := range map[string]any{
		"nothing":              object{},
		"no certificate":       object{"status": "replied"},
		"certificate as map":   object{"status": "replied", "certificate": object{}},
		"unknown status":       object{"status": "processing", "certificate": []byte{}},
		"rejection, no code":   object{"status": "non_replicated_rejection"},
		"replied with code":    object{"status": "replied", "reject_code": 1},
		"certificate, no more": object{"certificate": []byte("cert")},
		"null":                 nil,
	} {
		r, err := ParseCallReply(encode(t, in))
		if wantCause(t, err, CauseMalformed); r != nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestParseStatusAndReadState(t *testing.T) {
	key, err := ParseStatusReply(encode(t, object{
		"ic_api_version": "0.18.0", "root_key": MainnetRootKey(), "impl_version": nil, "replica_health_status": "healthy",
		"certified_height": 1, "values": object{"a": []any{1}},
	}))
	if err != nil || !bytes.Equal(key, MainnetRootKey()) {
		t.Errorf("status: %x, %v", key, err)
	}
	for name, in := range map[string]any{
		"no key":    object{"ic_api_version": "0.18.0"},
		"no bytes":  object{"root_key": "text"},
		"short key": object{"root_key": MainnetRootKey()[:132]},
		"no point":  object{"root_key": append(MainnetRootKey()[:37], make([]byte, 96)...)},
		"an error":  "503 no healthy upstream",
	} {
		if _, err := ParseStatusReply(encode(t, in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("status, %s: %v", name, err)
		}
	}
	cert, err := ParseReadStateReply(encode(t, object{"certificate": []byte("cert"), "more": 1}))
	if err != nil || string(cert) != "cert" {
		t.Errorf("read_state: %s, %v", cert, err)
	}
	for name, in := range map[string]any{"empty": object{}, "text": object{"certificate": "cert"}, "array": []int{}} {
		if _, err := ParseReadStateReply(encode(t, in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("read_state, %s: %v", name, err)
		}
	}
}
