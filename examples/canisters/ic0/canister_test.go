package ic0_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/examples/canisters/ic0"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/verify"
)

// counter is a canister by hand. Both of its numbers, one in memory and one in
// a global, count updates; "bad" counts and then traps; the reply is both as
// two little-endian words.
func counter() []byte {
	const (
		i32           = 0x7f
		typeAction    = 0 // func()
		typeTwo       = 1 // func(i32, i32)
		append_, trap = 0, 1
		reply         = 2
		count         = 3 // our own first function
	)
	call := func(f byte) []byte { return []byte{0x10, f} }
	constant := func(n byte) []byte { return []byte{0x41, n} }
	body := func(parts ...[]byte) []byte {
		code := append([]byte{0}, bytes.Join(parts, nil)...) // no locals
		code = append(code, 0x0b)
		return append([]byte{byte(len(code))}, code...)
	}
	increment := bytes.Join([][]byte{
		constant(0), constant(0), {0x28, 2, 0}, constant(1), {0x6a}, {0x36, 2, 0}, // memory[0]++
		{0x23, 0}, constant(1), {0x6a}, {0x24, 0}, // global 0 ++
		constant(4), {0x23, 0}, {0x36, 2, 0}, // memory[4] = global 0
	}, nil)
	answer := bytes.Join([][]byte{constant(0), constant(8), call(append_), call(reply)}, nil)
	imported := func(name string, kind byte) []byte {
		return append(append([]byte("\x03ic0"), append([]byte{byte(len(name))}, name...)...), 0, kind)
	}
	exported := func(name string, kind, index byte) []byte {
		return append(append([]byte{byte(len(name))}, name...), kind, index)
	}
	section := func(id byte, count byte, entries ...[]byte) []byte {
		content := append([]byte{count}, bytes.Join(entries, nil)...)
		return append([]byte{id, byte(len(content))}, content...)
	}
	return bytes.Join([][]byte{
		[]byte("\x00asm\x01\x00\x00\x00"),
		section(1, 2, []byte{0x60, 0, 0}, []byte{0x60, 2, i32, i32, 0}),
		section(2, 3, imported("msg_reply_data_append", typeTwo), imported("trap", typeTwo), imported("msg_reply", typeAction)),
		section(3, 3, []byte{typeAction, typeAction, typeAction}),
		section(5, 1, []byte{0, 1}),                  // one page of memory
		section(6, 1, []byte{i32, 1, 0x41, 0, 0x0b}), // mutable, 0
		section(7, 5, exported("memory", 2, 0), exported("canister_update count", 0, count),
			exported("canister_update bad", 0, count+1), exported("canister_query peek", 0, count),
			exported("canister_update silent", 0, count+2)),
		section(10, 3, body(increment, answer), body(increment, constant(0), constant(4), call(trap)), body(increment)),
	}, nil)
}

func TestCanister(t *testing.T) {
	c, err := ic0.Load(counter())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
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
	both := func(n uint32) []byte {
		return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, n), n)
	}
	for i, step := range []struct {
		endpoint, method string
		reply            []byte
		code             uint64
	}{
		{"call", "count", both(1), 0},
		{"call", "count", both(2), 0},
		{"call", "bad", nil, localnet.CanisterError}, // memory and global are as before
		{"call", "count", both(3), 0},
		{"query", "peek", both(4), 0}, // a query leaves nothing behind
		{"query", "peek", both(4), 0},
		{"call", "silent", nil, localnet.CanisterError},
		{"call", "missing", nil, localnet.CanisterError},
		{"query", "missing", nil, localnet.CanisterError},
	} {
		reply, code := ask(t, n, authority, id, step.endpoint, step.method)
		if code != step.code || !bytes.Equal(reply, step.reply) && step.code == 0 {
			t.Errorf("step %d, %s %s: reply %x, reject code %d; want %x, %d", i, step.endpoint, step.method, reply, code, step.reply, step.code)
		}
	}
	if err := n.Upgrade(id); err != nil {
		t.Fatal(err)
	}
	if reply, _ := ask(t, n, authority, id, "call", "count"); !bytes.Equal(reply, both(1)) {
		t.Errorf("after an upgrade: %x", reply)
	}
}

// ask makes one call or query and returns the reply or the reject code.
func ask(t *testing.T, n *localnet.Network, authority *verify.Authority, id verify.Principal, endpoint, method string, arg ...byte) ([]byte, uint64) {
	t.Helper()
	signer, err := identity.NewRandomEd25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	r := &verify.Request{Type: endpoint, Canister: id, Method: method, Arg: arg, IngressExpiry: time.Now().Add(time.Minute)}
	envelope, request, err := r.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	version := map[string]string{"call": "v4", "query": "v2"}[endpoint]
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost,
		"http://local/api/"+version+"/canister/"+id.String()+"/"+endpoint, bytes.NewReader(envelope))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/cbor")
	resp, err := n.RoundTripper().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	if endpoint == "query" {
		q, err := verify.ParseQueryReply(body.Bytes())
		if err != nil {
			t.Fatalf("%s: %v: %s", method, err, body.String())
		}
		return q.Arg, q.RejectCode
	}
	reply, err := verify.ParseCallReply(body.Bytes())
	if err != nil {
		t.Fatalf("%s: %v: %s", method, err, body.String())
	}
	if reply.Rejected {
		return nil, reply.RejectCode
	}
	out, err := authority.Outcome(reply.Certificate, id, request, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return out.Reply, out.RejectCode
}

// The custom sections that a module makes public are its metadata, those that it does not are not.
func TestMetadata(t *testing.T) {
	section := func(name, content string) string {
		body := string(rune(len(name))) + name + content
		return "\x00" + string(rune(len(body))) + body
	}
	c, err := ic0.Load([]byte(string(counter()) + section("icp:public candid:service", "service : {}") +
		section("icp:private motoko:types", "x") + section("producers", "y")))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.Metadata(); len(got) != 1 || string(got["candid:service"]) != "service : {}" {
		t.Errorf("%q", got)
	}
}

func TestLoadRefuses(t *testing.T) {
	whole := counter()
	for n := range len(whole) { // some beginnings are modules of their own, none may be a panic
		c, err := ic0.Load(whole[:n])
		if err == nil {
			c.Close()
		}
		if err == nil && n < 8 {
			t.Errorf("the first %d bytes pass for a module", n)
		}
	}
	unknown := bytes.Replace(whole, []byte("msg_reply\x00"), []byte("msg_repl?\x00"), 1)
	c, err := ic0.Load(unknown)
	if err != nil {
		t.Fatal(err)
	}
	if err := install(t, c); err == nil || !strings.Contains(err.Error(), "msg_repl?") {
		t.Errorf("a canister that needs an unknown part of the system API: %v", err)
	}
}

// install installs c on a network of its own.
func install(t *testing.T, c *ic0.Canister) error {
	t.Helper()
	defer c.Close()
	n, err := localnet.New(localnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	_, err = n.TryInstall(c)
	return err
}
