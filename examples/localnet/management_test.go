package localnet

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	agentcandid "github.com/aviate-labs/agent-go/candid"
	"github.com/aviate-labs/agent-go/candid/idl"
	"github.com/aviate-labs/agent-go/principal"

	"github.com/icws-gateway/caddy-icws/examples/localnet/vetkd"
	"github.com/icws-gateway/caddy-icws/verify"
)

// scripted is a canister whose methods are functions.
type scripted map[string]func(env *Env, arg []byte) ([]byte, error)

func (scripted) Init(*Env) error { return nil }

func (c scripted) Update(env *Env, method string, arg []byte) ([]byte, error) {
	if f := c[method]; f != nil {
		return f(env, arg)
	}
	return nil, ErrNoMethod
}

func (c scripted) Query(env *Env, method string, arg []byte) ([]byte, error) {
	return c.Update(env, method, arg)
}

// forward makes a method that calls another one with its argument and answers with what comes back.
func forward(to verify.Principal, method string, cycles uint64) func(*Env, []byte) ([]byte, error) {
	return func(env *Env, arg []byte) ([]byte, error) {
		answer := env.AnswerLater()
		env.Call(Call{Canister: to, Method: method, Arg: bytes.Clone(arg), Cycles: cycles}, func(_ *Env, reply []byte, reject *Reject) error {
			answer(reply, reject)
			return nil
		})
		return []byte("ignored"), nil
	}
}

// The arguments as agent-go writes them, whose Candid shares nothing with ours.
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
)

func keyNamed(name string) vetKeyID {
	return vetKeyID{curve{Right: new(idl.Null)}, name}
}

// onlyField reads the one field of a record that agent-go decodes.
func onlyField(t testing.TB, b []byte, name string) []byte {
	t.Helper()
	var out []byte
	switch name {
	case "public_key":
		var r struct {
			Key []byte `ic:"public_key"`
		}
		if err := agentcandid.Unmarshal(b, []any{&r}); err != nil {
			t.Fatalf("%v: %x", err, b)
		}
		out = r.Key
	case "encrypted_key":
		var r struct {
			Key []byte `ic:"encrypted_key"`
		}
		if err := agentcandid.Unmarshal(b, []any{&r}); err != nil {
			t.Fatalf("%v: %x", err, b)
		}
		out = r.Key
	}
	return out
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
			got := onlyField(t, call(t, n, who, id, "public", mustCandid(t, publicKeyArg{of, context, keyNamed(name)})), "public_key")
			if !bytes.Equal(got, want) {
				t.Errorf("%s of %v: %x, not %x", name, of, got, want)
			}
		}
		transport, err := vetkd.NewTransportKey()
		if err != nil {
			t.Fatal(err)
		}
		encrypted := onlyField(t, call(t, n, who, id, "derive", mustCandid(t, deriveKeyArg{input, context, transport.PublicKey(), keyNamed(name)})), "encrypted_key")
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

// rejected makes a call and returns the certified reject code, 0 for a reply.
func rejected(t testing.TB, n *Network, canister verify.Principal, method string, arg []byte) (code uint64, text string) {
	t.Helper()
	c := content(n, nil, "call", canister, method, arg)
	r := post(t, n, canisterPath("v4", canister, "call"), envelope(t, c, nil, nil)).decode(t)
	if r.Status != "replied" {
		t.Fatalf("%+v", r)
	}
	id := requestID(t, c)
	status, _ := outcome(t, n, r.Certificate, canister, id)
	if status == "replied" {
		return 0, ""
	}
	tree := parseCertificate(t, r.Certificate).Tree
	b, err := tree.Lookup(label("request_status"), id[:], label("reject_code"))
	if err != nil || len(b) != 1 {
		t.Fatalf("%s: %x, %v", status, b, err)
	}
	message, err := tree.Lookup(label("request_status"), id[:], label("reject_message"))
	if err != nil {
		t.Fatal(err)
	}
	return uint64(b[0]), string(message)
}

