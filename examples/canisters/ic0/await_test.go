package ic0_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/icws-gateway/caddy-icws/examples/canisters/ic0"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/examples/localnet/candid"
	"github.com/icws-gateway/caddy-icws/examples/localnet/vetkd"
	"github.com/icws-gateway/caddy-icws/verify"
)

// asker is a canister by hand that calls vetkd_derive_key with its argument. "ask" answers with the reply, or with the reject code as
// a word; "trap" traps in the callback, and its cleanup counts one; "spawn" answers at once with the count, and its callback counts
// one; "poor" is "ask" without cycles; "peek" answers with the count.
func asker() []byte {
	const i32, i64 = 0x7f, 0x7e
	number := func(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }
	list := func(entries ...[]byte) []byte { return append(number(len(entries)), bytes.Join(entries, nil)...) }
	sized := func(b []byte) []byte { return append(number(len(b)), b...) }
	name := func(s string) []byte { return sized([]byte(s)) }
	section := func(id byte, entries ...[]byte) []byte { return append([]byte{id}, sized(list(entries...))...) }
	function := func(results []byte, parameters ...byte) []byte {
		return append(append([]byte{0x60}, sized(parameters)...), sized(results)...)
	}
	types := section(1, function(nil), function(nil, i32, i32), function(nil, i32, i32, i32, i32, i32, i32, i32, i32), function([]byte{i32}),
		function(nil, i64, i64), function(nil, i32), function(nil, i32, i32, i32))
	const ( // the order of the imports
		dataAppend = iota
		trap
		reply
		callNew
		callPerform
		callOnCleanup
		callCyclesAdd
		callDataAppend
		argCopy
		argSize
		rejectCode
		own // the first function of ours
	)
	var imports [][]byte
	for i, of := range []byte{dataAppend: 1, trap: 1, reply: 0, callNew: 2, callPerform: 3, callOnCleanup: 1, callCyclesAdd: 4, callDataAppend: 1, argCopy: 6, argSize: 3, rejectCode: 3} {
		names := []string{"msg_reply_data_append", "trap", "msg_reply", "call_new", "call_perform", "call_on_cleanup", "call_cycles_add128", "call_data_append", "msg_arg_data_copy", "msg_arg_data_size", "msg_reject_code"}
		imports = append(imports, append(append(name("ic0"), name(names[i])...), 0, of))
	}
	signed := func(n int64) (b []byte) {
		for ; n >= 64; n >>= 7 {
			b = append(b, byte(n&0x7f)|0x80)
		}
		return append(b, byte(n))
	}
	constant := func(n int64) []byte { return append([]byte{0x41}, signed(n)...) }
	long := func(n int64) []byte { return append([]byte{0x42}, signed(n)...) }
	call := func(f byte) []byte { return []byte{0x10, f} }
	code := func(parts ...any) []byte {
		body := []byte{0} // no locals
		for _, p := range parts {
			switch p := p.(type) {
			case []byte:
				body = append(body, p...)
			case int: // a constant
				body = append(body, constant(int64(p))...)
			}
		}
		return sized(append(body, 0x0b))
	}
	const methodAt, methodSize, argAt = 16, 16, 64
	count := func(by int) []byte {
		return bytes.Join([][]byte{constant(0), constant(0), {0x28, 2, 0}, constant(int64(by)), {0x6a}, {0x36, 2, 0}}, nil)
	}
	argument := bytes.Join([][]byte{constant(argAt), constant(0), call(argSize), call(argCopy)}, nil) // to memory
	answerCount := bytes.Join([][]byte{constant(0), constant(4), call(dataAppend), call(reply)}, nil)
	derive := func(onReply, onReject int64, cycles int64) []byte {
		return bytes.Join([][]byte{argument, constant(0), constant(0), constant(methodAt), constant(methodSize),
			constant(onReply), constant(1), constant(onReject), constant(1), call(callNew),
			constant(argAt), call(argSize), call(callDataAppend), long(0), long(cycles), call(callCyclesAdd)}, nil)
	}
	perform := append(call(callPerform), 0x1a) // the result is dropped
	const fee = 26_153_846_153
	return bytes.Join([][]byte{
		[]byte("\x00asm\x01\x00\x00\x00"), types, section(2, imports...),
		section(3, []byte{0}, []byte{0}, []byte{0}, []byte{0}, []byte{0}, []byte{5}, []byte{5}, []byte{5}, []byte{5}),
		section(4, []byte{0x70, 0, 4}), // a table of four functions
		section(5, []byte{0, 1}),       // one page of memory
		section(7, append(name("memory"), 2, 0),
			append(name("canister_update ask"), 0, own), append(name("canister_query ask"), 0, own), append(name("canister_update trap"), 0, own+1),
			append(name("canister_update spawn"), 0, own+2), append(name("canister_update poor"), 0, own+3), append(name("canister_query peek"), 0, own+4)),
		section(9, append([]byte{0, 0x41, 0, 0x0b}, list(number(own+5), number(own+6), number(own+7), number(own+8))...)),
		section(10,
			code(derive(0, 1, fee-1), long(0), long(1), call(callCyclesAdd), perform), // cycles add up
			code(derive(2, 2, fee), 3, 1, call(callOnCleanup), perform),
			code(derive(3, 3, fee), perform, answerCount),
			code(derive(0, 1, 0), perform),
			code(answerCount),
			code(argument, argAt, call(argSize), call(dataAppend), call(reply)),
			code(8, call(rejectCode), []byte{0x36, 2, 0}, 8, 4, call(dataAppend), call(reply)),
			code(count(100), 0, 0, call(trap)),
			code(count(1))),
		section(11, append([]byte{0, 0x41, methodAt, 0x0b}, name("vetkd_derive_key")...)),
	}, nil)
}

