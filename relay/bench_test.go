package relay

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
	"github.com/icws-gateway/caddy-icws/verify"
)

// replay is a transport that gives one real answer again and again, so that a benchmark measures the gateway and not
// the network.
type replay struct {
	network http.RoundTripper
	body    []byte
}

func (t *replay) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.body == nil {
		res, err := t.network.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		if t.body, err = io.ReadAll(res.Body); err != nil {
			return nil, err
		}
	}
	r.Body.Close()
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(t.body)), Request: r}, nil
}

// benchGateway makes a gateway with a poller that is driven by the benchmark and knows the head of the queue, on a canister with
// a message behind it for each of the given clients.
func benchGateway(b *testing.B, messages, size int) (*poller, []*session) {
	b.Helper()
	network, err := localnet.New(localnet.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { network.Close() })
	cdk := localnet.NewCDK(localnet.CDKOptions{})
	id := network.Install(cdk)
	key, err := identity.NewRandomEd25519Identity()
	if err != nil {
		b.Fatal(err)
	}
	answers := &replay{network: network.RoundTripper()}
	g, err := New(Config{
		Hosts: []*url.URL{{Scheme: "http", Host: "network.test"}}, RootKey: network.RootKey(), Identity: key, KeepOrphans: true,
		UpstreamRate: 1e9, Transport: answers, OutboxFrames: 1 << 20, OutboxBytes: 1 << 40,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { g.Close() })
	p := newPoller(newCanister(g, id))
	var sessions []*session
	for range messages {
		s := benchSession(b, g)
		s.canister, s.state = p.c, stateOpening
		client, err := identity.NewRandomEd25519Identity()
		if err != nil {
			b.Fatal(err)
		}
		principal, _ := verify.PrincipalFromBytes(client.Sender().Raw)
		s.key = verify.ClientKey{Principal: principal, Nonce: 1}
		open := &verify.Request{Type: "call", Canister: id, Method: methodOpen, Nonce: []byte("nonce"),
			Arg: verify.AppendOpenArg(nil, 1, g.Principal()), IngressExpiry: time.Now().Add(4 * time.Minute)}
		body, _, err := open.Sign(client)
		if err != nil {
			b.Fatal(err)
		}
		req, _ := http.NewRequest(http.MethodPost, "http://network.test/api/v4/canister/"+id.String()+"/call", bytes.NewReader(body))
		req.Header.Set("Content-Type", "application/cbor")
		res, err := network.RoundTripper().RoundTrip(req)
		if err != nil || res.StatusCode != http.StatusOK {
			b.Fatal("opening a client at the canister: ", err, res)
		}
		if c, _ := p.c.add(s, 0, false); c != nil {
			b.Fatal(c.text)
		}
		sessions = append(sessions, s)
	}
	p.pollOnce(b, upstream.ClassBusy) // behind the OpenMessages
	answers.body = nil
	if size > 0 {
		cdk.Do(func(ctx *localnet.AppContext) {
			for _, s := range sessions {
				ctx.Send(s.key.Principal, bytes.Repeat([]byte("x"), size))
			}
		})
		for _, s := range sessions {
			s.nextSeq = 2
		}
	}
	return p, sessions
}

// benchSession makes a session whose connection swallows what is written.
func benchSession(b testing.TB, g *Gateway) *session {
	b.Helper()
	ws, there := onPipe(b)
	go io.Copy(io.Discard, there)
	b.Cleanup(func() { ws.Close(); there.Close() })
	return &session{g: g, ws: ws, ip: netip.IPv6Loopback(), policy: &Policy{}, trace: context.Background(), started: time.Now(), nextSeq: 1}
}

type hijacked struct {
	http.ResponseWriter
	conn net.Conn
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

// pollOnce polls once and carries out what is decided.
func (p *poller) pollOnce(b *testing.B, cl upstream.Class) *pollResult {
	ask := p.c.queue.Next()
	r := p.c.runPoll(b.Context(), &poll{ask: ask, class: cl})
	if r.err != nil {
		b.Fatal(r.err)
	}
	p.finishPoll(r)
	return r
}

// BenchmarkIdlePoll is one poll without messages: sign, exchange, decode. The network's part is a copy of one answer.
func BenchmarkIdlePoll(b *testing.B) {
	p, _ := benchGateway(b, 0, 0)
	b.ReportAllocs()
	for b.Loop() {
		if r := p.pollOnce(b, upstream.ClassIdle); len(r.reply.Messages) != 0 {
			b.Fatal(len(r.reply.Messages))
		}
	}
}

// BenchmarkPoll50 is one poll with 50 messages of 1 KiB for 50 clients, from signing the query to the last frame being
// queued and written. The root has been seen, as it has for all canisters of a subnet but the first in each block.
func BenchmarkPoll50(b *testing.B) {
	p, sessions := benchGateway(b, 50, 1024)
	start := p.c.queue.Bookmark()
	b.ReportAllocs()
	for b.Loop() {
		p.c.queue.Rewind(start)
		for _, s := range sessions {
			s.mu.Lock()
			s.nextSeq = 2
			s.mu.Unlock()
		}
		if r := p.pollOnce(b, upstream.ClassBusy); len(r.reply.Messages) != 50 {
			b.Fatal(len(r.reply.Messages))
		}
		for _, s := range sessions {
			for {
				s.mu.Lock()
				idle := !s.out.writing
				s.mu.Unlock()
				if idle {
					break
				}
				runtime.Gosched()
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/50, "µs/message")
}