// What can become of an update that waits for a call, and of one that does not.
func TestCallFromCanister(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := New(Options{Latency: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		var log []string // of the canister, which runs one message at a time
		var mu sync.Mutex
		say := func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			log = append(log, fmt.Sprintf(format, args...))
		}
		said := func() string {
			mu.Lock()
			defer mu.Unlock()
			defer func() { log = nil }()
			return strings.Join(log, ", ")
		}
		var any Call // a method that does not exist will do
		any.Method = "x"
		who := newIdentity(t)
		id := n.Install(scripted{
			"slow": func(env *Env, _ []byte) ([]byte, error) {
				answer := env.AnswerLater()
				say("asked")
				env.Call(any, func(env *Env, _ []byte, reject *Reject) error {
					say("told %d, caller %v", reject.Code, env.Caller == principalOf(who))
					answer([]byte("slow"), nil)
					return nil
				})
				return nil, nil
			},
			"quick": func(*Env, []byte) ([]byte, error) { say("quick"); return []byte("quick"), nil },
			"spawn": func(env *Env, _ []byte) ([]byte, error) {
				env.Call(any, func(*Env, []byte, *Reject) error { say("spawned"); return nil })
				return []byte("at once"), nil
			},
			"trap first": func(env *Env, _ []byte) ([]byte, error) {
				env.Call(any, func(*Env, []byte, *Reject) error { say("called although it trapped"); return nil })
				return nil, errors.New("first")
			},
			"trap then": func(env *Env, _ []byte) ([]byte, error) {
				answer := env.AnswerLater()
				env.Call(any, func(*Env, []byte, *Reject) error {
					answer([]byte("taken back"), nil)
					return errors.New("then")
				})
				return nil, nil
			},
			"panic then": func(env *Env, _ []byte) ([]byte, error) {
				env.AnswerLater()
				env.Call(any, func(*Env, []byte, *Reject) error { panic("in the callback") })
				return nil, nil
			},
			"forget": func(env *Env, _ []byte) ([]byte, error) {
				env.AnswerLater()
				env.Call(any, func(*Env, []byte, *Reject) error { say("forgot"); return nil })
				return nil, nil
			},
			"never": func(env *Env, _ []byte) ([]byte, error) { env.AnswerLater(); return nil, nil },
			"two": func(env *Env, _ []byte) ([]byte, error) {
				answer := env.AnswerLater()
				env.Call(any, func(*Env, []byte, *Reject) error { say("one"); return errors.New("the first traps") })
				env.Call(any, func(env *Env, _ []byte, _ *Reject) error {
					say("two")
					env.Call(any, func(*Env, []byte, *Reject) error { say("three"); answer([]byte("three"), nil); return nil })
					return nil
				})
				return nil, nil
			},
			"huge": func(env *Env, _ []byte) ([]byte, error) {
				answer := env.AnswerLater()
				env.Call(any, func(*Env, []byte, *Reject) error { answer(make([]byte, maxUpdateReply+1), nil); return nil })
				return nil, nil
			},
		})
		for _, tt := range []struct {
			method string
			code   uint64
			text   string
			log    string
		}{
			{"slow", 0, "", "asked, told 3, caller false"},
			{"spawn", 0, "", ""},
			{"trap first", CanisterError, "with message: 'first'", "spawned"},
			{"trap then", CanisterError, "with message: 'then'", ""},
			{"panic then", CanisterError, "with message: 'in the callback'", ""},
			{"forget", CanisterError, "did not reply to the call", "forgot"},
			{"never", CanisterError, "did not reply to the call", ""},
			{"two", 0, "", "one, two, three"},
			{"huge", CanisterError, "cannot be larger than", ""},
		} {
			code, text := rejected(t, n, id, tt.method, nil)
			if code != tt.code || !strings.Contains(text, tt.text) {
				t.Errorf("%s: %d %q", tt.method, code, text)
			}
			if got := said(); got != tt.log {
				t.Errorf("%s: %q, not %q", tt.method, got, tt.log)
			}
		}

		// Other messages come between a call and its answer, and the state tree says that it is being processed.
		slow := content(n, who, "call", id, "slow", nil)
		path := canisterPath("v4", id, "call")
		var first sync.WaitGroup
		first.Go(func() { post(t, n, path, envelope(t, slow, who, nil)) })
		time.Sleep(1500 * time.Millisecond)
		if status, _ := outcome(t, n, post(t, n, path, envelope(t, slow, who, nil)).decode(t).Certificate, id, requestID(t, slow)); status != "processing" {
			t.Errorf("half a second before the answer: %s", status)
		}
		first.Wait()
		if status, reply := outcome(t, n, post(t, n, path, envelope(t, slow, who, nil)).decode(t).Certificate, id, requestID(t, slow)); status != "replied" || string(reply) != "slow" {
			t.Errorf("%s %q", status, reply)
		}
		said()
		var both sync.WaitGroup
		both.Go(func() { call(t, n, who, id, "slow", nil) })
		both.Go(func() { time.Sleep(500 * time.Millisecond); call(t, n, who, id, "quick", nil) })
		both.Wait()
		if got := said(); got != "asked, quick, told 3, caller true" {
			t.Errorf("%q", got)
		}

		// A canister that is stopped goes on when it runs again; one that was installed anew does not.
		both.Go(func() { call(t, n, who, id, "slow", nil) })
		time.Sleep(1500 * time.Millisecond)
		if err := n.Stop(id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if got := said(); got != "asked" {
			t.Errorf("while stopped: %q", got)
		}
		if err := n.StartCanister(id); err != nil {
			t.Fatal(err)
		}
		both.Wait()
		if got := said(); got != "told 3, caller true" {
			t.Errorf("after that: %q", got)
		}
		both.Go(func() {
			if code, text := rejected(t, n, id, "slow", nil); code != CanisterError || !strings.Contains(text, "installed anew") {
				t.Errorf("installed anew: %d %q", code, text)
			}
		})
		time.Sleep(1500 * time.Millisecond)
		if err := n.Upgrade(id); err != nil {
			t.Fatal(err)
		}
		both.Wait()
		if got := said(); got != "asked" {
			t.Errorf("installed anew: %q", got)
		}

		c := content(n, who, "query", id, "spawn", nil)
		if r := post(t, n, canisterPath("v2", id, "query"), envelope(t, c, who, nil)).decode(t); r.Status != "rejected" || !strings.Contains(r.RejectMessage, "query mode") {
			t.Errorf("a query that calls: %+v", r)
		}
	})
}

