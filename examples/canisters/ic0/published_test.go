//go:build e2e

package ic0_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/examples/canisters/ic0"
	"github.com/icws-gateway/caddy-icws/examples/chat/room"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/verify"
)

// chats are the compiled chat canisters, by the version of the CDK in them.
var chats = map[string]string{
	"0.4.2": "../rust/target/wasm32-unknown-unknown/release/chat.wasm",
	"0.4.1": "../rust/target/wasm32-unknown-unknown/release/chat_cdk_0_4_1.wasm",
}

var (
	seed  = flag.Uint64("seed", 0, "seed of the random script; 0 takes one from the clock")
	steps = flag.Int("steps", 600, "length of the random script")
)

// loadChat loads the chat canister with a published CDK in it.
func loadChat(t *testing.T, cdk string) *ic0.Canister {
	t.Helper()
	wasm, err := os.ReadFile(chats[cdk])
	if err != nil {
		t.Fatalf("%v: build it in examples/canisters/rust as its README says", err)
	}
	c, err := ic0.Load(wasm)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestPublishedCDK holds the canister of examples/localnet, which all other
// tests of this project rely on, against the published CDKs: the same random
// calls on both, and every answer, message, proof and error text must agree.
func TestPublishedCDK(t *testing.T) {
	for cdk := range chats {
		t.Run(cdk, func(t *testing.T) { testPublishedCDK(t, cdk) })
	}
}

func testPublishedCDK(t *testing.T, cdk string) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("go test -tags e2e ./examples/canisters/ic0 -run TestPublishedCDK -args -seed %d -steps %d", *seed, *steps)
	rng := rand.New(rand.NewPCG(*seed, 1))

	began := time.Now().Truncate(time.Millisecond)
	n, err := localnet.New(localnet.Options{Now: func() time.Time { return began }}) // time moves by Advance alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	p := &pair{t: t, net: n, http: n.RoundTripper(), start: began}
	if p.authority, err = verify.NewAuthority(n.RootKey()); err != nil {
		t.Fatal(err)
	}
	p.canisters[0] = n.Install(localnet.NewCDK(localnet.CDKOptions{App: room.Room{}}))
	p.canisters[1] = n.Install(loadChat(t, cdk))

	clients := make([]*client, 4)
	for i := range clients {
		clients[i] = &client{signer: newSigner(t)}
	}
	gateways := []*gateway{{signer: newSigner(t)}, {signer: newSigner(t)}}
	stranger := newSigner(t)

	for step := range *steps {
		c, g := clients[rng.IntN(len(clients))], gateways[rng.IntN(len(gateways))]
		switch roll := rng.IntN(100); {
		case roll < 12:
			if rng.IntN(5) > 0 {
				c.key = verify.ClientKey{Principal: principalOf(c.signer), Nonce: rng.Uint64()}
			}
			c.sequence = 0
			p.update(step, c.signer, "ws_open", verify.AppendOpenArg(nil, c.key.Nonce, principalOf(g.signer)))
		case roll < 13:
			p.update(step, nil, "ws_open", verify.AppendOpenArg(nil, 1, principalOf(g.signer)))
		case roll < 55:
			p.update(step, c.signer, "ws_message", verify.AppendMessageArg(nil, c.message(rng, p.now())))
		case roll < 62:
			signer, key := g.signer, c.key
			switch rng.IntN(4) {
			case 0:
				signer = stranger
			case 1:
				key.Nonce++
			}
			p.update(step, signer, "ws_close", verify.AppendCloseArg(nil, key))
		case roll < 64:
			p.update(step, c.signer, "ws_message", []byte("not Candid"))
		case roll < 65:
			p.update(step, c.signer, "ws_unknown", nil)
		case roll < 95:
			p.poll(step, g, rng)
		case roll < 96:
			p.poll(step, &gateway{signer: stranger}, rng)
		case roll < 99:
			p.advance(step, clients, rng, time.Duration(rng.IntN(90))*time.Second)
		default: // everybody leaves, and the queues end
			for _, c := range clients {
				for _, g := range gateways {
					p.update(step, g.signer, "ws_close", verify.AppendCloseArg(nil, c.key))
				}
			}
			p.advance(step, clients, rng, 700*time.Second)
			for _, g := range gateways {
				p.poll(step, g, rng)
				g.next = 0
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	if p.delivered < *steps/10 || p.failures < *steps/20 {
		t.Errorf("the script delivered %d messages and met %d errors: it no longer exercises much", p.delivered, p.failures)
	}
	t.Logf("%d steps, %d messages compared, %d errors compared", *steps, p.delivered, p.failures)
}

type client struct {
	signer   verify.Signer
	key      verify.ClientKey
	sequence uint64
}

// message is what the client says next: mostly right, sometimes not.
func (c *client) message(rng *rand.Rand, now time.Time) *verify.WebsocketMessage {
	m := &verify.WebsocketMessage{Client: c.key, Sequence: c.sequence + 1, Timestamp: uint64(now.UnixNano())}
	switch roll := rng.IntN(40); {
	case roll < 1:
		m.Sequence += 1 + uint64(rng.IntN(3))
	case roll < 2:
		m.Client.Nonce++
	case roll < 3:
		m.Content = []byte("not a chat message")
		c.sequence++
	case roll < 10:
		m.Service, m.Content = true, verify.AppendKeepAlive(nil, uint64(rng.IntN(5)))
		c.sequence++
	case roll < 11:
		m.Service, m.Content = true, []byte("not a service message")
		c.sequence++
	default:
		m.Content = (&room.Message{Name: "someone", Text: strings.Repeat("x", rng.IntN(300))}).Encode()
		c.sequence++
	}
	return m
}

type gateway struct {
	signer verify.Signer
	next   uint64
}

// pair runs everything on both canisters. Index 0 is the local network's own,
// 1 the published one.
type pair struct {
	t         *testing.T
	net       *localnet.Network
	http      http.RoundTripper
	authority *verify.Authority
	canisters [2]verify.Principal
	nonce     uint64
	start     time.Time

	delivered, failures int
}

func (p *pair) now() time.Time { return p.net.Now() }

// advance moves the clock. After each acknowledgement the clients answer, all
// but one at most: the order in which the CDK removes several at once is that of
// a hash map, and everything after it would depend on it.
func (p *pair) advance(step int, clients []*client, rng *rand.Rand, d time.Duration) {
	p.t.Helper()
	const interval = 300 * time.Second
	for end := p.now().Add(d); ; {
		tick := p.start.Add(p.now().Sub(p.start).Truncate(interval) + interval)
		if tick.After(end) {
			p.net.Advance(end.Sub(p.now()))
			return
		}
		p.net.Advance(tick.Sub(p.now()) + time.Second)
		silent := rng.IntN(2 * len(clients))
		for i, c := range clients {
			if i == silent {
				continue
			}
			c.sequence++
			p.update(step, c.signer, "ws_message", verify.AppendMessageArg(nil, &verify.WebsocketMessage{
				Client: c.key, Sequence: c.sequence, Service: true, Content: verify.AppendKeepAlive(nil, 0),
			}))
		}
	}
}

// update calls a method on both and compares the outcomes.
func (p *pair) update(step int, signer verify.Signer, method string, arg []byte) {
	p.t.Helper()
	var got [2]string
	for i := range p.canisters {
		got[i] = p.call(i, signer, method, arg)
	}
	if got[0] != got[1] {
		p.t.Errorf("step %d, %s: the local network says %q, the published CDK %q", step, method, got[0], got[1])
	}
	if got[0] != "Ok" {
		p.failures++
	}
}

// call is one update and its outcome in words.
func (p *pair) call(i int, signer verify.Signer, method string, arg []byte) string {
	p.t.Helper()
	body, id := p.post(i, signer, verify.RequestCall, "v4", "call", method, arg)
	reply, err := verify.ParseCallReply(body)
	if err != nil {
		p.t.Fatalf("%s: %v", method, err)
	}
	if reply.Rejected {
		return fmt.Sprintf("refused with %d", reply.RejectCode)
	}
	out, err := p.authority.Outcome(reply.Certificate, p.canisters[i], id, p.now())
	if err != nil {
		p.t.Fatalf("%s: %v", method, err)
	}
	if out.Status != verify.CallReplied {
		return fmt.Sprintf("%s with %d", out.Status, out.RejectCode) // the words of a trap name the canister
	}
	text, ok, err := verify.DecodeResult(out.Reply)
	if err != nil {
		p.t.Fatalf("%s: %v", method, err)
	}
	if ok {
		return "Ok"
	}
	// What follows in this one text is the decoder's own description.
	if before, _, found := strings.Cut(text, "Error decoding service message content:"); found && before == "" {
		return "Error decoding service message content"
	}
	return text
}

// poll asks both for a page and compares the messages and their proofs.
func (p *pair) poll(step int, g *gateway, rng *rand.Rand) {
	p.t.Helper()
	from := g.next
	if rng.IntN(4) == 0 {
		from = uint64(rng.IntN(int(g.next) + 2))
	}
	var pages [2]*verify.Page
	var replies [2]verify.Reply
	for i, id := range p.canisters {
		body, _ := p.post(i, g.signer, verify.RequestQuery, "v2", "query", "ws_get_messages", verify.AppendPollArg(nil, from))
		q, err := verify.ParseQueryReply(body)
		if err != nil || !q.Replied {
			p.t.Fatalf("step %d: poll of canister %d: %v %+v", step, i, err, q)
		}
		if err := replies[i].Decode(q.Arg); err != nil || replies[i].Failed {
			p.t.Fatalf("step %d: poll of canister %d: %v %s", step, i, err, replies[i].Err)
		}
		if len(replies[i].Messages) == 0 {
			pages[i] = &verify.Page{}
			continue
		}
		want := verify.Want{Canister: id, Gateway: principalOf(g.signer), Nonce: from}
		if pages[i], err = p.authority.Page(&replies[i], want, p.now()); err != nil {
			p.t.Fatalf("step %d: page of canister %d: %v", step, i, err)
		}
	}
	if len(pages[0].Messages) != len(pages[1].Messages) || replies[0].EndOfQueue != replies[1].EndOfQueue {
		p.t.Errorf("step %d, poll from %d: %d messages, end %v against %d messages, end %v of the published CDK", step, from,
			len(pages[0].Messages), replies[0].EndOfQueue, len(pages[1].Messages), replies[1].EndOfQueue)
		return
	}
	a, b := describe(pages[0].Messages), describe(pages[1].Messages)
	for i := range a {
		if a[i] != b[i] {
			p.t.Errorf("step %d, message %d from %d:\nlocal network %s\npublished CDK %s", step, i, from, a[i], b[i])
		}
		p.delivered++
	}
	if last := len(pages[0].Messages); last > 0 {
		g.next = max(g.next, pages[0].Messages[last-1].Nonce+1)
	}
}

// describe is everything about the messages of a page that both must agree on.
//
// Candid leaves the order of type tables open, so service messages are compared
// decoded. Each block is a nanosecond later than the one before, so times are
// compared in milliseconds. The CDK acknowledges in the order of a hash map, so
// acknowledgements in a row are sorted, without the keys that their places give
// them; where the page may have cut a row, its length alone is compared.
func describe(messages []verify.PageMessage) []string {
	var out []string
	row := 0 // where the acknowledgements at the end of out begin
	for i := range messages {
		m := &messages[i]
		common := fmt.Sprintf("to %s, number %d at %d, service %v, poison %v, begins %x: ", m.Client, m.Sequence,
			m.Timestamp/uint64(time.Millisecond), m.Service, m.Poison, m.Content[:4])
		if m.Service {
			service, err := verify.DecodeServiceMessage(m.Payload)
			common += fmt.Sprintf("%+v %v", service, err)
			if err == nil && service.Kind == verify.ServiceAck {
				out = append(out, common)
				continue
			}
		} else {
			said, err := room.Decode(m.Payload)
			if err == nil {
				said.At /= uint64(time.Millisecond)
			}
			common += fmt.Sprintf("%+v %v", said, err)
		}
		settle(out[row:], row == 0)
		out = append(out, fmt.Sprintf("%s %s", m.Key, common))
		row = len(out)
	}
	settle(out[row:], true)
	return out
}

// settle makes a row of acknowledgements comparable.
func settle(acks []string, cut bool) {
	slices.Sort(acks)
	if cut {
		for i := range acks {
			acks[i] = "an acknowledgement"
		}
	}
}

func (p *pair) post(i int, signer verify.Signer, kind, version, endpoint, method string, arg []byte) ([]byte, [32]byte) {
	p.t.Helper()
	p.nonce++
	r := &verify.Request{
		Type: kind, Canister: p.canisters[i], Method: method, Arg: arg,
		Nonce: binary.BigEndian.AppendUint64(nil, p.nonce), IngressExpiry: p.now().Add(4 * time.Minute),
	}
	envelope, id, err := r.Sign(signer)
	if err != nil {
		p.t.Fatal(err)
	}
	url := fmt.Sprintf("http://local/api/%s/canister/%s/%s", version, p.canisters[i], endpoint)
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, bytes.NewReader(envelope))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/cbor")
	resp, err := p.http.RoundTrip(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		p.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		p.t.Fatalf("%s: status %d: %s", method, resp.StatusCode, body.String())
	}
	return body.Bytes(), id
}

func newSigner(t *testing.T) verify.Signer {
	t.Helper()
	id, err := identity.NewRandomEd25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func principalOf(s verify.Signer) verify.Principal { return verify.SelfAuthenticating(s.PublicKey()) }
