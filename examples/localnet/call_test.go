package localnet

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/icws-gateway/caddy-icws/verify"
)

// The life of a slow call: 202 after the wait, 202 for a duplicate at once, a
// certificate that says received for a later one, the outcome in the end.
func TestSyncCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := New(Options{Latency: 20 * time.Second, Block: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		id := n.Install(NewCDK(CDKOptions{}))
		who := newIdentity(t)
		c := content(n, who, "call", id, "ws_open", verify.AppendOpenArg(nil, 1, canisterID(1)))
		body, path := envelope(t, c, who, nil), canisterPath("v4", id, "call")
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			if r := post(t, n, path, body); r.status != http.StatusAccepted || len(r.body) == 0 {
				t.Errorf("after the wait: %d %q", r.status, r.body)
			}
			if took := time.Since(start); took != 10*time.Second {
				t.Errorf("waited %s", took)
			}
		})
		time.Sleep(100 * time.Millisecond)
		if r := post(t, n, path, body); r.status != http.StatusAccepted {
			t.Errorf("duplicate at once: %d", r.status)
		}
		wg.Wait()
		status, _ := outcome(t, n, post(t, n, path, body).decode(t).Certificate, id, requestID(t, c))
		if status != "received" {
			t.Errorf("after 10 s: %s", status)
		}
		time.Sleep(15 * time.Second)
		if status, _ = outcome(t, n, post(t, n, path, body).decode(t).Certificate, id, requestID(t, c)); status != "replied" {
			t.Errorf("after 25 s: %s", status)
		}
		if got := len(n.hosts[0].slots[id].canister.(*CDK).Clients()); got != 1 {
			t.Errorf("%d clients", got)
		}
		// Long after its expiry nothing of it is left.
		time.Sleep(10 * time.Minute)
		n.hosts[0].mu.Lock()
		n.hosts[0].currentLocked()
		n.hosts[0].dirty = true
		n.hosts[0].currentLocked()
		left := len(n.hosts[0].requests)
		n.hosts[0].mu.Unlock()
		if left != 0 {
			t.Errorf("%d requests remembered", left)
		}
	})
}

// Cancelling a request ends the wait, not the call.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := New(Options{Latency: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		cdk := NewCDK(CDKOptions{})
		id := n.Install(cdk)
		who := newIdentity(t)
		body := envelope(t, content(n, who, "call", id, "ws_open", verify.AppendOpenArg(nil, 1, canisterID(1))), who, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://x"+canisterPath("v4", id, "call"), strings.NewReader(string(body)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/cbor")
		if _, err := n.RoundTripper().RoundTrip(req); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		time.Sleep(5 * time.Second)
		if len(cdk.Clients()) != 1 {
			t.Error("the call was lost")
		}
	})
}

// Updates in flight together run in an order that is not that of submission: a
// gateway that does not wait for outcomes loses its sessions here.
func TestConcurrentUpdatesAreShuffled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := New(Options{Latency: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		var order orders
		id := n.Install(&order)
		who := newIdentity(t)
		for i := range 20 {
			body := envelope(t, content(n, who, "call", id, "m", []byte{byte(i)}), who, nil)
			if r := post(t, n, canisterPath("v2", id, "call"), body); r.status != http.StatusAccepted {
				t.Error(r.status)
			}
		}
		time.Sleep(2 * time.Second)
		if got := order.order(); len(got) != 20 || slices.IsSorted(got) {
			t.Errorf("order %v", got)
		}
	})
}

// orders notes the order of its updates.
type orders struct {
	mu  sync.Mutex
	got []byte
}

func (o *orders) Init(*Env) error { return nil }

func (o *orders) Update(_ *Env, _ string, arg []byte) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.got = append(o.got, arg[0])
	return nil, nil
}

func (o *orders) Query(*Env, string, []byte) ([]byte, error) { return o.order(), nil }

func (o *orders) order() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.got)
}

