package localnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aviate-labs/agent-go"
	"github.com/fxamacker/cbor/v2"

	"github.com/icws-gateway/caddy-icws/examples/recorded"
	"github.com/icws-gateway/caddy-icws/verify"
)

// Each fault as a client sees it, over the in-process transport and over real
// sockets.
func TestFaults(t *testing.T) {
	at := func(i int) *int { return &i }
	for _, tt := range []struct {
		name  string
		fault Fault
		check func(t *testing.T, clean []byte, r response, err error)
	}{
		{"none", Fault{}, func(t *testing.T, clean []byte, r response, err error) {
			if err != nil || !bytes.Equal(r.body, clean) {
				t.Errorf("%v", err)
			}
		}},
		{"drop", Fault{Drop: true}, wantError},
		{"drop reply", Fault{DropReply: true}, wantError},
		{"refuse", Fault{Status: 429, Cause: "rate_limited_normal", RetryAfter: 1500 * time.Millisecond, Body: []byte("slow down")}, func(t *testing.T, _ []byte, r response, err error) {
			if err != nil || r.status != 429 || r.header.Get("x-ic-error-cause") != "" || r.header.Get("Retry-After") != "2" || string(r.body) != "slow down" {
				t.Errorf("%+v, %v", r, err)
			}
		}},
		{"truncate", Fault{Truncate: 10}, wantError},
		{"corrupt", Fault{CorruptAt: at(20)}, func(t *testing.T, clean []byte, r response, err error) {
			if err != nil || len(r.body) != len(clean) || r.body[20] == clean[20] || !bytes.Equal(r.body[:20], clean[:20]) || !bytes.Equal(r.body[21:], clean[21:]) {
				t.Errorf("%x, %v", r.body, err)
			}
		}},
		{"corrupt from the end", Fault{CorruptAt: at(-1)}, func(t *testing.T, clean []byte, r response, err error) {
			if err != nil || r.body[len(clean)-1] == clean[len(clean)-1] {
				t.Errorf("%v", err)
			}
		}},
		{"edit", Fault{Edit: func(b []byte) []byte { return append(b, '!') }}, func(t *testing.T, clean []byte, r response, err error) {
			if err != nil || string(r.body) != string(clean)+"!" {
				t.Errorf("%v", err)
			}
		}},
		{"drip", Fault{Drip: time.Millisecond, DripBytes: 50}, func(t *testing.T, clean []byte, r response, err error) {
			if err != nil || !bytes.Equal(r.body, clean) {
				t.Errorf("%v", err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNetwork(t, Options{})
			url, err := n.Start("127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			clean := n.status().body
			n.SetFaults(func(*Request) Fault { return tt.fault })
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			for host, c := range map[string]*http.Client{"http://in.process": {Transport: n.RoundTripper()}, url: client} {
				r, err := get(c, host+"/api/v2/status")
				tt.check(t, clean, r, err)
			}
			n.SetFaults(nil)
			r, err := get(client, url+"/api/v2/status")
			if err != nil || !bytes.Equal(r.body, clean) {
				t.Errorf("after the faults: %v", err)
			}
		})
	}
}

func wantError(t *testing.T, _ []byte, r response, err error) {
	if err == nil {
		t.Errorf("answered with %d and %d bytes", r.status, len(r.body))
	}
}

func get(c *http.Client, url string) (response, error) {
	resp, err := c.Get(url)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return response{resp.StatusCode, resp.Header, b}, err
}

// A lagging answer is a true one of an older state.
func TestLag(t *testing.T) {
	d := newDesk(t, CDKOptions{})
	who := newIdentity(t)
	d.wantText(d.open(who, 1), "")
	for i := range 6 {
		d.poll(0) // certifies a round each
		d.wantText(d.send(who, 1, uint64(i+1), false, []byte{byte(i)}), "")
	}
	last := 0
	for _, lag := range []int{1 << 20, 4, 3, 2, 1, 0} {
		d.net.SetFaults(func(r *Request) Fault {
			if r.Endpoint != "query" {
				return Fault{}
			}
			return Fault{Lag: lag}
		})
		r := d.poll(0)
		if len(r.Messages) > 0 {
			d.proven(r, 0)
		}
		if lag < 1<<20 && len(r.Messages) <= last {
			t.Errorf("%d rounds behind: %d messages, %d before", lag, len(r.Messages), last)
		}
		last = len(r.Messages)
	}
	if last != 7 {
		t.Errorf("%d messages at the head", last)
	}
}

// The hook sees what a request is, and delays can turn answers around.
func TestHookAndReordering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		id := n.Install(NewCDK(CDKOptions{}))
		who := newIdentity(t)
		var mu sync.Mutex
		var seen []Request
		n.SetFaults(func(r *Request) Fault {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, *r)
			return Fault{ReplyDelay: time.Duration(4-len(seen)) * time.Second}
		})
		var wg sync.WaitGroup
		var arrived []int
		for i := range 3 {
			body := envelope(t, content(n, who, "query", id, "ws_get_messages", verify.AppendPollArg(nil, uint64(i))), who, nil)
			wg.Go(func() {
				if _, err := postTo(n, "https://node"+string(rune('a'+i))+canisterPath("v2", id, "query"), body); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				arrived = append(arrived, i)
			})
			synctest.Wait()
		}
		wg.Wait()
		if arrived[0] != 2 || arrived[2] != 0 {
			t.Errorf("answers arrived as %v", arrived)
		}
		r := seen[1]
		if r.Boundary != "https://nodeb" || r.Version != "v2" || r.Endpoint != "query" || r.Canister != id || r.Method != "ws_get_messages" || r.Sender != principalOf(who) || r.Count != 2 {
			t.Errorf("%+v", r)
		}
	})
}

