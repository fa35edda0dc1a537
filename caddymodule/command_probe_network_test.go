package caddymodule

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/verify"
)

// TestProbeNetwork looks at what a probe says about the network itself, good and bad.
func TestProbeNetwork(t *testing.T) {
	t.Parallel()
	w, port := newWorld(t, 1), freeport.ForTest(t)
	poc := w.net.Install(bare{"candid:service": []byte("service : { ws_register : (blob) -> (); ws_open : (blob) -> () }")})
	stub := w.net.Install(bare{"candid:service": []byte("service : { ws_open : F; ws_close : F; ws_message : F }")})
	split := w.net.Install(bare{"candid:service": []byte(`import service "a.did"; service : {}`)})
	mute := w.net.Install(bare{})
	caddy := runCaddy(t, "", w.site(port, 0, fmt.Sprintf("canister %s %s %s %s", poc, stub, split, mute)))
	url := fmt.Sprintf("ws://127.0.0.1:%d/ws", port)
	good := w.canisters[0].String()
	// Faults must not hit the gateway, or there is no session.
	gateway := func() string {
		v, err := fetchView(t.Context(), strings.TrimPrefix(caddy.admin, "http://"))
		if err != nil || len(v.Gateways) != 1 {
			t.Fatal(v, err)
		}
		return v.Gateways[0].Principal.String()
	}()
	var reads atomic.Int64
	on := func(endpoint, version string, f localnet.Fault) localnet.Faults {
		return func(r *localnet.Request) localnet.Fault {
			if r.Sender.String() == gateway || r.Endpoint != endpoint || version != "" && r.Version != version {
				return localnet.Fault{}
			}
			return f
		}
	}
	for _, test := range []probeTest{
		{"definite", good, on("query", "", localnet.Fault{Edit: inForm(0xa3)}), []string{
			"ok    query        v2 of 127.0.0.1", "map of definite length, replied",
			"ok    state        read_state of the time", "old, flat ranges, signed by subnet", "delegated by the root key",
			"ok    node", "one of 1, signed", "ok    interface    candid:service has ws_open, ws_message, ws_close, ws_get_messages", "ok    session"}, ""},
		{"indefinite", good, on("query", "", localnet.Fault{Edit: inForm(0xbf)}), []string{"map of indefinite length, replied", "ok    node", "ok    session"}, ""},
		{"newer endpoints", good, func(r *localnet.Request) localnet.Fault {
			if r.Sender.String() != gateway && r.Version == "v2" && r.Endpoint != "status" {
				return localnet.Fault{Status: 410}
			}
			return localnet.Fault{}
		}, []string{"ok    query        v3 of", "v3 of 127.0.0.1", "sharded ranges, which SDKs up to 0.5.0 do NOT read", "ok    node", "ok    session"}, ""},
		{"another node", good, on("query", "", localnet.Fault{Edit: spoil}), []string{"FAIL  node         the answer to the query is not proven", "does not verify"}, ""},
		{"unreadable", good, on("query", "", localnet.Fault{Edit: func([]byte) []byte { return []byte("\xd9\xd9\xf7\x80") }}), []string{"FAIL  query        v2 of", "no map", "reading query answer", "ok    state"}, ""},
		{"no Candid", good, on("query", "", localnet.Fault{Edit: func([]byte) []byte {
			return []byte("\xa2\x66status\x67replied\x65reply\xa1\x63arg\x44DIDL")
		}}), []string{"FAIL  query", "not an answer of the IC WebSocket CDK"}, ""},
		{"refused", good, on("query", "", localnet.Fault{Status: 429, Body: []byte("error: load_shed\ndetails: slow down\n")}), []string{"FAIL  query        refused by v2 of 127.0.0.1", "HTTP 429: error: load_shed details: slow down", "ok    state"}, ""},
		{"dropped", good, on("query", "", localnet.Fault{Drop: true}), []string{"note  query        no answer here, the gateway may get one", "ok    session"}, ""},
		{"no state", good, on("read_state", "", localnet.Fault{Status: 503}), []string{"FAIL  state        the certified state cannot be read", "note  interface    not checked", "ok    session"}, ""},
		{"private", good, func(r *localnet.Request) localnet.Fault {
			if r.Endpoint == "read_state" && r.Sender.String() != gateway && reads.Add(1) == 2 {
				return localnet.Fault{Status: 403, Body: []byte("Custom section candid:service can only be requested by the controllers of the canister.")}
			}
			return localnet.Fault{}
		}, []string{"ok    state", "note  interface    not checked: candid:service is private", "ok    session"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.net.SetFaults(test.faults)
			defer w.net.SetFaults(nil)
			test.run(t, w, url, caddy.admin)
		})
	}
	// Canisters that are none of ours, side by side: the gateway looks for a while before it gives one up.
	for _, test := range []probeTest{
		{"proof of concept", poc.String(), nil, []string{"FAIL  query", "IC0536", "note  interface    the canister has ws_register"}, "move to CDK 0.3.1 or newer"},
		{"stub", stub.String(), nil, []string{"note  interface    the canister's interface lacks ws_get_messages"}, "lacks ws_get_messages: it needs the four methods"},
		{"imports", split.String(), nil, []string{"note  interface    not checked: candid:service refers to other files"}, "closed by the other side"},
		{"mute", mute.String(), nil, []string{"note  interface    not checked: the canister publishes no candid:service"}, "closed by the other side"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, w, url, caddy.admin)
		})
	}
}

