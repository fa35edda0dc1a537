package localnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// judge reads an answer the way the gateway does, with package verify, and
// says what is wrong with it.
func judge(a *verify.Authority, endpoint string, body []byte, canister, gateway verify.Principal, nonce uint64, id [32]byte, now time.Time) (cause verify.Cause, poison bool) {
	switch endpoint {
	case "status":
		_, err := verify.ParseStatusReply(body)
		return verify.CauseOf(err), false
	case "call":
		r, err := verify.ParseCallReply(body)
		if err != nil || r.Rejected {
			return verify.CauseOf(err), false
		}
		_, err = a.Outcome(r.Certificate, canister, id, now)
		return verify.CauseOf(err), false
	}
	q, err := verify.ParseQueryReply(body)
	if err != nil || !q.Replied {
		return verify.CauseOf(err), false
	}
	var r verify.Reply
	if err := r.Decode(q.Arg); err != nil {
		return verify.CauseOf(err), false
	}
	p, err := a.Page(&r, verify.Want{Canister: canister, Gateway: gateway, Nonce: nonce}, now)
	if err != nil {
		return verify.CauseOf(err), false
	}
	for _, m := range p.Messages {
		if m.Poison != nil {
			return verify.CauseOf(m.Poison), true
		}
	}
	return "", false
}

// Every attack changes answers as it says, and only those of its target.
func TestAttacks(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, attack := range Attacks() {
		if names[attack.Name] {
			t.Errorf("%s: twice", attack.Name)
		}
		names[attack.Name] = true
		t.Run(attack.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { tryAttack(t, attack) })
		})
	}
	for _, name := range []string{"", "no such attack"} {
		if _, ok := AttackNamed(name); ok {
			t.Errorf("%q found", name)
		}
	}
	if a, ok := AttackNamed("nonce skipped"); !ok || a.Name != "nonce skipped" {
		t.Error("not found by name")
	}
}

func tryAttack(t *testing.T, attack Attack) {
	n, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	authority, err := verify.NewAuthority(n.RootKey())
	if err != nil {
		t.Fatal(err)
	}
	target, honest := n.Install(NewCDK(CDKOptions{})), n.Install(NewCDK(CDKOptions{}))
	who, gateway := newIdentity(t), newIdentity(t)
	nonce := uint64(0)
	// ask sends one request of the attacked kind and reads the answer.
	ask := func(host string, canister verify.Principal) (resp response, id [32]byte, err error) {
		nonce++
		var path string
		var body []byte
		switch attack.Endpoint {
		case "query":
			path = canisterPath("v2", canister, "query")
			c := content(n, gateway, "query", canister, "ws_get_messages", verify.AppendPollArg(nil, 0))
			id, body = requestID(t, c), envelope(t, c, gateway, nil)
		case "call":
			path = canisterPath("v4", canister, "call")
			c := content(n, who, "call", canister, "ws_open", verify.AppendOpenArg(nil, nonce, principalOf(gateway)))
			id, body = requestID(t, c), envelope(t, c, who, nil)
		case "status":
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, host+"/api/v2/status", nil)
			if err != nil {
				t.Fatal(err)
			}
			hr, err := n.RoundTripper().RoundTrip(req)
			if err != nil {
				return resp, id, err
			}
			defer hr.Body.Close()
			b, err := io.ReadAll(hr.Body)
			return response{hr.StatusCode, hr.Header, b}, id, err
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, host+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/cbor")
		hr, err := n.RoundTripper().RoundTrip(req)
		if err != nil {
			return resp, id, err
		}
		defer hr.Body.Close()
		b, err := io.ReadAll(hr.Body)
		return response{hr.StatusCode, hr.Header, b}, id, err
	}
	good := func(host string, canister verify.Principal) {
		t.Helper()
		r, id, err := ask(host, canister)
		if err != nil || r.status != http.StatusOK {
			t.Fatalf("honest answer: %d, %v", r.status, err)
		}
		if cause, _ := judge(authority, attack.Endpoint, r.body, canister, principalOf(gateway), 0, id, n.Now()); cause != "" {
			t.Fatalf("honest answer: %s", cause)
		}
	}
	for _, c := range []verify.Principal{target, honest} {
		for i := range 2 { // two messages in each queue
			ws(t, n, newIdentity(t), c, "ws_open", verify.AppendOpenArg(nil, uint64(i), principalOf(gateway)))
		}
	}
	good("http://a", target)

	m := attack.Mount(n, target, "http://a")
	r, id, err := ask("http://a", target)
	if m.Count() != 1 {
		t.Fatalf("%d answers changed", m.Count())
	}
	if len(attack.Causes) > 0 {
		if err != nil || r.status != http.StatusOK {
			t.Fatalf("%d, %v", r.status, err)
		}
		cause, poison := judge(authority, attack.Endpoint, r.body, target, principalOf(gateway), 0, id, n.Now())
		if !slices.Contains(attack.Causes, cause) || poison != attack.Poison {
			t.Errorf("cause %q (poison: %v), want one of %q", cause, poison, attack.Causes)
		}
	} else if err != nil && !errors.Is(err, errReset) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if attack.Endpoint != "status" {
		good("http://a", honest)
	}
	good("http://b", target)
	m.Stop()
	m.Stop()
	good("http://a", target)
}

// Attacks without a target of their own leave networks without delegation and
// canisters of other kinds alone.
func TestAttacksOutOfPlace(t *testing.T) {
	n := newNetwork(t, Options{NoDelegation: true})
	who := newIdentity(t)
	cdk := n.Install(NewCDK(CDKOptions{}))
	other := n.Install(&orders{})
	for _, attack := range Attacks() {
		m := attack.Mount(n, cdk)
		if attack.Delegated {
			poll(t, n, who, cdk, 0)
			call(t, n, who, cdk, "ws_open", verify.AppendOpenArg(nil, 1, canisterID(1)))
			if m.Count() != 0 {
				t.Errorf("%s: %d answers changed", attack.Name, m.Count())
			}
		}
		m.Stop()
		if attack.page != nil {
			m := attack.Mount(n, other)
			c := content(n, who, "query", other, "ws_get_messages", verify.AppendPollArg(nil, 0))
			post(t, n, canisterPath("v2", other, "query"), envelope(t, c, who, nil))
			if m.Count() != 0 {
				t.Errorf("%s: changed the answer of another kind of canister", attack.Name)
			}
			m.Stop()
		}
	}
}

// Attacks combine, and the page lies still apply to what the one before made.
func TestAttacksCombine(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, Options{})
	id := n.Install(NewCDK(CDKOptions{}))
	gateway := newIdentity(t)
	ws(t, n, newIdentity(t), id, "ws_open", verify.AppendOpenArg(nil, 1, principalOf(gateway)))
	for _, first := range Attacks() {
		if first.page == nil {
			continue
		}
		a := first.Mount(n, id)
		for _, name := range []string{"nonce skipped", "sequence number skipped", "keys of another gateway", "witness 32 forks deep"} {
			second, _ := AttackNamed(name)
			b := second.Mount(n, id)
			c := content(n, gateway, "query", id, "ws_get_messages", verify.AppendPollArg(nil, 0))
			if r := post(t, n, canisterPath("v2", id, "query"), envelope(t, c, gateway, nil)); r.status != http.StatusOK || a.Count() == 0 || b.Count() != 1 {
				t.Errorf("%s, then %s: %d", first.Name, name, r.status)
			}
			b.Stop()
		}
		a.Stop()
	}
}
