package room

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/examples/localnet/candid"
	"github.com/icws-gateway/caddy-icws/verify"
)

// kinds are the canisters that each test runs against. With the build tag e2e
// there is the compiled one as well.
var kinds = map[string]func(t *testing.T) localnet.Canister{
	"go": func(*testing.T) localnet.Canister { return New() },
}

// each runs a test against every kind of canister, on a network of its own.
func each(t *testing.T, test func(w *world)) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			began := time.Now().Truncate(time.Second)
			// An update takes two seconds, and so does a call of the canister. Time moves by Advance alone.
			n, err := localnet.New(localnet.Options{Latency: updateTime, Now: func() time.Time { return began }})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { n.Close() })
			w := &world{T: t, net: n, gateway: newSigner(t)}
			w.canister = n.Install(kind(t))
			if w.authority, err = verify.NewAuthority(n.RootKey()); err != nil {
				t.Fatal(err)
			}
			test(w)
		})
	}
}

const updateTime = 2 * time.Second

// world is a network with the canister, and a gateway that polls it.
type world struct {
	*testing.T
	net       *localnet.Network
	canister  verify.Principal
	authority *verify.Authority
	gateway   verify.Signer
	next      uint64 // nonce of the next message of the queue
	calls     uint64 // makes each envelope another one
	people    []*person
}

// person is a client.
type person struct {
	w        *world
	signer   verify.Signer
	key      verify.ClientKey
	sequence uint64
	inbox    []string // what they were told, see describe
	last     candid.Variant
}

