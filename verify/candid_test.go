package verify

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/aviate-labs/agent-go/candid"
	"github.com/aviate-labs/agent-go/candid/idl"
	"github.com/aviate-labs/agent-go/principal"
)

func mustPrincipal(t testing.TB, text string) Principal {
	t.Helper()
	p, err := ParsePrincipal(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func goldenKey(t testing.TB) ClientKey {
	t.Helper()
	return ClientKey{Principal: mustPrincipal(t, goldenClient), Nonce: goldenNonce}
}

func wantHex(t testing.TB, what string, got []byte, want string) {
	t.Helper()
	if hex.EncodeToString(got) != want {
		t.Errorf("%s:\n got %x\nwant %s", what, got, want)
	}
}

func TestOpenArgGolden(t *testing.T) {
	e, err := ParseClientFrame(unhex(t, goldenOpenFrame))
	if err != nil {
		t.Fatal(err)
	}
	nonce, gateway, err := DecodeOpenArg(e.Arg)
	if err != nil || nonce != goldenNonce || gateway != mustPrincipal(t, goldenGateway) {
		t.Errorf("got %#x, %s, %v", nonce, gateway, err)
	}
	wantHex(t, "encoded again", AppendOpenArg(nil, nonce, gateway), hex.EncodeToString(e.Arg))
}

func TestPollArgGolden(t *testing.T) {
	wantHex(t, "nonce 0", AppendPollArg(nil, 0), goldenPollArg)
	wantHex(t, "nonce 51", AppendPollArg(nil, 51), strings.TrimSuffix(goldenPollArg, "0000000000000000")+"3300000000000000")
	for _, nonce := range []uint64{0, 51, 1<<64 - 1} {
		if got, err := DecodePollArg(AppendPollArg(nil, nonce)); got != nonce || err != nil {
			t.Errorf("nonce %d: got %d, %v", nonce, got, err)
		}
	}
}

func TestCloseArgGolden(t *testing.T) {
	key := goldenKey(t)
	want := goldenCloseArgHead + hex.EncodeToString(key.Principal.Bytes()) + "0807060504030201"
	got := AppendCloseArg(nil, key)
	wantHex(t, "argument", got, want)
	if back, err := DecodeCloseArg(got); back != key || err != nil {
		t.Errorf("got %v, %v", back, err)
	}
}

func TestMessageArgGolden(t *testing.T) {
	arg := unhex(t, goldenMessageArg)
	m, err := DecodeMessageArg(arg)
	if err != nil {
		t.Fatal(err)
	}
	want := WebsocketMessage{Client: goldenKey(t), Sequence: 1, Timestamp: 1735689600000000000}
	want.Content = unhex(t, "4449444c016c01ad99e7e704710100026869")
	if m.Client != want.Client || m.Sequence != 1 || m.Timestamp != want.Timestamp || m.Service || !bytes.Equal(m.Content, want.Content) {
		t.Errorf("got %+v", m)
	}
	wantHex(t, "encoded again", AppendMessageArg([]byte{}, m), goldenMessageArg)
}

func TestResultGolden(t *testing.T) {
	if text, ok, err := DecodeResult(unhex(t, goldenResultOk)); text != "" || !ok || err != nil {
		t.Errorf("Ok: got %q, %v, %v", text, ok, err)
	}
	if text, ok, err := DecodeResult(unhex(t, goldenResultErr)); text != "x" || ok || err != nil {
		t.Errorf("Err: got %q, %v, %v", text, ok, err)
	}
}

func TestReplyGolden(t *testing.T) {
	var r Reply
	for _, in := range []string{goldenReplyEmpty, goldenReplyEmptyOld} {
		if err := r.Decode(unhex(t, in)); err != nil || len(r.Messages) != 0 || len(r.Cert) != 0 || !r.EndOfQueue || r.Failed {
			t.Errorf("empty reply: got %+v, %v", r, err)
		}
	}
	if err := r.Decode(unhex(t, goldenReplyOne)); err != nil {
		t.Fatal(err)
	}
	if len(r.Messages) != 1 || r.EndOfQueue || string(r.Cert) != "\xc1" || string(r.Tree) != "\xc2" {
		t.Fatalf("one message: got %+v", r)
	}
	m := r.Messages[0]
	if m.Client != goldenKey(t) || string(m.Key) != "k_00000000000000000000" || string(m.Content) != "\x01\x02" {
		t.Errorf("one message: got %+v", m)
	}
	// A reply that cannot be decoded leaves nothing of the one before.
	if err := r.Decode(nil); !errors.Is(err, ErrMalformed) || len(r.Messages) != 0 || r.Cert != nil || r.EndOfQueue {
		t.Errorf("after an error: got %+v, %v", r, err)
	}
}

// The structs below are how agent-go's Candid library sees the interface, a second opinion on the encoding.
type (
	oracleKey struct {
		Principal principal.Principal `ic:"client_principal"`
		Nonce     uint64              `ic:"client_nonce"`
	}
	oracleMessage struct {
		Client  oracleKey `ic:"client_key"`
		Key     string    `ic:"key"`
		Content []byte    `ic:"content"`
	}
	oraclePage struct {
		Messages   []oracleMessage `ic:"messages"`
		Cert       []byte          `ic:"cert"`
		Tree       []byte          `ic:"tree"`
		EndOfQueue bool            `ic:"is_end_of_queue"`
	}
	oracleReply struct {
		Ok  *oraclePage `ic:"Ok,variant"`
		Err *string     `ic:"Err,variant"`
	}
	oracleWebsocketMessage struct {
		Client    oracleKey `ic:"client_key"`
		Sequence  uint64    `ic:"sequence_num"`
		Timestamp uint64    `ic:"timestamp"`
		Service   bool      `ic:"is_service_message"`
		Content   []byte    `ic:"content"`
	}
)

func toOracleKey(k ClientKey) oracleKey {
	return oracleKey{principal.Principal{Raw: k.Principal.Bytes()}, k.Nonce}
}

func mustMarshal(t testing.TB, args ...any) []byte {
	t.Helper()
	b, err := candid.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestArgsAgainstAgentGo(t *testing.T) {
	key := goldenKey(t)
	gateway := mustPrincipal(t, goldenGateway)
	open := mustMarshal(t, struct {
		Nonce   uint64              `ic:"client_nonce"`
		Gateway principal.Principal `ic:"gateway_principal"`
	}{7, principal.Principal{Raw: gateway.Bytes()}})
	if nonce, p, err := DecodeOpenArg(open); nonce != 7 || p != gateway || err != nil {
		t.Errorf("ws_open: got %d, %s, %v", nonce, p, err)
	}
	closing := mustMarshal(t, struct {
		Client oracleKey `ic:"client_key"`
	}{toOracleKey(key)})
	if got, err := DecodeCloseArg(closing); got != key || err != nil {
		t.Errorf("ws_close: got %v, %v", got, err)
	}
	message := mustMarshal(t, struct {
		Msg oracleWebsocketMessage `ic:"msg"`
	}{oracleWebsocketMessage{toOracleKey(key), 3, 4, true, []byte("abc")}})
	m, err := DecodeMessageArg(message) // one argument only, as a canister kit of version 0.1 wanted it
	if err != nil || m.Client != key || m.Sequence != 3 || m.Timestamp != 4 || !m.Service || string(m.Content) != "abc" {
		t.Errorf("ws_message: got %+v, %v", m, err)
	}
	// And back: what we encode, agent-go reads.
	var back struct {
		Msg oracleWebsocketMessage `ic:"msg"`
	}
	var app *struct{}
	if err := candid.Unmarshal(AppendMessageArg(nil, m), []any{&back, &app}); err != nil {
		t.Fatal(err)
	}
	if back.Msg.Sequence != 3 || back.Msg.Client.Nonce != key.Nonce || string(back.Msg.Content) != "abc" || !back.Msg.Service {
		t.Errorf("agent-go reads %+v", back)
	}
}

func TestReplyAgainstAgentGo(t *testing.T) {
	page := oraclePage{Cert: []byte("cert"), Tree: []byte("tree")}
	for i := range 50 {
		key := ClientKey{mustPrincipal(t, goldenClient), uint64(i) << 40}
		page.Messages = append(page.Messages, oracleMessage{toOracleKey(key), strings.Repeat("k", i), bytes.Repeat([]byte{byte(i)}, i*7)})
	}
	var r Reply
	if err := r.Decode(mustMarshal(t, oracleReply{Ok: &page})); err != nil {
		t.Fatal(err)
	}
	if string(r.Cert) != "cert" || string(r.Tree) != "tree" || r.EndOfQueue || len(r.Messages) != 50 {
		t.Fatalf("got %+v", r)
	}
	for i, m := range r.Messages {
		want := page.Messages[i]
		if m.Client.Nonce != want.Client.Nonce || !bytes.Equal(m.Client.Principal.Bytes(), want.Client.Principal.Raw) ||
			string(m.Key) != want.Key || !bytes.Equal(m.Content, want.Content) {
			t.Errorf("message %d: got %+v", i, m)
		}
	}
	text := "Gateway is not registered"
	if err := r.Decode(mustMarshal(t, oracleReply{Err: &text})); err != nil || !r.Failed || r.Err != text || len(r.Messages) != 0 {
		t.Errorf("Err: got %+v, %v", r, err)
	}
}

// A canister may add fields of any type, in any place, and order its type table as it likes.
func TestReplySkipsUnknownFields(t *testing.T) {
	blob := idl.NewVectorType(idl.Nat8Type())
	null := idl.NullType{}
	key := idl.NewRecordType(map[string]idl.Type{"client_principal": idl.PrincipalType{}, "client_nonce": idl.Nat64Type(), "extra": idl.NewOptionalType(blob)})
	message := idl.NewRecordType(map[string]idl.Type{"client_key": key, "key": idl.TextType{}, "content": blob, "tags": idl.NewVectorType(idl.TextType{})})
	shape := idl.NewVariantType(map[string]idl.Type{"A": null, "B": idl.NewVectorType(idl.NewRecordType(map[string]idl.Type{"x": idl.IntType{}}))})
	page := idl.NewRecordType(map[string]idl.Type{
		"messages": idl.NewVectorType(message), "cert": blob, "tree": blob, "is_end_of_queue": idl.NewOptionalType(idl.BoolType{}),
		"aaa": shape, "floats": idl.NewVectorType(idl.Float64Type()), "nat": idl.NatType{}, "b": idl.BoolType{},
	})
	reply := idl.NewVariantType(map[string]idl.Type{"Ok": page, "Err": idl.TextType{}})
	p := principal.Principal{Raw: mustPrincipal(t, goldenClient).Bytes()}
	for _, end := range []any{nil, true, false} {
		arg, err := candid.Encode([]idl.Type{reply, idl.NewVectorType(idl.BoolType{})}, []any{
			idl.Variant{Name: "Ok", Type: *reply, Value: map[string]any{
				"messages": []any{map[string]any{
					"client_key": map[string]any{"client_principal": p, "client_nonce": uint64(5), "extra": []any{uint8(1)}},
					"key":        "k", "content": []any{uint8(9)}, "tags": []any{"a", "bc"},
				}},
				"cert": []any{uint8(1)}, "tree": []any{uint8(2)}, "is_end_of_queue": end,
				"aaa":    idl.Variant{Name: "B", Type: *shape, Value: []any{map[string]any{"x": idl.NewInt(-300)}, map[string]any{"x": idl.NewInt(7)}}},
				"floats": []any{1.5, 2.5}, "nat": idl.NewNat(uint64(1) << 60), "b": true,
			}},
			[]any{true, false},
		})
		if err != nil {
			t.Fatal(err)
		}
		var r Reply
		if err := r.Decode(arg); err != nil {
			t.Fatalf("is_end_of_queue %v: %v\n%x", end, err, arg)
		}
		want := end == nil || end == true
		if r.EndOfQueue != want || r.EndStated != (end != nil) || len(r.Messages) != 1 || string(r.Cert) != "\x01" || string(r.Tree) != "\x02" {
			t.Errorf("is_end_of_queue %v: got %+v", end, r)
		}
		if m := r.Messages[0]; m.Client.Nonce != 5 || string(m.Key) != "k" || string(m.Content) != "\x09" {
			t.Errorf("got %+v", m)
		}
	}
}

// Types that agent-go does not encode, by hand: every primitive type, a function, a service, a type of the future.
func TestSkipEveryType(t *testing.T) {
	head := "4449444c 06" +
		"6a 00 00 00" + // 0: func () -> ()
		"69 01 01 6d 00" + // 1: service {m: 0}
		"60 02 aabb" + // 2: opcode -32, of the future, two bytes of definition
		"6c 01 ef9999fe09 78" + // 3: record {nonce: nat64}
		"6d 7f" + // 4: vec null
		"6c 00" // 5: record {}
	args := "14 03" + "7f7e7d7c7b7a797776757473727170 68 00 01" + "02"
	values := "2a00000000000000" + // nonce
		"" + "01" + "808001" + "ff7f" + "01" + "0100" + "01000000" + // null bool nat int nat8 nat16 nat32
		"01" + "0100" + "01000000" + "0100000000000000" + // int8..int64
		"00000000" + "0000000000000000" + "0161" + "" + // float32 float64 text reserved
		"010104" + "01 010104 016d" + "010104" + // principal, func, service
		"03 00 aabbcc" // future: three bytes, no references
	arg := unhex(t, head+args+values)
	if got, err := DecodePollArg(arg); got != 42 || err != nil {
		t.Errorf("got %d, %v", got, err)
	}
	for n := range arg {
		if _, err := DecodePollArg(arg[:n]); !errors.Is(err, ErrMalformed) {
			t.Errorf("cut at %d of %d: got %v", n, len(arg), err)
		}
	}
	zero := unhex(t, "4449444c 04 6c01ef9999fe0978 6d7f 6c00 6d02 04 00 01 70 03"+"2a00000000000000"+"ffffffff0f"+"03")
	if got, err := DecodePollArg(zero); got != 42 || err != nil { // four billion nulls take no time
		t.Errorf("vec null and vec record {}: got %d, %v", got, err)
	}
}

// What is skipped has a bound of its own, in a message of any size.
func TestSkipBounds(t *testing.T) {
	for _, tc := range []struct {
		name, elem string
		values     int
		ok         bool
	}{
		{"bools", "7e", maxCandidSkips, true},
		{"bools, too many", "7e", maxCandidSkips + candidFuel + 1, false},
		{"options, too many", "02", maxCandidSkips + candidFuel + 1, false},
		{"bytes, as many as you like", "7b", 3 << 20, true},
	} {
		// (record {nonce: nat64}, vec elem), where type 2 is opt null
		arg := unhex(t, "4449444c 03 6c01ef9999fe0978 6d"+tc.elem+"6e7f 020001"+"2a00000000000000")
		arg = append(binary.AppendUvarint(arg, uint64(tc.values)), make([]byte, tc.values)...)
		got, err := DecodePollArg(arg)
		if tc.ok && (got != 42 || err != nil) || !tc.ok && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %d, %v", tc.name, got, err)
		}
	}
}

// What claims to hold more than its bytes is refused for that, by the count of what is read. (Without that count a record that contains
// itself is read for ever.)
func TestCandidRefuses(t *testing.T) {
	deep := "4449444c" + "42" // 66 types: record {nonce}, then opt of the next, 65 times
	deep += "6c01ef9999fe0978"
	for i := 2; i <= 65; i++ {
		deep += "6e" + sleb(i)
	}
	deep += "6e7e" + "02 00 01" + "2a00000000000000" + strings.Repeat("01", 66)
	for _, tc := range []struct{ name, in string }{
		{"empty", ""},
		{"no header", "00"},
		{"header only", "4449444c"},
		{"record that contains itself", "4449444c016c0100000100"},
		{"record that contains itself, behind the nonce", "4449444c02 6c01ef9999fe0978 6c010001 020001 2a00000000000000"},
		{"vector of itself", "4449444c02 6c01ef9999fe0978 6d01 020001 2a00000000000000 01010101"},
		{"opt of itself", "4449444c02 6c01ef9999fe0978 6e01 020001 2a00000000000000" + strings.Repeat("01", 200)},
		{"2^63-1 empty records", "4449444c03 6c01ef9999fe0978 6c00 6d01 020002 2a00000000000000 ffffffffffffffff7f"}, // counted one by one they never end
		{"gigabyte type table", "4449444c 8080808004"},
		{"gigabyte of fields", "4449444c 01 6c 8080808004"},
		{"gigabyte of function arguments", "4449444c 01 6a 8080808004"},
		{"gigabyte of methods", "4449444c 01 69 8080808004"},
		{"gigabyte future type", "4449444c 01 60 8080808004"},
		{"gigabyte of arguments", "4449444c 00 8080808004"},
		{"gigabyte blob", "4449444c03 6c01ef9999fe0978 6d7b 6d01 020001 2a00000000000000 8080808004"},
		{"length of 2^64-1", "4449444c03 6c01ef9999fe0978 6d78 6d01 020001 2a00000000000000 ffffffffffffffffff01"},
		{"number above 64 bits", "4449444c ffffffffffffffffff7f"},
		{"endless number", "4449444c " + strings.Repeat("80", 5000)},
		{"endless opcode", "4449444c 01" + strings.Repeat("ff", 5000)},
		{"type that does not exist", "4449444c 01 6e01 0100"},
		{"primitive in the table", "4449444c 01 78 0100"},
		{"principal in the table", "4449444c 01 68 0100"},
		{"unsorted fields", "4449444c016c02ef9999fe0978017801002a000000000000000000000000000000"},
		{"repeated field", "4449444c016c02ef9999fe0978ef9999fe097801002a000000000000002a00000000000000"},
		{"field id above 32 bits", "4449444c016c01ffffffffff0178 0100 2a00000000000000"},
		{"no argument", "4449444c016c01ef9999fe0978 00"},
		{"argument not a record", "4449444c000178 2a00000000000000"},
		{"nat instead of nat64", "4449444c016c01ef9999fe097d 0100 2a"},
		{"field missing", "4449444c016c01ee9999fe0978 0100 2a00000000000000"},
		{"truncated value", "4449444c016c01ef9999fe0978 0100 2a000000000000"},
		{"trailing byte", goldenPollArg + "00"},
		{"bool of 2", "4449444c016c01ef9999fe0978 02007e 2a00000000000000 02"},
		{"opaque principal", "4449444c016c01ef9999fe0978 020068 2a00000000000000 00"},
		{"principal of 30 bytes", "4449444c016c01ef9999fe0978 020068 2a00000000000000 011e" + strings.Repeat("00", 30)},
		{"value of the empty type", "4449444c016c01ef9999fe0978 02006f 2a00000000000000"},
		{"variant index out of range", "4449444c02 6c01ef9999fe0978 6b01007f 020001 2a00000000000000 01"},
		{"nested 65 deep", deep},
	} {
		arg := unhex(t, tc.in)
		if _, err := DecodePollArg(arg); !errors.Is(err, ErrMalformed) || CauseOf(err) != CauseMalformed {
			t.Errorf("%s: got %v", tc.name, err)
		}
		var r Reply
		if err := r.Decode(arg); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s, as a reply: got %v", tc.name, err)
		}
	}
}

// sleb is i below 8192 as signed LEB128 in hexadecimal.
func sleb(i int) string {
	if i < 64 {
		return hex.EncodeToString([]byte{byte(i)})
	}
	return hex.EncodeToString([]byte{byte(i&0x7f) | 0x80, byte(i >> 7)})
}

// Every prefix of a valid message is refused, and none panics.
func TestCandidTruncated(t *testing.T) {
	for _, in := range []string{goldenReplyEmpty, goldenReplyOne, goldenResultOk, goldenResultErr, goldenMessageArg, goldenPollArg} {
		b := unhex(t, in)
		for n := range b {
			var r Reply
			_, openErr := decodeAll(b[:n], &r)
			if openErr == nil {
				t.Errorf("%s cut at %d: accepted", in, n)
			}
		}
	}
}

// decodeAll runs every decoder and returns how many accepted the input, with the last error if none did.
func decodeAll(b []byte, r *Reply) (accepted int, err error) {
	count := func(e error) {
		if e == nil {
			accepted++
		} else {
			err = e
		}
	}
	count(r.Decode(b))
	_, _, e := DecodeOpenArg(b)
	count(e)
	_, e = DecodeMessageArg(b)
	count(e)
	_, e = DecodeCloseArg(b)
	count(e)
	_, e = DecodePollArg(b)
	count(e)
	_, _, e = DecodeResult(b)
	count(e)
	_, e = DecodeServiceMessage(b)
	count(e)
	if accepted > 0 {
		err = nil
	}
	return accepted, err
}
