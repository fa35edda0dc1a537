package localnet

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aviate-labs/agent-go/identity"

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

// waiter is a canister whose methods wait for calls and say what they do, on a network of its own.
type waiter struct {
	net *Network
	id  verify.Principal
	who *identity.Ed25519Identity

	mu  sync.Mutex
	log []string
}

// newWaiter installs a waiter. The caller closes its network.
func newWaiter(t *testing.T) *waiter {
	t.Helper()
	n, err := New(Options{Latency: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	w := &waiter{net: n, who: newIdentity(t)}
	var any Call // a method that does not exist will do
	any.Method = "x"
	w.id = n.Install(scripted{
		"slow": func(env *Env, _ []byte) ([]byte, error) {
			answer := env.AnswerLater()
			w.say("asked")
			env.Call(any, func(env *Env, _ []byte, reject *Reject) error {
				w.say("told %d, caller %v", reject.Code, env.Caller == principalOf(w.who))
				answer([]byte("slow"), nil)
				return nil
			})
			return nil, nil
		},
		"quick": func(*Env, []byte) ([]byte, error) { w.say("quick"); return []byte("quick"), nil },
		"spawn": func(env *Env, _ []byte) ([]byte, error) {
			env.Call(any, func(*Env, []byte, *Reject) error { w.say("spawned"); return nil })
			return []byte("at once"), nil
		},
		"trap first": func(env *Env, _ []byte) ([]byte, error) {
			env.Call(any, func(*Env, []byte, *Reject) error { w.say("called although it trapped"); return nil })
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
			env.Call(any, func(*Env, []byte, *Reject) error { w.say("forgot"); return nil })
			return nil, nil
		},
		"never": func(env *Env, _ []byte) ([]byte, error) { env.AnswerLater(); return nil, nil },
		"two": func(env *Env, _ []byte) ([]byte, error) {
			answer := env.AnswerLater()
			env.Call(any, func(*Env, []byte, *Reject) error { w.say("one"); return errors.New("the first traps") })
			env.Call(any, func(env *Env, _ []byte, _ *Reject) error {
				w.say("two")
				env.Call(any, func(*Env, []byte, *Reject) error { w.say("three"); answer([]byte("three"), nil); return nil })
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
	return w
}

func (w *waiter) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

// said is what the canister has said since the last time.
func (w *waiter) said() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() { w.log = nil }()
	return strings.Join(w.log, ", ")
}

// What can become of an update that waits for a call, and of one that does not.
func TestCallFromCanister(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaiter(t)
		defer w.net.Close()
		n, id, who := w.net, w.id, w.who
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
			if got := w.said(); got != tt.log {
				t.Errorf("%s: %q, not %q", tt.method, got, tt.log)
			}
		}

		c := content(n, who, "query", id, "spawn", nil)
		r := post(t, n, canisterPath("v2", id, "query"), envelope(t, c, who, nil)).decode(t)
		if r.Status != "rejected" || !strings.Contains(r.RejectMessage, "query mode") {
			t.Errorf("a query that calls: %+v", r)
		}
	})
}

// What a canister does, and what is done to it, while one of its updates waits for a call.
func TestWhileACanisterWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaiter(t)
		defer w.net.Close()
		n, id, who := w.net, w.id, w.who

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
		w.said()
		var both sync.WaitGroup
		both.Go(func() { call(t, n, who, id, "slow", nil) })
		both.Go(func() { time.Sleep(500 * time.Millisecond); call(t, n, who, id, "quick", nil) })
		both.Wait()
		if got := w.said(); got != "asked, quick, told 3, caller true" {
			t.Errorf("%q", got)
		}

		// A canister that is stopped goes on when it runs again; one that was installed anew does not.
		both.Go(func() { call(t, n, who, id, "slow", nil) })
		time.Sleep(1500 * time.Millisecond)
		if err := n.Stop(id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if got := w.said(); got != "asked" {
			t.Errorf("while stopped: %q", got)
		}
		if err := n.StartCanister(id); err != nil {
			t.Fatal(err)
		}
		both.Wait()
		if got := w.said(); got != "told 3, caller true" {
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
		if got := w.said(); got != "asked" {
			t.Errorf("installed anew: %q", got)
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