// asking is an App that asks for a key on every message, sends what comes back to whoever asked, and traps on a reject.
type asking struct{ NoCallbacks }

func (asking) OnMessage(ctx *AppContext, client verify.Principal, payload []byte) error {
	ctx.Call(Call{Method: "vetkd_public_key", Arg: payload}, func(ctx *AppContext, reply []byte, reject *Reject) error {
		if err := ctx.Send(client, []byte("told")); err != nil {
			return err
		}
		if reject != nil {
			return reject
		}
		return ctx.Send(client, reply)
	})
	return nil
}

// An App's message is answered before its call is, and what a callback sends is certified, or undone if it traps.
func TestCallFromApp(t *testing.T) {
	for _, motoko := range []bool{false, true} {
		t.Run(fmt.Sprintf("motoko=%v", motoko), func(t *testing.T) {
			d := &desk{T: t, cdk: NewCDK(CDKOptions{App: asking{}, Motoko: motoko}), gateway: newIdentity(t)}
			d.net = newNetwork(t, Options{})
			d.canister = d.net.Install(d.cdk)
			who := newIdentity(t)
			d.wantText(d.open(who, 1), "")
			d.wantText(d.send(who, 1, 1, false, []byte("no Candid")), "")
			d.wantText(d.send(who, 1, 2, false, mustCandid(t, publicKeyArg{nil, nil, keyNamed("key_1")})), "")
			var got []string
			for _, m := range poll(t, d.net, d.gateway, d.canister, 0).Messages {
				if w := message(t, m); !w.Service {
					got = append(got, fmt.Sprint(len(w.Content)))
				}
			}
			if !slices.Equal(got, []string{"4", "114"}) {
				t.Errorf("messages of %v bytes", got)
			}
		})
	}
}