// probeTest is what a probe of a canister says.
type probeTest struct {
	name, canister string
	faults         localnet.Faults
	want           []string
	fails          string // the error, if there is no session
}

func (test probeTest) run(t *testing.T, w *world, url, admin string) {
	t.Helper()
	out := new(report)
	err := w.probe(t, t.Context(), out, url, test.canister, admin)
	if (err == nil) != (test.fails == "") || err != nil && !strings.Contains(err.Error(), test.fails) {
		t.Errorf("%v, want %q", err, test.fails)
	}
	for _, want := range test.want {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

// spoil changes the node's signature of an answer.
func spoil(body []byte) []byte {
	name := []byte("signature\x58\x40")
	at := bytes.Index(body, name) + len(name)
	body = bytes.Clone(body)
	body[at] ^= 1
	return body
}

// inForm writes the outer map of an answer with the given head, 0xa3 or 0xbf.
func inForm(head byte) func([]byte) []byte {
	return func(body []byte) []byte {
		body = bytes.Clone(body)
		if body[3] == 0xbf {
			body = body[:len(body)-1]
		}
		if body[3] = head; head == 0xbf {
			body = append(body, 0xff)
		}
		return body
	}
}

// The root key comes from the first host that gives one.
func TestProbeRootKeyOfAnyHost(t *testing.T) {
	t.Parallel()
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	defer down.Close()
	w := newWorld(t, 0)
	out := new(report)
	p := &prober{out: out, networks: []string{down.URL, w.url}, timeout: hung}
	n, err := p.resolveNetwork(t.Context())
	if err != nil || !bytes.Equal(n.rootKey, w.net.RootKey()) {
		t.Errorf("with one host down: %v", err)
	}
	if text := out.String(); !strings.Contains(text, "HTTP status 503, asking the next host") || !strings.Contains(text, "of "+w.url) {
		t.Errorf("said:\n%s", text)
	}
	p.networks = []string{down.URL}
	if _, err := p.resolveNetwork(t.Context()); err == nil || !strings.Contains(err.Error(), "is "+down.URL+" a replica or boundary node?") {
		t.Errorf("with all hosts down: %v", err)
	}
}

// TestMapForm tells the forms of recorded answers apart: replicas write queries without a length and all else with one.
func TestMapForm(t *testing.T) {
	for pattern, want := range map[string]string{
		"derived-query-*.bin":      "map of indefinite length",
		"derived-call-*.bin":       "map of definite length",
		"derived-status-*.bin":     "map of definite length",
		"derived-read-state*.bin":  "map of definite length",
		"derived-node-key.der":     "no map",
		"derived-replica-202*.txt": "no map",
	} {
		files, err := filepath.Glob(filepath.Join("../verify/testdata/recorded", pattern))
		if err != nil || len(files) == 0 {
			t.Errorf("no %s: %v", pattern, err)
		}
		for _, file := range files {
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got := mapForm(body); got != want {
				t.Errorf("%s: %s, want %s", file, got, want)
			}
		}
	}
	if got := mapForm(nil); got != "no map" {
		t.Errorf("nothing: %s", got)
	}
}

// TestProbeOutcome reads what became of a ws_open, by the key that signed it.
func TestProbeOutcome(t *testing.T) {
	w := newWorld(t, 1)
	refusing := w.net.Install(localnet.NewCDK(localnet.CDKOptions{Gateways: []verify.Principal{verify.Anonymous}}))
	mute := w.net.Install(bare{})
	id, err := loadIdentityFile(writeKey(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := resolveNetwork([]string{w.url}, hex.EncodeToString(w.net.RootKey()))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		canister verify.Principal
		sent     bool
		want     string
	}{
		{w.canisters[0], true, "the canister accepted it"},
		{w.canisters[0], false, "the network does not know it"},
		{refusing, true, "the canister refused it"},
		{mute, true, "rejected with code 5 IC0536"},
	} {
		a := &asker{hosts: n.hosts, authority: w.authority, canister: test.canister, id: id}
		r := verify.Request{Type: verify.RequestCall, Canister: test.canister, Method: "ws_open",
			Arg: verify.AppendOpenArg(nil, 7, w.canisters[0]), IngressExpiry: time.Now().Add(time.Minute)}
		envelope, request, err := r.Sign(id)
		if err != nil {
			t.Fatal(err)
		}
		if !test.sent {
			request[0]++
		} else if _, err := a.post(t.Context(), n.hosts[0], "v4", "call", envelope); err != nil {
			t.Fatal(err)
		}
		if got := a.outcome(t.Context(), request); !strings.Contains(got, test.want) {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

// writeKey is the path of a key file.
func writeKey(t *testing.T) string {
	key := filepath.Join(t.TempDir(), "key_pair")
	if err := os.WriteFile(key, unhex(t, ringV2), 0o600); err != nil {
		t.Fatal(err)
	}
	return key
}