// States of a canister that refuse messages, at calls, queries and in the
// middle of a call.
func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name  string
		apply func(*Network, verify.Principal) error
		code  uint64
		err   string
	}{
		{"stopping", (*Network).Stopping, 5, "IC0509"},
		{"stopped", (*Network).Stop, 5, "IC0508"},
		{"out of cycles", func(n *Network, id verify.Principal) error { return n.OutOfCycles(id, true) }, 2, "IC0207"},
		{"no module", (*Network).Uninstall, 5, "IC0537"},
		{"deleted", (*Network).Delete, 3, "IC0301"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNetwork(t, Options{})
			id := n.Install(NewCDK(CDKOptions{}))
			who := newIdentity(t)
			ask := func(kind, version, method string, arg []byte) response {
				return post(t, n, canisterPath(version, id, kind), envelope(t, content(n, who, kind, id, method, arg), who, nil))
			}
			open := verify.AppendOpenArg(nil, 1, canisterID(1))
			if r := ask("call", "v4", "ws_open", open).decode(t); r.Status != "replied" {
				t.Fatalf("before: %+v", r)
			}
			if err := tt.apply(n, id); err != nil {
				t.Fatal(err)
			}
			for _, version := range []string{"v2", "v3", "v4"} {
				r := ask("call", version, "ws_message", []byte(version)).decode(t)
				if r.RejectCode != tt.code || r.ErrorCode != tt.err || r.RejectMessage == "" || version != "v2" && r.Status != "non_replicated_rejection" {
					t.Errorf("call %s: %+v", version, r)
				}
			}
			r := ask("query", "v2", "ws_get_messages", verify.AppendPollArg(nil, 0)).decode(t)
			if r.Status != "rejected" || r.RejectCode != tt.code || r.ErrorCode != tt.err {
				t.Errorf("query: %+v", r)
			}
		})
	}
	t.Run("in no subnet", func(t *testing.T) {
		n := newNetwork(t, Options{})
		who := newIdentity(t)
		id := canisterID(0x7000000000000000)
		for _, kind := range []string{"call", "query"} {
			r := post(t, n, canisterPath("v2", id, kind), envelope(t, content(n, who, kind, id, "m", nil), who, nil))
			if r.status != http.StatusBadRequest || !strings.HasPrefix(string(r.body), "error: canister_not_found\n") {
				t.Errorf("%s: %d %s", kind, r.status, r.body)
			}
		}
	})
	t.Run("in the middle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t, Options{Latency: 50 * time.Millisecond})
			id := n.Install(NewCDK(CDKOptions{}))
			who := newIdentity(t)
			c := content(n, who, "call", id, "ws_open", verify.AppendOpenArg(nil, 1, canisterID(1)))
			body := envelope(t, c, who, nil)
			var wg sync.WaitGroup
			wg.Go(func() {
				cert := parseCertificate(t, post(t, n, canisterPath("v4", id, "call"), body).decode(t).Certificate)
				h := requestID(t, c)
				code, err := cert.Tree.Lookup(label("request_status"), h[:], label("error_code"))
				if err != nil || string(code) != "IC0508" {
					t.Errorf("%s, %v", code, err)
				}
			})
			synctest.Wait() // it has been accepted, and waits for its outcome
			if err := n.Stop(id); err != nil {
				t.Error(err)
			}
			wg.Wait()
			if err := n.StartCanister(id); err != nil {
				t.Error(err)
			}
			call(t, n, who, id, "ws_open", verify.AppendOpenArg(nil, 2, canisterID(1)))
		})
	})
	t.Run("no such method", func(t *testing.T) {
		n := newNetwork(t, Options{})
		id := n.Install(NewCDK(CDKOptions{}))
		who := newIdentity(t)
		c := content(n, who, "call", id, "nothing", nil)
		cert := post(t, n, canisterPath("v4", id, "call"), envelope(t, c, who, nil)).decode(t).Certificate
		h := requestID(t, c)
		for field, want := range map[string]string{"status": "rejected", "error_code": "IC0536", "reject_code": "\x05"} {
			got, err := parseCertificate(t, cert).Tree.Lookup(label("request_status"), h[:], label(field))
			if err != nil || string(got) != want {
				t.Errorf("%s is %q, %v", field, got, err)
			}
		}
	})
}

