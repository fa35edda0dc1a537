package localnet

import (
	"bytes"
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

	"github.com/aviate-labs/agent-go/certification"
	"github.com/aviate-labs/agent-go/certification/hashtree"
	"github.com/aviate-labs/agent-go/identity"
	"github.com/aviate-labs/agent-go/leb128"
	"github.com/fxamacker/cbor/v2"

	"github.com/icws-gateway/caddy-icws/verify"
)

// layouts tells which layouts of canister ranges a certificate carries, by
// agent-go.
func layouts(t testing.TB, cert []byte) string {
	t.Helper()
	c := parseCertificate(t, cert)
	if c.Delegation == nil {
		return "none"
	}
	var out []string
	d := c.Delegation
	if _, err := d.Certificate.Tree.Lookup(label("subnet"), d.SubnetId.Raw, label("canister_ranges")); err == nil {
		out = append(out, "flat")
	}
	if _, err := d.Certificate.Tree.LookupSubTree(label("canister_ranges"), d.SubnetId.Raw); err == nil {
		out = append(out, "sharded")
	}
	return strings.Join(out, " ")
}

// The endpoint decides the layout of the ranges, as on mainnet.
func TestLayouts(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    Options
		want map[string]string
	}{
		{"delegation", Options{}, map[string]string{
			"v3 call": "flat", "v4 call": "sharded", "v2 query": "flat", "v3 query": "sharded", "v2 read_state": "flat", "v3 read_state": "sharded"}},
		{"sharded only", Options{ShardedOnly: true}, map[string]string{
			"v3 call": "flat", "v4 call": "sharded", "v2 query": "sharded", "v3 query": "sharded", "v2 read_state": "flat", "v3 read_state": "sharded"}},
		{"no delegation", Options{NoDelegation: true}, map[string]string{
			"v3 call": "none", "v4 call": "none", "v2 query": "none", "v3 query": "none", "v2 read_state": "none", "v3 read_state": "none"}},
		{"v2 only", Options{V2Only: true}, map[string]string{
			"v3 call": "404", "v4 call": "404", "v2 query": "flat", "v3 query": "404", "v2 read_state": "flat", "v3 read_state": "404"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNetwork(t, tt.o)
			id := n.Install(NewCDK(CDKOptions{}))
			client, gateway := newIdentity(t), newIdentity(t)
			for _, endpoint := range []string{"v3 call", "v4 call"} {
				version, _, _ := strings.Cut(endpoint, " ")
				c := content(n, client, "call", id, "ws_open", verify.AppendOpenArg(nil, uint64(version[1]), principalOf(gateway)))
				r := post(t, n, canisterPath(version, id, "call"), envelope(t, c, client, nil))
				if tt.want[endpoint] == "404" {
					if r.status != 404 {
						t.Errorf("%s: %d", endpoint, r.status)
					}
					// What the network still offers accepts it without an outcome.
					if r := post(t, n, canisterPath("v2", id, "call"), envelope(t, c, client, nil)); r.status != 202 {
						t.Errorf("v2 call: %d %s", r.status, r.body)
					}
					continue
				}
				cert := r.decode(t).Certificate
				outcome(t, n, cert, id, requestID(t, c))
				if got := layouts(t, cert); got != tt.want[endpoint] {
					t.Errorf("%s: %s", endpoint, got)
				}
			}
			for _, endpoint := range []string{"v2 query", "v3 query", "v2 read_state", "v3 read_state"} {
				version, kind, _ := strings.Cut(endpoint, " ")
				c := content(n, gateway, "query", id, "ws_get_messages", verify.AppendPollArg(nil, 0))
				if kind == "read_state" {
					c = readStateContent(n, gateway, [][]byte{[]byte("time")})
				}
				r := post(t, n, canisterPath(version, id, kind), envelope(t, c, gateway, nil))
				if tt.want[endpoint] == "404" {
					if r.status != 404 {
						t.Errorf("%s: %d", endpoint, r.status)
					}
					continue
				}
				answer := r.decode(t)
				cert := answer.Certificate
				if kind == "query" {
					var page verify.Reply
					if err := page.Decode(answer.Reply.Arg); err != nil {
						t.Fatal(err)
					}
					cert = page.Cert
				}
				if err := certification.VerifyCertificate(parseCertificate(t, cert), raw(id), n.RootKey()); err != nil {
					t.Errorf("%s: %v", endpoint, err)
				}
				if got := layouts(t, cert); got != tt.want[endpoint] {
					t.Errorf("%s: %s", endpoint, got)
				}
			}
		})
	}
}

