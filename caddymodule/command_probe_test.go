package caddymodule

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// bare is a canister without the CDK, and with whatever interface it publishes.
type bare map[string][]byte

func (bare) Init(*localnet.Env) error                             { return nil }
func (bare) Update(*localnet.Env, string, []byte) ([]byte, error) { return nil, localnet.ErrNoMethod }
func (bare) Query(*localnet.Env, string, []byte) ([]byte, error)  { return nil, localnet.ErrNoMethod }
func (b bare) Metadata() map[string][]byte                        { return b }

// syncBuffer collects output.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// report collects what a probe says and calls done when it has said all of some texts.
type report struct {
	syncBuffer
	want []string
	done func()
}

func (r *report) Write(p []byte) (int, error) {
	n, err := r.syncBuffer.Write(p)
	text := r.String()
	for _, want := range r.want {
		if !strings.Contains(text, want) {
			return n, err
		}
	}
	if r.done != nil {
		r.done()
	}
	return n, err
}

// probe runs a probe in this process.
func (w *world) probe(t *testing.T, ctx context.Context, out *report, url, canister, address string) error {
	t.Helper()
	p := &prober{out: out, url: url, canister: canister, networks: []string{w.url}, address: address, timeout: hung, quiet: 50 * time.Millisecond}
	return p.run(ctx)
}

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