// Waiting for a slow answer ends with the context, in the headers and in the
// body.
func TestTransportHonoursContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		for name, f := range map[string]Fault{"delay": {Delay: time.Hour}, "reply delay": {ReplyDelay: time.Hour}, "drip": {Drip: time.Minute}} {
			n.SetFaults(func(*Request) Fault { return f })
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://x/api/v2/status", nil)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			resp, err := n.RoundTripper().RoundTrip(req)
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 5*time.Second {
				t.Errorf("%s: %v after %s", name, err, time.Since(start))
			}
			cancel()
		}
	})
}

// Several boundary nodes of one network over real sockets, with agent-go as
// the client, one of them refusing.
func TestBoundaryNodes(t *testing.T) {
	n := newNetwork(t, Options{Nodes: 3})
	var urls []string
	for range 2 {
		url, err := n.Start("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		urls = append(urls, url)
	}
	id := n.Install(NewCDK(CDKOptions{}))
	n.SetFaults(func(r *Request) Fault {
		if r.Boundary == urls[0] {
			return BoundaryError("no_healthy_nodes")
		}
		return Fault{}
	})
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr}
	if r, err := get(client, urls[0]+"/api/v2/status"); err != nil || r.status != 503 || !strings.HasPrefix(string(r.body), "error: no_healthy_nodes\n") {
		t.Fatalf("%+v, %v", r, err)
	}
	a := newAgent(t, n, newIdentity(t), agent.WithHostURL(mustURL(t, urls[1])), agent.WithHttpClient(client))
	if _, err := a.CallRaw(raw(id), "ws_open", verify.AppendOpenArg(nil, 1, canisterID(1))); err != nil {
		t.Fatal(err)
	}
	if _, err := a.QueryRaw(raw(id), "ws_get_messages", verify.AppendPollArg(nil, 0)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, "/", 404},
		{http.MethodGet, "/api/v2/canister/" + id.String() + "/call", 405},
		{http.MethodPost, "/api/v2/status", 405},
		{http.MethodPost, "/api/v9/canister/" + id.String() + "/call", 404},
		{http.MethodPost, "/api/v2/canister/not-a-principal/call", 400},
		{http.MethodPost, "/api/v2/canister/" + id.String() + "/call", 400},
		{http.MethodOptions, "/api/v2/canister/" + id.String() + "/call", 200},
		{http.MethodHead, "/api/v2/status", 200},
	} {
		req, err := http.NewRequest(tt.method, urls[1]+tt.path, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.want || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.path, resp.StatusCode, tt.want)
		}
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Start("127.0.0.1:0"); err == nil {
		t.Error("started after Close")
	}
}

// A thousand clients at once: calls under the race detector and in parallel
// with polls end as they should.
func TestConcurrency(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, Options{Latency: 20 * time.Millisecond, Block: 10 * time.Millisecond})
	cdk := NewCDK(CDKOptions{})
	id := n.Install(cdk)
	gateway := newIdentity(t)
	var wg sync.WaitGroup
	for i := range 50 {
		who := newIdentity(t)
		wg.Go(func() {
			if text := ws(t, n, who, id, "ws_open", verify.AppendOpenArg(nil, uint64(i), principalOf(gateway))); text != "" {
				t.Error(text)
			}
			poll(t, n, gateway, id, 0)
		})
	}
	wg.Wait()
	if got := len(cdk.Clients()); got != 50 {
		t.Errorf("%d clients", got)
	}
}

// Whatever a stranger posts, the answer is a client error or a well-formed
// CBOR answer, and never a crash.
func FuzzHandler(f *testing.F) {
	n := newNetwork(f, Options{Now: func() time.Time { return time.Unix(1735689600, 0) }})
	id := n.Install(NewCDK(CDKOptions{}))
	ii := n.InstallII()
	who := newIdentity(f)
	kinds := []string{"v2 call", "v4 call", "v2 query", "v3 query", "v2 read_state", "v3 read_state"}
	for i, kind := range kinds {
		_, kind, _ = strings.Cut(kind, " ")
		c := content(n, who, kind, id, "ws_open", verify.AppendOpenArg(nil, 1, canisterID(1)))
		if kind == "read_state" {
			c = readStateContent(n, who, [][]byte{[]byte("subnet")})
		}
		f.Add(byte(i), envelope(f, c, who, nil))
	}
	for _, a := range recorded.All(f, "../..") {
		if a.Kind == "envelope" {
			f.Add(byte(1), a.Bytes(f))
			f.Add(byte(2), a.Bytes(f))
		}
	}
	root, d := ii.Delegate("u", who.PublicKey(), n.Now().Add(time.Hour))
	r := verify.Request{Type: "call", Canister: id, Method: "ws_open", IngressExpiry: n.Now().Add(time.Minute), RootKey: root, Delegations: []verify.SignedDelegation{d}}
	signed, _, err := r.Sign(who)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(byte(1), signed)
	for _, method := range []string{"ws_message", "ws_close", "ws_get_messages"} {
		c := content(n, who, "query", id, method, []byte("DIDL\x01\x6c\x01\x00\x00\x01\x00"))
		delete(c, "nonce")
		c["sender"] = []byte{4}
		f.Add(byte(2), envelope(f, c, nil, nil))
	}
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		version, endpoint, _ := strings.Cut(kinds[int(kind)%len(kinds)], " ")
		r := post(t, n, canisterPath(version, id, endpoint), body)
		switch {
		case r.status >= 500:
			t.Fatalf("%d %s", r.status, r.body)
		case r.status == http.StatusOK:
			if err := cbor.Wellformed(r.body); err != nil {
				t.Fatal(err)
			}
		}
	})
}
