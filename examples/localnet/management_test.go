package localnet

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	agentcandid "github.com/aviate-labs/agent-go/candid"
	"github.com/aviate-labs/agent-go/candid/idl"
	"github.com/aviate-labs/agent-go/principal"

	"github.com/icws-gateway/caddy-icws/examples/localnet/vetkd"
	"github.com/icws-gateway/caddy-icws/verify"
)

// The arguments and replies as agent-go has them, whose Candid shares nothing with ours.
type (
	vetKeyID struct {
		Curve curve  `ic:"curve"`
		Name  string `ic:"name"`
	}
	curve struct {
		Right *idl.Null `ic:"bls12_381_g2,variant"`
		Wrong *idl.Null `ic:"secp256k1,variant"`
	}
	publicKeyArg struct {
		Canister *principal.Principal `ic:"canister_id"`
		Context  []byte               `ic:"context"`
		Key      vetKeyID             `ic:"key_id"`
	}
	deriveKeyArg struct {
		Input     []byte   `ic:"input"`
		Context   []byte   `ic:"context"`
		Transport []byte   `ic:"transport_public_key"`
		Key       vetKeyID `ic:"key_id"`
	}
	publicKeyReply struct {
		Key []byte `ic:"public_key"`
	}
	deriveKeyReply struct {
		Key []byte `ic:"encrypted_key"`
	}
)

func keyNamed(name string) vetKeyID {
	return vetKeyID{curve{Right: new(idl.Null)}, name}
}

// decoded is what agent-go reads.
func decoded[T any](t testing.TB, b []byte) (v T) {
	t.Helper()
	if err := agentcandid.Unmarshal(b, []any{&v}); err != nil {
		t.Fatalf("%v: %x", err, b)
	}
	return v
}

// A canister gets keys for its clients, which open them with nothing but the master key of the network.
func TestVetKD(t *testing.T) {
	for _, latency := range []time.Duration{0, time.Second} {
		t.Run(latency.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testVetKD(t, latency) })
		})
	}
}