// What a compiled canister can do with the answer of a call, and that its callback for cleaning up runs after a trap.
func TestAwait(t *testing.T) {
	c, err := ic0.Load(asker())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var printed []string
	c.Print = func(line string) { printed = append(printed, line) }
	n, err := localnet.New(localnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	id := n.Install(c)
	authority, err := verify.NewAuthority(n.RootKey())
	if err != nil {
		t.Fatal(err)
	}
	transport, err := vetkd.NewTransportKey()
	if err != nil {
		t.Fatal(err)
	}
	arg := candid.Encode(candid.Fields(map[string]any{"input": []byte("input"), "context": []byte("context"), "transport_public_key": transport.PublicKey(),
		"key_id": candid.Fields(map[string]any{"curve": candid.Case("bls12_381_g2", nil), "name": "key_1"})}))
	reply, code := ask(t, n, authority, id, "call", "ask", arg...)
	v, err := candid.Read(reply)
	if err != nil {
		t.Fatalf("%d: %v", code, err)
	}
	encrypted, err := candid.Field[[]byte](v, "encrypted_key")
	if err != nil {
		t.Fatal(err)
	}
	public, err := vetkd.DerivePublic(n.VetKDPublicKey("key_1"), id.Bytes(), []byte("context"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := transport.Open(encrypted, public, []byte("input")); err != nil {
		t.Error(err)
	}
	word := func(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }
	for i, step := range []struct {
		endpoint, method string
		arg, reply       []byte
		code             uint64
	}{
		{"call", "ask", []byte("no Candid"), word(localnet.CanisterError), 0},
		{"call", "poor", arg, word(localnet.CanisterReject), 0},
		{"call", "trap", arg, nil, localnet.CanisterError},
		{"query", "peek", nil, word(1), 0}, // what the callback counted is undone, what its cleanup counted is not
		{"call", "spawn", arg, word(1), 0},
		{"query", "peek", nil, word(2), 0},
		{"query", "ask", arg, nil, localnet.CanisterError},
	} {
		reply, code := ask(t, n, authority, id, step.endpoint, step.method, step.arg...)
		if code != step.code || !bytes.Equal(reply, step.reply) && step.code == 0 {
			t.Errorf("step %d, %s %s: reply %x, reject code %d; want %x, %d", i, step.endpoint, step.method, reply, code, step.reply, step.code)
		}
	}
	// Traps are printed. A query is stopped at the call itself: one to itself would change it.
	if len(printed) != 2 || !strings.Contains(printed[0], "ic0.trap") || !strings.Contains(printed[1], "call_new cannot be executed") {
		t.Errorf("printed %q", printed)
	}
}