func newSigner(t *testing.T) verify.Signer {
	t.Helper()
	id, err := identity.NewRandomEd25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// join opens a connection of somebody new.
func (w *world) join() *person {
	w.Helper()
	p := &person{w: w, signer: newSigner(w.T)}
	who, err := verify.PrincipalFromBytes(p.signer.Sender().Raw)
	if err != nil {
		w.Fatal(err)
	}
	p.key.Principal = who
	w.people = append(w.people, p)
	p.open()
	return p
}

// open opens another connection of the same person.
func (p *person) open() {
	p.w.Helper()
	p.key.Nonce++
	p.sequence = 0
	gateway, err := verify.PrincipalFromBytes(p.w.gateway.Sender().Raw)
	if err != nil {
		p.w.Fatal(err)
	}
	p.w.submit(p.signer, "ws_open", verify.AppendOpenArg(nil, p.key.Nonce, gateway))
	p.w.wait()
}

// send sends a message, which takes effect with the next update time.
func (p *person) send(payload []byte) {
	p.w.Helper()
	p.sequence++
	p.w.submit(p.signer, "ws_message", verify.AppendMessageArg(nil, &verify.WebsocketMessage{Client: p.key, Sequence: p.sequence, Content: payload}))
}

// ask sends a request and waits until everything that follows from it is there.
func (p *person) ask(name string, fields map[string]any) {
	p.w.Helper()
	p.send(request1(name, fields))
	p.w.wait()
	p.w.wait() // a call of the canister
}

func request1(name string, fields map[string]any) []byte {
	if fields == nil {
		return candid.Encode(candid.Case(name, nil))
	}
	return candid.Encode(candid.Case(name, candid.Fields(fields)))
}

// told takes what somebody was told since the last time.
func (p *person) told() string {
	defer func() { p.inbox = nil }()
	return strings.Join(p.inbox, "; ")
}

// want compares what somebody was told.
func (p *person) want(text string) {
	p.w.Helper()
	if got := p.told(); got != text {
		p.w.Errorf("told %q, not %q", got, text)
	}
}

// wait lets an update time pass, and fetches what there is then.
func (w *world) wait() {
	w.Helper()
	w.net.Advance(updateTime)
	w.poll()
}

// submit sends an update and does not wait for its outcome.
func (w *world) submit(signer verify.Signer, method string, arg []byte) *verify.Request {
	w.Helper()
	w.calls++
	r := &verify.Request{Type: verify.RequestCall, Canister: w.canister, Method: method, Arg: arg, IngressExpiry: w.net.Now().Add(time.Minute + time.Duration(w.calls))}
	status, body := w.post(signer, r, "v2", "call")
	if status != http.StatusAccepted {
		w.Fatalf("%s: %d %q", method, status, body)
	}
	return r
}

func (w *world) post(signer verify.Signer, r *verify.Request, version, endpoint string) (int, []byte) {
	w.Helper()
	envelope, _, err := r.Sign(signer)
	if err != nil {
		w.Fatal(err)
	}
	req, err := http.NewRequestWithContext(w.Context(), http.MethodPost, fmt.Sprintf("http://local/api/%s/canister/%s/%s", version, w.canister, endpoint), bytes.NewReader(envelope))
	if err != nil {
		w.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/cbor")
	resp, err := w.net.RoundTripper().RoundTrip(req)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	return resp.StatusCode, body
}

// poll fetches and verifies all that is new in the queue, as a gateway does, and sorts it by recipient.
func (w *world) poll() {
	w.Helper()
	for {
		r := &verify.Request{Type: verify.RequestQuery, Canister: w.canister, Method: "ws_get_messages", Arg: verify.AppendPollArg(nil, w.next), IngressExpiry: w.net.Now().Add(time.Minute)}
		_, body := w.post(w.gateway, r, "v2", "query")
		q, err := verify.ParseQueryReply(body)
		if err != nil || !q.Replied {
			w.Fatalf("polling: %v %+v", err, q)
		}
		var reply verify.Reply
		if err := reply.Decode(q.Arg); err != nil || reply.Failed {
			w.Fatalf("polling: %v %s", err, reply.Err)
		}
		if len(reply.Messages) == 0 {
			return
		}
		gateway, err := verify.PrincipalFromBytes(w.gateway.Sender().Raw)
		if err != nil {
			w.Fatal(err)
		}
		page, err := w.authority.Page(&reply, verify.Want{Canister: w.canister, Gateway: gateway, Nonce: w.next}, w.net.Now())
		if err != nil {
			w.Fatal(err)
		}
		for i := range page.Messages {
			m := &page.Messages[i]
			w.next = m.Nonce + 1
			j := slices.IndexFunc(w.people, func(p *person) bool { return p.key == m.Client })
			if j >= 0 {
				w.people[j].receive(m)
			}
		}
	}
}

func (p *person) receive(m *verify.PageMessage) {
	p.w.Helper()
	if m.Service {
		s, err := verify.DecodeServiceMessage(m.Payload)
		if err != nil {
			p.w.Fatal(err)
		}
		if s.Kind == verify.ServiceClose {
			p.inbox = append(p.inbox, "closed")
		}
		return
	}
	v, err := candid.Read(m.Payload)
	if err != nil {
		p.w.Fatalf("%v: %x", err, m.Payload)
	}
	event, ok := v.(candid.Variant)
	if !ok {
		p.w.Fatalf("not a variant: %x", m.Payload)
	}
	p.last = event
	p.inbox = append(p.inbox, p.describe(event))
}

// describe is what somebody was told in words: room 1 is the first one they hear of, people are numbered as they came.
func (p *person) describe(event candid.Variant) string {
	number := func(name string) uint64 { return p.field(event, name).(uint64) }
	name := func(v any) string {
		who := v.(verify.Principal)
		for i, other := range p.w.people {
			if other.key.Principal == who {
				return string(rune('A' + i))
			}
		}
		return "?"
	}
	switch event.ID {
	case candid.ID("room"):
		members := ""
		for _, who := range p.field(event, "members").([]any) {
			members += name(who)
		}
		return fmt.Sprintf("room epoch %d of %s: %s", number("epoch"), name(p.field(event, "owner")), members)
	case candid.ID("left"):
		return "left"
	case candid.ID("key"):
		return fmt.Sprintf("key of epoch %d", number("epoch"))
	case candid.ID("said"):
		return fmt.Sprintf("%s said %d in epoch %d: %s", name(p.field(event, "sender")), number("counter"), number("epoch"), p.field(event, "ciphertext"))
	case candid.ID("refused"):
		return fmt.Sprintf("%s refused: %s", p.field(event, "request"), p.field(event, "reason"))
	}
	p.w.Fatalf("told something else: %+v", event)
	return ""
}

func (p *person) field(event candid.Variant, name string) any {
	p.w.Helper()
	r, ok := event.Value.(candid.Record)
	if !ok {
		p.w.Fatalf("not a record: %+v", event)
	}
	return r[candid.ID(name)]
}

// number is a field of what somebody was told last.
func (p *person) number(name string) uint64 {
	p.w.Helper()
	n, ok := p.field(p.last, name).(uint64)
	if !ok {
		p.w.Fatalf("no number %s in %+v", name, p.last)
	}
	return n
}