func testVetKD(t *testing.T, latency time.Duration) {
	n, err := New(Options{Latency: latency, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	id := n.Install(scripted{
		"public": forward(verify.Principal{}, "vetkd_public_key", 0), // free
		"derive": forward(verify.Principal{}, "vetkd_derive_key", 26_153_846_153),
	})
	who := newIdentity(t)
	context, input := []byte("rooms"), []byte("room 1")
	masters := map[string]bool{}
	for _, name := range []string{"dfx_test_key", "test_key_1", "key_1"} {
		master := n.VetKDPublicKey(name)
		masters[string(master)] = true
		public, err := vetkd.DerivePublic(master, id.Bytes(), context)
		if err != nil {
			t.Fatal(err)
		}
		other := principal.Principal{Raw: canisterID(9).Bytes()}
		for _, of := range []*principal.Principal{nil, &other} {
			want := public
			if of != nil {
				if want, err = vetkd.DerivePublic(master, other.Raw, context); err != nil {
					t.Fatal(err)
				}
			}
			arg := mustCandid(t, publicKeyArg{of, context, keyNamed(name)})
			got := decoded[publicKeyReply](t, call(t, n, who, id, "public", arg)).Key
			if !bytes.Equal(got, want) {
				t.Errorf("%s of %v: %x, not %x", name, of, got, want)
			}
		}
		transport, err := vetkd.NewTransportKey()
		if err != nil {
			t.Fatal(err)
		}
		arg := mustCandid(t, deriveKeyArg{input, context, transport.PublicKey(), keyNamed(name)})
		encrypted := decoded[deriveKeyReply](t, call(t, n, who, id, "derive", arg)).Key
		if _, err := transport.Open(encrypted, public, input); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(masters) != 3 {
		t.Errorf("%d master keys", len(masters))
	}
	if n.VetKDPublicKey("key_2") != nil {
		t.Error("a key that nobody has")
	}
	same, err := New(Options{Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer same.Close()
	another, err := New(Options{Seed: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer another.Close()
	if !bytes.Equal(same.VetKDPublicKey("key_1"), n.VetKDPublicKey("key_1")) || bytes.Equal(another.VetKDPublicKey("key_1"), n.VetKDPublicKey("key_1")) {
		t.Error("the master key does not follow the seed")
	}
}

func TestVetKDRejects(t *testing.T) {
	n := newNetwork(t, Options{})
	transport, err := vetkd.NewTransportKey()
	if err != nil {
		t.Fatal(err)
	}
	derive := func(f func(*deriveKeyArg)) []byte {
		arg := deriveKeyArg{[]byte("input"), []byte("context"), transport.PublicKey(), keyNamed("key_1")}
		f(&arg)
		return mustCandid(t, arg)
	}
	fine := derive(func(*deriveKeyArg) {})
	const (
		fee  = 26_153_846_153
		keys = "[vetkd:Bls12_381_G2:dfx_test_key, vetkd:Bls12_381_G2:key_1, vetkd:Bls12_381_G2:test_key_1]"
	)
	for _, tt := range []struct {
		name, method string
		cycles       uint64
		arg          []byte
		code         uint64
		text         string
	}{
		{"fine", "vetkd_derive_key", fee, fine, 0, ""},
		{"the most there can be", "vetkd_derive_key", 1<<64 - 1, fine, 0, ""},
		{"the cheaper key", "vetkd_derive_key", 10_000_000_000, derive(func(a *deriveKeyArg) { a.Key = keyNamed("test_key_1") }), 0, ""},
		{"no cycles", "vetkd_derive_key", 0, fine, CanisterReject, "vetkd_derive_key request sent with 0 cycles, but 26_153_846_153 cycles are required."},
		{"one cycle short", "vetkd_derive_key", fee - 1, fine, CanisterReject, "vetkd_derive_key request sent with 26_153_846_152 cycles, but 26_153_846_153 cycles are required."},
		{"one cycle short for the cheaper key", "vetkd_derive_key", 9_999_999_999, derive(func(a *deriveKeyArg) { a.Key = keyNamed("test_key_1") }), CanisterReject,
			"vetkd_derive_key request sent with 9_999_999_999 cycles, but 10_000_000_000 cycles are required."},
		{"unknown key", "vetkd_derive_key", fee, derive(func(a *deriveKeyArg) { a.Key = keyNamed("key_2") }), DestinationInvalid,
			`Unable to route management canister request vetkd_derive_key: ChainKeyError("Requested unknown or disabled threshold key: vetkd:Bls12_381_G2:key_2, existing enabled keys: ` + keys + `")`},
		{"unknown public key", "vetkd_public_key", 0, mustCandid(t, publicKeyArg{nil, nil, keyNamed("")}), DestinationInvalid,
			`Unable to route management canister request vetkd_public_key: ChainKeyError("Requested unknown threshold key: vetkd:Bls12_381_G2:, existing keys: ` + keys + `")`},
		{"unknown method", "raw_rand", 0, nil, DestinationInvalid, `Unable to route management canister request raw_rand: MethodNotFound("raw_rand")`},
		{"transport key on no curve", "vetkd_derive_key", fee, derive(func(a *deriveKeyArg) { a.Transport = bytes.Repeat([]byte{1}, 48) }), CanisterReject, "The provided transport public key is invalid."},
		{"bad transport key and no cycles", "vetkd_derive_key", 0, derive(func(a *deriveKeyArg) { a.Transport = make([]byte, 48) }), CanisterReject, "The provided transport public key is invalid."},
		{"transport key cut short", "vetkd_derive_key", fee, derive(func(a *deriveKeyArg) { a.Transport = a.Transport[:47] }), CanisterError, "47 bytes, not 48"},
		{"no transport key", "vetkd_derive_key", fee, derive(func(a *deriveKeyArg) { a.Transport = nil }), CanisterError, "0 bytes, not 48"},
		{"another curve", "vetkd_derive_key", fee, derive(func(a *deriveKeyArg) { a.Key.Curve = curve{Wrong: new(idl.Null)} }), CanisterError, "field curve"},
		{"the other argument", "vetkd_derive_key", fee, mustCandid(t, publicKeyArg{nil, nil, keyNamed("key_1")}), CanisterError, "field input"},
		{"no Candid", "vetkd_derive_key", fee, []byte("input"), CanisterError, "Error decoding candid: "},
		{"nothing", "vetkd_public_key", fee, nil, CanisterError, "Error decoding candid: "},
	} {
		id := n.Install(scripted{"forward": forward(verify.Principal{}, tt.method, tt.cycles)})
		code, text := rejected(t, n, id, "forward", tt.arg)
		if code != tt.code || !strings.Contains(text, tt.text) || tt.code != CanisterError && text != tt.text {
			t.Errorf("%s: %d %q, not %d %q", tt.name, code, text, tt.code, tt.text)
		}
	}
	id := n.Install(scripted{"forward": forward(canisterID(9), "vetkd_public_key", 0)})
	if code, text := rejected(t, n, id, "forward", nil); code != DestinationInvalid || !strings.Contains(text, "the management canister only") {
		t.Errorf("another canister: %d %q", code, text)
	}
	// Nobody but a canister may call.
	r := post(t, n, canisterPath("v4", verify.Principal{}, "call"), envelope(t, content(n, nil, "call", verify.Principal{}, "vetkd_derive_key", fine), nil, nil))
	if r.status == http.StatusOK || r.status == http.StatusAccepted {
		t.Errorf("a call from outside: %d %q", r.status, r.body)
	}
}