func TestUpgradeForgets(t *testing.T) {
	d := newDesk(t, CDKOptions{})
	who := newIdentity(t)
	d.wantText(d.open(who, 1), "")
	d.wantText(d.send(who, 1, 1, false, []byte("x")), "")
	if err := d.net.Upgrade(d.canister); err != nil {
		t.Fatal(err)
	}
	d.wantText(d.send(who, 1, 2, false, []byte("x")), "Client with principal "+principalOf(who).String()+" doesn't have an open connection")
	if r := d.poll(0); len(r.Messages) != 0 {
		t.Fatal("messages survived")
	}
	d.wantText(d.open(who, 2), "")
	d.proven(d.poll(0), 0)
	if err := d.net.Uninstall(d.canister); err != nil {
		t.Fatal(err)
	}
	if err := d.net.Upgrade(d.canister); err == nil {
		t.Error("upgraded nothing")
	}
	d.cdk = NewCDK(CDKOptions{Motoko: true})
	if err := d.net.Reinstall(d.canister, d.cdk); err != nil {
		t.Fatal(err)
	}
	d.wantText(d.open(who, 3), "")
	d.proven(d.poll(0), 0)
}

// State roots are signed once, and anew only when something changed or the
// certified time has grown old.
func TestRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		id := n.Install(NewCDK(CDKOptions{}))
		gateway := newIdentity(t)
		ws(t, n, newIdentity(t), id, "ws_open", verify.AppendOpenArg(nil, 1, principalOf(gateway)))
		first := poll(t, n, gateway, id, 0).Cert
		time.Sleep(400 * time.Millisecond)
		if string(poll(t, n, gateway, id, 0).Cert) != string(first) {
			t.Error("a new round without cause")
		}
		time.Sleep(200 * time.Millisecond)
		if string(poll(t, n, gateway, id, 0).Cert) == string(first) {
			t.Error("the certified time does not advance")
		}
	})
}

func TestStatus(t *testing.T) {
	n := newNetwork(t, Options{})
	resp, err := (&http.Client{Transport: n.RoundTripper()}).Get("http://x/api/v2/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var status struct {
		RootKey []byte `cbor:"root_key"`
	}
	if err := cbor.NewDecoder(resp.Body).Decode(&status); err != nil || string(status.RootKey) != string(n.RootKey()) {
		t.Errorf("%x, %v", status.RootKey, err)
	}
	same, other := newNetwork(t, Options{}), newNetwork(t, Options{Seed: 1})
	if string(same.RootKey()) != string(n.RootKey()) || string(other.RootKey()) == string(n.RootKey()) {
		t.Error("the seed does not decide the root key")
	}
}

func TestLargeReplies(t *testing.T) {
	d := newDesk(t, CDKOptions{})
	who := newIdentity(t)
	d.wantText(d.open(who, 1), "")
	d.cdk.Do(func(ctx *AppContext) {
		for range 4 {
			if err := ctx.Send(principalOf(who), make([]byte, 900<<10)); err != nil {
				t.Error(err)
			}
		}
	})
	c := content(d.net, d.gateway, "query", d.canister, "ws_get_messages", verify.AppendPollArg(nil, 0))
	r := post(t, d.net, canisterPath("v2", d.canister, "query"), envelope(t, c, d.gateway, nil)).decode(t)
	if r.Status != "rejected" || r.RejectCode != CanisterError || r.ErrorCode != "IC0504" {
		t.Errorf("%+v", r)
	}
	if r := d.poll(2); len(r.Messages) != 3 {
		t.Errorf("%d messages", len(r.Messages))
	}
	big := envelope(t, content(d.net, who, "call", d.canister, "ws_message", make([]byte, 2<<20)), who, nil)
	if r := post(t, d.net, canisterPath("v4", d.canister, "call"), big); r.status != http.StatusRequestEntityTooLarge {
		t.Errorf("2 MiB: %d", r.status)
	}
	if r := post(t, d.net, canisterPath("v4", d.canister, "call"), make([]byte, 6<<20)); r.status != http.StatusRequestEntityTooLarge || !strings.HasPrefix(string(r.body), "error: payload_too_large\n") {
		t.Errorf("6 MiB: %d", r.status)
	}
}

func ExampleNetwork() {
	n, err := New(Options{})
	if err != nil {
		panic(err)
	}
	defer n.Close()
	id := n.Install(NewCDK(CDKOptions{App: PingPong{}}))
	client := &http.Client{Transport: n.RoundTripper()} // or n.Start("127.0.0.1:0") for real HTTP
	resp, err := client.Get("http://any.host/api/v2/status")
	if err != nil {
		panic(err)
	}
	resp.Body.Close()
	fmt.Println(id, resp.StatusCode)
	// Output: bkyz2-fmaaa-aaaaa-qaaaq-cai 200
}