// TestProbePage probes a site that answers with its page, and URLs that no gateway could have.
func TestProbePage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, "<!doctype html><title>My app</title>")
	}))
	defer site.Close()
	out := new(report)
	err := w.probe(t, t.Context(), out, strings.Replace(site.URL, "http://127.0.0.1", "WS://LocalHost", 1)+"/ws", w.canisters[0].String(), "")
	if err == nil || !strings.Contains(err.Error(), "My app") || !strings.Contains(err.Error(), "give icws a block of its own, `handle /ws { icws ... }`") {
		t.Errorf("%v", err)
	}
	if text := out.String(); !strings.Contains(text, "ok    name         localhost is") || !strings.Contains(text, "FAIL  upgrade      HTTP status 200") {
		t.Errorf("said:\n%s", text)
	}
	for url, want := range map[string]string{
		"ws://a..b/ws":     "its host \"a..b\" has an empty part",
		"ws://:80/ws":      "has an empty part",
		"ws://127.1/ws":    "is not an IPv4 address like 127.0.0.1",
		"https://a.io/ws":  "it starts with wss://",
		"ws://my_host.a b": "is not the URL of a gateway",
	} {
		if err := w.probe(t, t.Context(), new(report), url, w.canisters[0].String(), ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
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

// TestProbeSilence probes a gateway whose first message does not come: it says within moments what the network and the
// gateway know about it.
func TestProbeSilence(t *testing.T) {
	t.Parallel()
	w, port := newWorld(t, 1), freeport.ForTest(t)
	caddy := runCaddy(t, "", w.site(port, 0))
	url := fmt.Sprintf("ws://127.0.0.1:%d/ws", port)
	for _, test := range []struct {
		name, address string
		fault         func(r *localnet.Request) localnet.Fault
		want          []string
	}{
		{"all polls fail", strings.TrimPrefix(caddy.admin, "http://"), func(r *localnet.Request) (f localnet.Fault) {
			if r.Endpoint == "query" {
				f = localnet.Fault{Status: 503, Body: []byte("error: no_healthy_nodes")}
			}
			return f
		}, []string{
			"note  ws_open      the network does not know it: it has not taken it from the gateway",
			"note  query        a poll of our own fails, too: v2 of 127.0.0.1", "no_healthy_nodes",
			"note  polls        the gateway's polls fail since ", "the last with: 127.0.0.1",
		}},
		{"calls are refused", strings.TrimPrefix(caddy.admin, "http://"), func(r *localnet.Request) (f localnet.Fault) {
			if r.Endpoint == "call" {
				f = localnet.Fault{Status: 503, Body: []byte("error: load_shed")}
			}
			return f
		}, []string{
			"note  query        a poll of our own is answered",
			"note  polls        the gateway's polls are answered, but not its calls, the last with: 127.0.0.1", "load_shed",
		}},
		{"something that cannot be read", caddy.admin + "/", func(r *localnet.Request) (f localnet.Fault) {
			if r.Endpoint == "query" {
				f.Edit = func(body []byte) []byte { return append([]byte{0xd9, 0xd9, 0xf7, 0x9f}, body...) }
			}
			return f
		}, []string{"note  query        a poll of our own fails, too: reading query answer", "note  polls        the gateway's polls fail since ", "reading query answer"}},
		{"an admin endpoint elsewhere", fmt.Sprintf("127.0.0.1:%d", freeport.ForTest(t)), func(r *localnet.Request) localnet.Fault {
			return localnet.Fault{Drop: r.Endpoint == "query"}
		}, []string{"note  polls        unknown: the gateway's admin endpoint is not at 127.0.0.1"}},
		{"a network that hangs", strings.TrimPrefix(caddy.admin, "http://"), func(r *localnet.Request) (f localnet.Fault) {
			if r.Endpoint == "read_state" {
				f.Delay = time.Hour
			}
			return localnet.Fault{Delay: f.Delay, Drop: r.Endpoint == "query"}
		}, []string{"note  ws_open      its outcome cannot be read", "note  query        a poll of our own fails, too", "note  polls        the gateway's polls fail since "}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.net.SetFaults(test.fault)
			defer w.net.SetFaults(nil)
			ctx, seen := context.WithCancel(t.Context())
			defer seen()
			out := &report{want: test.want, done: seen}
			if err := w.probe(t, ctx, out, url, w.canisters[0].String(), test.address); err == nil {
				t.Error("there is a session")
			}
			if ctx.Err() == nil {
				t.Errorf("the report lacks one of %q:\n%s", test.want, out.String())
			}
		})
	}
}

// TestProbeSharedPrincipal probes one of two gateways of a process that have the same principal and poll the same canister:
// that the polls of the other are answered does not hide that this one's fail.
func TestProbeSharedPrincipal(t *testing.T) {
	t.Parallel()
	w, good, bad := newWorld(t, 1), freeport.ForTest(t), freeport.ForTest(t)
	second, err := w.net.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.net.SetFaults(func(r *localnet.Request) localnet.Fault {
		return localnet.Fault{Drop: r.Boundary == second && r.Endpoint != "status"}
	})
	broken := strings.Replace(w.site(bad, 0), w.url, second, 1)
	caddy := runCaddy(t, "", w.site(good, 0)+broken)
	w.open(t, fmt.Sprintf("ws://127.0.0.1:%d/ws", good), 0)
	ctx, seen := context.WithCancel(t.Context())
	defer seen()
	out := &report{want: []string{"note  polls        the gateway's polls fail since "}, done: seen}
	if err := w.probe(t, ctx, out, fmt.Sprintf("ws://127.0.0.1:%d/ws", bad), w.canisters[0].String(), strings.TrimPrefix(caddy.admin, "http://")); err == nil {
		t.Error("there is a session")
	}
	if ctx.Err() == nil {
		t.Errorf("no word of the polls that fail:\n%s", out.String())
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

// TestProbeAdvice checks the last line of a session that did not open.
func TestProbeAdvice(t *testing.T) {
	late := &client.CloseError{Code: client.CodeProtocol, Text: client.TextOpenTimeout, Local: true, Err: context.DeadlineExceeded}
	seen := "the gateway's polls fail"
	for name, test := range map[string]struct {
		p    *prober
		err  error
		want string
	}{
		"before the handshake": {&prober{}, late, "the gateway is too slow"},
		"nothing seen":         {&prober{openSent: time.Now()}, late, "nothing came back: look at the gateway's log"},
		"polls":                {&prober{openSent: time.Now()}, late, "nothing came back; the gateway's polls fail"},
		"interface":            {&prober{openSent: time.Now(), lacks: "lacks ws_open"}, late, "lacks ws_open"},
		"interface, closed":    {&prober{lacks: "lacks ws_open"}, &client.CloseError{Code: 1011}, "lacks ws_open"},
		"closed":               {&prober{}, &client.CloseError{Code: 1011}, "is it an IC WebSocket canister"},
		"outage":               {&prober{}, &client.CloseError{Code: 1012}, "try again later"},
		"older layout":         {&prober{}, &client.CloseError{Code: 1008, Text: relay.ClientOutdated.Text()}, "with ranges=sharded behind a question mark"},
	} {
		test.p.out = new(bytes.Buffer)
		if name == "polls" {
			test.p.seen.Store(&seen)
		}
		err := test.p.explain(test.err)
		if !errors.Is(err, test.err) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	for _, test := range []struct {
		status int
		kind   string
		want   string
	}{
		{200, "text/html; charset=utf-8", "give icws a block of its own, `handle /a/ws { icws ... }`, and put the lines that serve pages (try_files, rewrite, respond, file_server) into `handle { ... }`"},
		{404, "text/html", "`handle /a/ws { icws ... }`"},
		{200, "", "does the icws matcher cover it"},
		{404, "text/plain", "does the icws matcher cover it"},
		{403, "", "try --origin"},
		{403, "text/html", "try --origin; the answer is a page, so look also at what stands in front of the gateway (Server: \"cloud\")"},
		{503, "text/html", "Retry-After \"7\"; the answer is a page"},
		{400, "", "does it pass WebSocket upgrades on?"},
		{520, "text/html", "does it pass WebSocket upgrades on?; the answer is a page"},
		{301, "text/html", "it redirects to \"https://b.example/\""},
		{502, "text/html", "a proxy in front does not reach the gateway"},
	} {
		answer := &client.UpgradeError{Status: test.status, Header: http.Header{"Content-Type": {test.kind}, "Server": {"cloud"}, "Retry-After": {"7"}, "Location": {"https://b.example/"}}}
		p := &prober{out: new(bytes.Buffer), url: "wss://a.example/a/ws?ranges=sharded"}
		if err := p.explain(answer); !strings.Contains(err.Error(), test.want) {
			t.Errorf("%d %s: %v, want %q", test.status, test.kind, err, test.want)
		}
	}
	// What the gateway has said so well that a general advice would contradict it stands alone.
	broke := &client.CloseError{Code: 1013, Text: "ws_get_messages: canister is out of cycles, its owner must top it up"}
	if err := (&prober{out: new(bytes.Buffer)}).explain(broke); err.Error() != broke.Error() {
		t.Error(err)
	}
	refused := &client.CloseError{Code: 1008, Text: relay.CanisterNotAllowed.Text()}
	if err := (&prober{out: new(bytes.Buffer), lacks: "lacks ws_open"}).explain(refused); strings.Contains(err.Error(), "lacks") {
		t.Error(err)
	}
}