// A delegation does not stretch to canisters of another subnet.
func TestRangesBindTheSubnet(t *testing.T) {
	n := newNetwork(t, Options{})
	here := n.Install(NewCDK(CDKOptions{}))
	there := n.Install(NewCDK(CDKOptions{}), OnSubnet(1))
	if n.subnetOf(here) == n.subnetOf(there) {
		t.Fatal("one subnet")
	}
	for _, version := range []string{"v2", "v3"} {
		c := readStateContent(n, nil, [][]byte{[]byte("time")})
		cert := parseCertificate(t, post(t, n, canisterPath(version, here, "read_state"), envelope(t, c, nil, nil)).decode(t).Certificate)
		if err := certification.VerifyCertificate(cert, raw(here), n.RootKey()); err != nil {
			t.Error(err)
		}
		if err := certification.VerifyCertificate(cert, raw(there), n.RootKey()); err == nil {
			t.Errorf("%s: the certificate of one subnet passes for a canister of the other", version)
		}
	}
}

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
			if r.status != http.StatusBadRequest || r.header.Get("x-ic-error-cause") != "canister_not_found" {
				t.Errorf("%s: %d %v", kind, r.status, r.header)
			}
		}
	})
	t.Run("in the middle", func(t *testing.T) {
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
		for n.served.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		if err := n.Stop(id); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if err := n.StartCanister(id); err != nil {
			t.Error(err)
		}
		call(t, n, who, id, "ws_open", verify.AppendOpenArg(nil, 2, canisterID(1)))
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

func TestReadState(t *testing.T) {
	n := newNetwork(t, Options{Nodes: 3, Latency: time.Millisecond})
	id := n.Install(NewCDK(CDKOptions{}))
	who, other := newIdentity(t), newIdentity(t)
	c := content(n, who, "call", id, "ws_open", verify.AppendOpenArg(nil, 1, canisterID(1)))
	h := requestID(t, c)
	post(t, n, canisterPath("v4", id, "call"), envelope(t, c, who, nil))
	read := func(by identity.Identity, paths ...[][]byte) response {
		return post(t, n, canisterPath("v3", id, "read_state"), envelope(t, readStateContent(n, by, paths...), by, nil))
	}
	path := func(labels ...string) [][]byte {
		var out [][]byte
		for _, l := range labels {
			out = append(out, []byte(l))
		}
		return out
	}
	status := path("request_status", string(h[:]))
	for _, tt := range []struct {
		name string
		by   identity.Identity
		path [][]byte
		want int
	}{
		{"time", other, path("time"), 200},
		{"time and more", other, path("time", "x"), 404},
		{"nothing", other, path(), 404},
		{"own request", who, status, 200},
		{"another's request", other, status, 403},
		{"nobody's request", other, path("request_status", strings.Repeat("x", 32)), 200},
		{"short request id", other, path("request_status", "x"), 400},
		{"all requests", who, path("request_status"), 404},
		{"own outcome", who, append(status[:2:2], []byte("status")), 200},
		{"own outcome in a part that is none", who, append(status[:2:2], []byte("secrets")), 404},
		{"own outcome too deep", who, append(status[:2:2], []byte("status"), []byte("x")), 404},
		{"subnet", other, path("subnet"), 200},
		{"subnet, empty label", other, path("subnet", ""), 200},
		{"type of a subnet", other, path("subnet", "x", "type"), 200},
		{"type of a subnet too deep", other, path("subnet", "x", "type", "x"), 404},
		{"nodes", other, path("subnet", "x", "node"), 200},
		{"key of a node", other, path("subnet", "x", "node", "x", "public_key"), 200},
		{"another thing of a node", other, path("subnet", "x", "node", "x", "secrets"), 404},
		{"something else of a subnet", other, path("subnet", "x", "secrets"), 404},
		{"flat ranges", other, path("subnet", "x", "canister_ranges"), 404},
		{"flat ranges of the root subnet", other, path("subnet", string(n.root.id.Bytes()), "canister_ranges"), 200},
		{"ranges", other, path("canister_ranges"), 404},
		{"ranges of a subnet", other, path("canister_ranges", "x"), 404},
		{"controllers", other, path("canister", string(id.Bytes()), "controllers"), 200},
		{"metadata", other, path("canister", string(id.Bytes()), "metadata", "candid:service"), 200},
		{"all metadata", other, path("canister", string(id.Bytes()), "metadata"), 404},
		{"module hash", other, path("canister", string(id.Bytes()), "module_hash"), 200},
		{"certified data", other, path("canister", string(id.Bytes()), "certified_data"), 404},
		{"another canister", other, path("canister", "x", "module_hash"), 400},
		{"unknown", other, path("secrets"), 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := read(tt.by, tt.path)
			if r.status != tt.want {
				t.Fatalf("%d %s, want %d", r.status, r.body, tt.want)
			}
			if r.status != 200 {
				return
			}
			cert := parseCertificate(t, r.decode(t).Certificate)
			if err := certification.VerifyCertificate(cert, raw(id), n.RootKey()); err != nil {
				t.Fatal(err)
			}
			stamp, err := cert.Tree.Lookup(label("time"))
			if err != nil {
				t.Fatal(err)
			}
			ns, err := leb128.DecodeUnsigned(bytes.NewReader(stamp))
			if err != nil || n.Now().Sub(time.Unix(0, ns.Int64())) > time.Second {
				t.Errorf("time %v, %v", ns, err)
			}
			if tt.name == "nobody's request" {
				var le hashtree.LookupError
				if _, err := cert.Tree.Lookup(label("request_status"), hashtree.Label(tt.path[1]), label("status")); !errors.As(err, &le) || le.Type != hashtree.LookupResultAbsent {
					t.Errorf("absence: %v", err)
				}
			}
			if tt.name == "subnet" {
				for _, node := range n.hosts[0].nodes {
					if _, err := cert.Tree.Lookup(label("subnet"), cert.Delegation.SubnetId.Raw, label("node"), node.id.Bytes(), label("public_key")); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	// By agent-go: the subnets of the network and the metadata it asks for.
	a := newAgent(t, n, who)
	if _, err := a.GetTime(raw(id)); err != nil {
		t.Error(err)
	}
	if _, err := a.GetCanisterModuleHash(raw(id)); err != nil {
		t.Error(err)
	}
	// Two requests in one question, and what only other endpoints tell.
	x := path("request_status", strings.Repeat("x", 32))
	if r := read(who, status, x); r.status != 400 {
		t.Errorf("two requests: %d %s", r.status, r.body)
	}
	s := raw(n.hosts[0].id)
	for _, tt := range []struct {
		path   string
		labels [][]byte
		want   int
	}{
		{canisterPath("v2", id, "read_state"), path("subnet", "x", "canister_ranges"), 200},
		{"/api/v3/subnet/" + s.Encode() + "/read_state", path("canister_ranges", string(s.Raw)), 200},
		{"/api/v3/subnet/" + s.Encode() + "/read_state", path("canister_ranges"), 404},
		{"/api/v3/subnet/" + s.Encode() + "/read_state", path("canister", string(id.Bytes()), "module_hash"), 404},
		{"/api/v3/subnet/" + s.Encode() + "/read_state", status, 404},
	} {
		if r := post(t, n, tt.path, envelope(t, readStateContent(n, who, tt.labels), who, nil)); r.status != tt.want {
			t.Errorf("%s %q: %d %s, want %d", tt.path, tt.labels, r.status, r.body, tt.want)
		}
	}
	r := post(t, n, "/api/v2/subnet/"+s.Encode()+"/read_state", envelope(t, readStateContent(n, nil, [][]byte{[]byte("subnet")}), nil, nil))
	if err := certification.VerifySubnetCertificate(parseCertificate(t, r.decode(t).Certificate), s, n.RootKey()); err != nil {
		t.Error(err)
	}
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
	if r := post(t, d.net, canisterPath("v4", d.canister, "call"), make([]byte, 6<<20)); r.status != http.StatusRequestEntityTooLarge || r.header.Get("x-ic-error-cause") != "payload_too_large" {
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

// A delegation that is for some canisters reads the requests to these alone.
func TestReadStateTargets(t *testing.T) {
	n := newNetwork(t, Options{})
	here, elsewhere := n.Install(NewCDK(CDKOptions{})), n.Install(NewCDK(CDKOptions{}))
	root, session := newIdentity(t), newIdentity(t)
	delegate := func(targets ...verify.Principal) verify.SignedDelegation {
		d := map[string]any{"pubkey": session.PublicKey(), "expiration": uint64(n.Now().Add(time.Hour).UnixNano())}
		var list []any
		for _, p := range targets {
			list = append(list, p.Bytes())
		}
		if list != nil {
			d["targets"] = list
		}
		h := requestID(t, d)
		sig, err := root.Sign(append([]byte("\x1aic-request-auth-delegation"), h[:]...))
		if err != nil {
			t.Fatal(err)
		}
		return verify.SignedDelegation{PublicKey: session.PublicKey(), Expiration: time.Unix(0, int64(d["expiration"].(uint64))), Targets: targets, Signature: sig}
	}
	send := func(r verify.Request, d verify.SignedDelegation, endpoint string) (response, [32]byte) {
		r.IngressExpiry, r.Delegations, r.RootKey = n.Now().Add(time.Minute), []verify.SignedDelegation{d}, root.PublicKey()
		body, id, err := r.Sign(session)
		if err != nil {
			t.Fatal(err)
		}
		return post(t, n, canisterPath("v3", here, endpoint), body), id
	}
	r, id := send(verify.Request{Type: verify.RequestCall, Canister: here, Method: "ws_open", Arg: verify.AppendOpenArg(nil, 1, canisterID(1))}, delegate(here), "call")
	if r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	for name, tt := range map[string]struct {
		d    verify.SignedDelegation
		want int
	}{
		"all":              {delegate(), 200},
		"this one":         {delegate(here), 200},
		"this and another": {delegate(elsewhere, here), 200},
		"another":          {delegate(elsewhere), 403},
	} {
		r, _ := send(verify.Request{Type: "read_state", Canister: here, Paths: [][][]byte{{[]byte("request_status"), id[:]}}}, tt.d, "read_state")
		if r.status != tt.want {
			t.Errorf("%s: %d %s, want %d", name, r.status, r.body, tt.want)
		}
	}
}
