package localnet

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aviate-labs/agent-go/certification"
	"github.com/aviate-labs/agent-go/certification/hashtree"
	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/verify"
)

// desk is a network with one CDK canister, one gateway and helpers that speak
// for clients.
type desk struct {
	*testing.T
	net      *Network
	cdk      *CDK
	canister verify.Principal
	gateway  *identity.Ed25519Identity
}

func newDesk(t *testing.T, o CDKOptions) *desk {
	// A clock that Advance moves and a busy machine does not, or a slow run would pass a tick by itself. It stands still but
	// for a microsecond each time it is read, which keeps equal requests apart.
	began, reads := time.Now(), new(atomic.Int64)
	now := func() time.Time { return began.Add(time.Duration(reads.Add(1)) * time.Microsecond) }
	d := &desk{T: t, net: newNetwork(t, Options{Now: now}), cdk: NewCDK(o), gateway: newIdentity(t)}
	d.canister = d.net.Install(d.cdk)
	return d
}

func (d *desk) open(who identity.Identity, nonce uint64) string {
	d.Helper()
	return ws(d, d.net, who, d.canister, "ws_open", verify.AppendOpenArg(nil, nonce, principalOf(d.gateway)))
}

func (d *desk) send(who identity.Identity, nonce, sequence uint64, service bool, payload []byte) string {
	d.Helper()
	return ws(d, d.net, who, d.canister, "ws_message", verify.AppendMessageArg(nil, &verify.WebsocketMessage{
		Client: key(who, nonce), Sequence: sequence, Timestamp: 1, Service: service, Content: payload,
	}))
}

func (d *desk) close(gateway identity.Identity, k verify.ClientKey) string {
	d.Helper()
	return ws(d, d.net, gateway, d.canister, "ws_close", verify.AppendCloseArg(nil, k))
}

func (d *desk) poll(nonce uint64) *verify.Reply {
	d.Helper()
	return poll(d, d.net, d.gateway, d.canister, nonce)
}

func key(who identity.Identity, nonce uint64) verify.ClientKey {
	return verify.ClientKey{Principal: principalOf(who), Nonce: nonce}
}

// proven checks a page the way a client does, with agent-go: certificate,
// certified data, witness, leaves, keys in order from the nonce first.
func (d *desk) proven(r *verify.Reply, first uint64) {
	d.Helper()
	tree := decodeTree(d, r.Tree)
	root := tree.Reconstruct()
	if err := certification.VerifyCertifiedData(parseCertificate(d, r.Cert), raw(d.canister), d.net.RootKey(), root[:]); err != nil {
		d.Fatal(err)
	}
	for i, m := range r.Messages {
		if want := messageKey(principalOf(d.gateway), first+uint64(i)); string(m.Key) != want {
			d.Fatalf("key %s, want %s", m.Key, want)
		}
		leaf, err := hashtree.Lookup(tree, label("websocket"), hashtree.Label(m.Key))
		if want := sha256.Sum256(m.Content); err != nil || !bytes.Equal(leaf, want[:]) {
			d.Fatalf("leaf %x, %v", leaf, err)
		}
	}
}

func (d *desk) wantText(got, want string) {
	d.Helper()
	if got != want {
		d.Errorf("answer %q, want %q", got, want)
	}
}

func TestConversation(t *testing.T) {
	for _, motoko := range []bool{false, true} {
		t.Run(fmt.Sprintf("motoko=%v", motoko), func(t *testing.T) {
			d := newDesk(t, CDKOptions{Motoko: motoko})
			who := newIdentity(t)
			if r := d.poll(0); len(r.Messages) != 0 || len(r.Cert) != 0 || len(r.Tree) != 0 || !r.EndOfQueue {
				t.Fatalf("page of an unknown gateway: %+v", r)
			}
			d.wantText(d.open(who, 1), "")
			for i := range 3 {
				d.wantText(d.send(who, 1, uint64(i+1), false, []byte{byte(i)}), "")
			}
			r := d.poll(0)
			if len(r.Messages) != 4 || !r.EndOfQueue {
				t.Fatalf("%+v", r)
			}
			d.proven(r, 0)
			if s := service(t, r.Messages[0]); s.Kind != verify.ServiceOpen || s.Client != key(who, 1) {
				t.Fatalf("%+v", s)
			}
			for i, m := range r.Messages {
				if tagged := bytes.HasPrefix(m.Content, []byte(selfDescribe)); tagged == motoko {
					t.Errorf("content tagged: %v", tagged)
				}
				w := message(t, m)
				if w.Sequence != uint64(i+1) || w.Client != key(who, 1) || m.Client != w.Client {
					t.Errorf("%+v", w)
				}
				if i > 0 && !bytes.Equal(w.Content, []byte{byte(i - 1)}) {
					t.Errorf("echo %d is %x", i, w.Content)
				}
			}
			r = d.poll(2)
			if len(r.Messages) != 2 {
				t.Fatalf("%+v", r)
			}
			d.proven(r, 2)
			if r := d.poll(4); len(r.Messages) != 0 || !r.EndOfQueue {
				t.Fatalf("%+v", r)
			}
			d.wantText(d.close(d.gateway, key(who, 1)), "")
			if c := d.cdk.Clients(); len(c) != 0 {
				t.Errorf("clients %v", c)
			}
		})
	}
}

func TestErrorTexts(t *testing.T) {
	d := newDesk(t, CDKOptions{})
	who, other, stranger := newIdentity(t), newIdentity(t), newIdentity(t)
	p := principalOf(who).String()
	anonymous := content(d.net, identity.AnonymousIdentity{}, "call", d.canister, "ws_open", verify.AppendOpenArg(nil, 1, principalOf(d.gateway)))
	reply := post(t, d.net, canisterPath("v4", d.canister, "call"), envelope(t, anonymous, nil, nil)).decode(t)
	_, out := outcome(t, d.net, reply.Certificate, d.canister, requestID(t, anonymous))
	text, _, err := verify.DecodeResult(out)
	if err != nil {
		t.Fatal(err)
	}
	d.wantText(text, "Anonymous principal is not allowed")

	d.wantText(d.send(who, 1, 1, false, []byte("x")), "Client with principal "+p+" doesn't have an open connection")
	d.wantText(d.close(stranger, key(who, 1)), "Gateway with principal "+principalOf(stranger).String()+" is not registered")
	d.wantText(d.open(who, 1), "")
	d.wantText(d.open(who, 1), "Client with key "+p+"_1 already has an open connection")
	d.wantText(d.send(who, 2, 1, false, []byte("x")), "Client with principal "+p+" has a different key than the one used in the message")
	d.wantText(d.close(d.gateway, key(other, 1)), "Client with key "+key(other, 1).String()+" doesn't have an open connection")
	d.wantText(d.send(who, 1, 1, true, appendAckMessage(nil, 1)), "Invalid service message")
	if got := d.send(who, 1, 2, true, []byte("x")); !strings.HasPrefix(got, "Error decoding service message content: ") {
		t.Errorf("%q", got)
	}
	// Both consumed a sequence number.
	d.wantText(d.send(who, 1, 3, false, []byte("x")), "")

	// A second gateway with a client of its own cannot close the first's.
	gateway2 := newIdentity(t)
	d.wantText(ws(t, d.net, other, d.canister, "ws_open", verify.AppendOpenArg(nil, 1, principalOf(gateway2))), "")
	d.wantText(d.close(gateway2, key(who, 1)), "Client with key "+p+"_1 was not registered to gateway "+principalOf(gateway2).String())

	d.wantText(d.send(who, 1, 7, false, []byte("x")), "Expected incoming sequence number 4 but got 7")
	r := d.poll(0)
	if s := service(t, r.Messages[len(r.Messages)-1]); s.Kind != verify.ServiceClose || s.Reason != verify.ReasonWrongSequenceNumber {
		t.Errorf("%+v", s)
	}
	d.wantText(d.send(who, 1, 4, false, []byte("x")), "Client with principal "+p+" doesn't have an open connection")
}

func TestReopenReplacesSilently(t *testing.T) {
	d := newDesk(t, CDKOptions{})
	who := newIdentity(t)
	d.wantText(d.open(who, 1), "")
	d.wantText(d.open(who, 2), "")
	r := d.poll(0)
	if len(r.Messages) != 2 {
		t.Fatalf("%d messages", len(r.Messages))
	}
	for i, m := range r.Messages {
		if s := service(t, m); s.Kind != verify.ServiceOpen || s.Client != key(who, uint64(i+1)) || message(t, m).Sequence != 1 {
			t.Errorf("message %d: %+v", i, s)
		}
	}
	if c := d.cdk.Clients(); len(c) != 1 || c[0].Key != key(who, 2) {
		t.Errorf("%+v", c)
	}
}

func TestPages(t *testing.T) {
	for _, motoko := range []bool{false, true} {
		d := newDesk(t, CDKOptions{Motoko: motoko})
		who := newIdentity(t)
		d.wantText(d.open(who, 1), "")
		d.cdk.Do(func(ctx *AppContext) {
			for i := range 119 {
				if err := ctx.Send(principalOf(who), []byte{byte(i)}); err != nil {
					t.Error(err)
				}
			}
		})
		var next uint64
		for _, want := range []int{50, 50, 20} {
			r := d.poll(next)
			if len(r.Messages) != want || r.EndOfQueue != (want == 20) {
				t.Fatalf("%d messages, end %v", len(r.Messages), r.EndOfQueue)
			}
			d.proven(r, next)
			next += uint64(want)
		}
	}
}

// Messages are deleted by later sends, five at a time, when they are older than
// the acknowledgement interval, so that a new poller starts above nonce 0.
func TestRetention(t *testing.T) {
	d := newDesk(t, CDKOptions{})
	who := newIdentity(t)
	d.wantText(d.open(who, 1), "")
	send := func(n int) {
		d.cdk.Do(func(ctx *AppContext) {
			for range n {
				if err := ctx.Send(principalOf(who), []byte("x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	queue := func(first, next uint64) {
		t.Helper()
		if f, n, ok := d.cdk.Queue(principalOf(d.gateway)); !ok || f != first || n != next {
			t.Errorf("queue %d to %d, want %d to %d", f, n, first, next)
		}
	}
	send(19)
	queue(0, 20)
	d.net.Advance(299 * time.Second)
	send(1)
	queue(0, 21)
	d.net.Advance(2 * time.Second) // with the tick at 300 s
	queue(0, 22)
	send(1)
	queue(5, 23)
	r := d.poll(0)
	d.proven(r, 5)
	send(2)
	queue(15, 25)
	d.proven(d.poll(0), 15)
}

// The clock of acknowledgements: everybody at once at the multiples of the
// interval, silent clients gone a minute later, queues without clients dropped
// at the first check more than an interval after their end.
func TestAcksAndKeepAlive(t *testing.T) {
	d := newDesk(t, CDKOptions{})
	loyal, silent, late := newIdentity(t), newIdentity(t), newIdentity(t)
	d.wantText(d.open(loyal, 1), "")
	d.wantText(d.open(silent, 1), "")
	d.wantText(d.send(loyal, 1, 1, false, []byte("x")), "")
	d.net.Advance(299 * time.Second)
	if r := d.poll(0); len(r.Messages) != 3 {
		t.Fatalf("%d messages before the tick", len(r.Messages))
	}
	d.net.Advance(time.Second)
	r := d.poll(3)
	if len(r.Messages) != 2 {
		t.Fatalf("%d messages at the tick", len(r.Messages))
	}
	for i, last := range []uint64{1, 0} {
		if s := service(t, r.Messages[i]); s.Kind != verify.ServiceAck || s.LastIncoming != last {
			t.Errorf("%+v, want an ack of %d", s, last)
		}
	}
	d.net.Advance(10 * time.Second)
	d.wantText(d.send(loyal, 1, 2, true, verify.AppendKeepAlive(nil, 2)), "")
	d.wantText(d.open(late, 1), "") // after the tick: not asked for a sign of life
	d.net.Advance(50 * time.Second)
	r = d.poll(6)
	if len(r.Messages) != 1 {
		t.Fatalf("%d messages at the check", len(r.Messages))
	}
	if s := service(t, r.Messages[0]); s.Kind != verify.ServiceClose || s.Reason != verify.ReasonKeepAliveTimeout || r.Messages[0].Client != key(silent, 1) {
		t.Errorf("%+v", s)
	}
	if c := d.cdk.Clients(); len(c) != 2 {
		t.Errorf("%+v", c)
	}

	// The end of the queue: now = 360 s after the start, checks at 660 and 960.
	d.wantText(d.close(d.gateway, key(loyal, 1)), "")
	d.wantText(d.close(d.gateway, key(late, 1)), "")
	d.net.Advance(300 * time.Second) // 660 s: exactly the interval, not more
	if len(d.cdk.Gateways()) != 1 {
		t.Fatal("dropped too early")
	}
	d.net.Advance(300 * time.Second) // 960 s
	if g := d.cdk.Gateways(); len(g) != 0 {
		t.Fatalf("queues %v", g)
	}
	// A stale nonce hides what the next client is sent.
	d.wantText(d.open(loyal, 2), "")
	if r := d.poll(7); len(r.Messages) != 0 {
		t.Fatal("the nonce did not restart")
	}
	d.proven(d.poll(0), 0)
	// The timer rested; it wakes on its old beat: the next tick is at 1200 s.
	d.net.Advance(239 * time.Second)
	if r := d.poll(0); len(r.Messages) != 1 {
		t.Fatalf("%d messages", len(r.Messages))
	}
	d.net.Advance(time.Second)
	if r := d.poll(0); len(r.Messages) != 2 {
		t.Fatalf("%d messages", len(r.Messages))
	}
}

func TestReturnCallsOffTheEndOfAQueue(t *testing.T) {
	d := newDesk(t, CDKOptions{})
	who := newIdentity(t)
	d.wantText(d.open(who, 1), "")
	d.wantText(d.close(d.gateway, key(who, 1)), "")
	d.net.Advance(350 * time.Second)
	d.wantText(d.open(who, 2), "")
	d.net.Advance(20 * time.Second) // past the check at 360 s
	if first, next, ok := d.cdk.Queue(principalOf(d.gateway)); !ok || next != 2 {
		t.Errorf("queue %d to %d, %v", first, next, ok)
	}
}

// A tick that falls due while the canister is stopped waits for its start.
func TestTicksWaitForAStoppedCanister(t *testing.T) {
	d := newDesk(t, CDKOptions{})
	d.wantText(d.open(newIdentity(t), 1), "")
	if err := d.net.Stop(d.canister); err != nil {
		t.Fatal(err)
	}
	d.net.Advance(310 * time.Second)
	if err := d.net.StartCanister(d.canister); err != nil {
		t.Fatal(err)
	}
	d.net.Advance(time.Second)
	// The OpenMessage is old by then: the send of the ack deleted it.
	if r := d.poll(0); len(r.Messages) != 1 || service(t, r.Messages[0]).Kind != verify.ServiceAck {
		t.Fatalf("%d messages", len(r.Messages))
	}
}

func TestNoAcks(t *testing.T) {
	d := newDesk(t, CDKOptions{NoAcks: true})
	d.wantText(d.open(newIdentity(t), 1), "")
	d.net.Advance(time.Hour)
	if r := d.poll(0); len(r.Messages) != 1 {
		t.Fatalf("%d messages", len(r.Messages))
	}
}

// In a bubble the timers of a canister run on the bubble's clock, and closing
// the network is all that it takes to end them.
func TestSynctest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := New(Options{Latency: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		cdk := NewCDK(CDKOptions{})
		id := n.Install(cdk)
		who, gateway := newIdentity(t), newIdentity(t)
		start := time.Now()
		if text := ws(t, n, who, id, "ws_open", verify.AppendOpenArg(nil, 1, principalOf(gateway))); text != "" {
			t.Fatal(text)
		}
		if took := time.Since(start); took < 900*time.Millisecond || took > time.Second {
			t.Errorf("took %s", took)
		}
		time.Sleep(5 * time.Minute)
		if r := poll(t, n, gateway, id, 0); len(r.Messages) != 2 {
			t.Errorf("%d messages", len(r.Messages))
		}
		time.Sleep(time.Minute)
		if c := cdk.Clients(); len(c) != 0 {
			t.Errorf("%+v", c)
		}
	})
}

// A Motoko canister awaits the removal of a client, and then takes away whichever its principal has: a ws_close and a newer ws_open
// in one block can leave the newer client registered and unusable. In Rust each is one message.
func TestCloseAndOpenInOneBlock(t *testing.T) {
	t.Parallel()
	for _, motoko := range []bool{false, true} {
		t.Run(fmt.Sprintf("motoko=%v", motoko), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := &desk{T: t, cdk: NewCDK(CDKOptions{Motoko: motoko}), gateway: newIdentity(t)}
				var err error
				if d.net, err = New(Options{Latency: time.Second}); err != nil {
					t.Fatal(err)
				}
				defer d.net.Close()
				d.canister = d.net.Install(d.cdk)
				const people = 40
				unusable := 0
				for range people {
					who := newIdentity(t)
					d.wantText(d.open(who, 1), "")
					var both sync.WaitGroup
					both.Go(func() { d.close(d.gateway, key(who, 1)) })
					both.Go(func() { d.wantText(d.open(who, 2), "") })
					both.Wait()
					if d.send(who, 2, 1, false, []byte("x")) != "" {
						unusable++
					}
				}
				if n := len(d.cdk.Clients()); n != people {
					t.Errorf("%d clients are registered, want %d", n, people)
				}
				if motoko != (unusable > 0) {
					t.Errorf("%d clients cannot send", unusable)
				}
			})
		})
	}
}

// crash traps on the payload "trap" after it has sent something, and counts the
// calls it lived through.
type crash struct {
	NoCallbacks
	onOpen bool
	panics bool
}

func (a crash) OnOpen(ctx *AppContext, client verify.Principal) error {
	if a.onOpen {
		return errors.New("no")
	}
	return nil
}

func (a crash) OnMessage(ctx *AppContext, client verify.Principal, payload []byte) error {
	if err := ctx.Send(client, payload); err != nil {
		return err
	}
	if string(payload) != "trap" {
		return nil
	}
	if a.panics {
		panic("panicked")
	}
	return errors.New("trapped")
}

// A trap in Rust undoes the message, so that the sequence number it used is
// free again and the client's next one is wrong; in Motoko the number is used.
func TestTraps(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		motoko, panics bool
		next           uint64
	}{{false, false, 2}, {false, true, 2}, {true, false, 3}, {true, true, 3}} {
		t.Run(fmt.Sprintf("%+v", tt), func(t *testing.T) {
			d := newDesk(t, CDKOptions{App: crash{panics: tt.panics}, Motoko: tt.motoko})
			who := newIdentity(t)
			d.wantText(d.open(who, 1), "")
			d.wantText(d.send(who, 1, 1, false, []byte("fine")), "")
			before := d.poll(0)

			c := content(d.net, who, "call", d.canister, "ws_message", verify.AppendMessageArg(nil, &verify.WebsocketMessage{Client: key(who, 1), Sequence: 2, Content: []byte("trap")}))
			r := post(t, d.net, canisterPath("v4", d.canister, "call"), envelope(t, c, who, nil)).decode(t)
			if status, _ := outcome(t, d.net, r.Certificate, d.canister, requestID(t, c)); status != "rejected" {
				t.Fatalf("a trap is %s", status)
			}
			if got := d.cdk.Clients()[0]; got.Incoming != tt.next || got.Outgoing != 2 {
				t.Errorf("%+v, want %d expected", got, tt.next)
			}
			after := d.poll(0)
			if len(after.Messages) != len(before.Messages) || !bytes.Equal(after.Tree, before.Tree) {
				t.Error("a message of the trapped callback stayed")
			}
			d.proven(after, 0)
			d.wantText(d.send(who, 1, tt.next, false, []byte("fine")), "")
			d.proven(d.poll(0), 0)
		})
	}
}

func TestTrapInOnOpen(t *testing.T) {
	d := newDesk(t, CDKOptions{App: crash{onOpen: true}})
	who := newIdentity(t)
	c := content(d.net, who, "call", d.canister, "ws_open", verify.AppendOpenArg(nil, 1, principalOf(d.gateway)))
	r := post(t, d.net, canisterPath("v4", d.canister, "call"), envelope(t, c, who, nil)).decode(t)
	if status, _ := outcome(t, d.net, r.Certificate, d.canister, requestID(t, c)); status != "rejected" {
		t.Fatalf("a trap is %s", status)
	}
	if c, g := d.cdk.Clients(), d.cdk.Gateways(); len(c)+len(g) != 0 {
		t.Errorf("clients %v, gateways %v", c, g)
	}
	if r := d.poll(0); len(r.Messages) != 0 {
		t.Error("the OpenMessage stayed")
	}
}

func TestApplications(t *testing.T) {
	t.Run("ping pong", func(t *testing.T) {
		d := newDesk(t, CDKOptions{App: PingPong{}})
		who := newIdentity(t)
		d.wantText(d.open(who, 1), "")
		text := "ping"
		for i := range 5 {
			r := d.poll(uint64(i + 1))
			got, ok := ParseTextPayload(message(t, r.Messages[0]).Content)
			if !ok || got != text {
				t.Fatalf("%q, want %q", got, text)
			}
			d.wantText(d.send(who, 1, uint64(i+1), false, TextPayload(got)), "")
			text += "-pong"
		}
		d.wantText(d.send(who, 1, 6, false, TextPayload("close")), "")
		r := d.poll(7)
		if s := service(t, r.Messages[0]); s.Kind != verify.ServiceClose || s.Reason != verify.ReasonClosedByApplication {
			t.Errorf("%+v", s)
		}
		d.wantText(d.close(d.gateway, key(who, 1)), "Client with key "+key(who, 1).String()+" doesn't have an open connection")
	})
	t.Run("broadcast", func(t *testing.T) {
		d := newDesk(t, CDKOptions{App: Broadcast{}})
		a, b := newIdentity(t), newIdentity(t)
		d.wantText(d.open(a, 1), "")
		d.wantText(d.open(b, 1), "")
		d.wantText(d.send(a, 1, 1, false, []byte("all")), "")
		var to []verify.Principal
		for _, m := range d.poll(2).Messages {
			to = append(to, m.Client.Principal)
		}
		if !slices.Equal(to, []verify.Principal{principalOf(a), principalOf(b)}) {
			t.Errorf("sent to %v", to)
		}
	})
}

func TestOldInterface(t *testing.T) {
	d := newDesk(t, CDKOptions{PreEndOfQueue: true})
	d.wantText(d.open(newIdentity(t), 1), "")
	r := d.poll(0)
	if len(r.Messages) != 1 || !r.EndOfQueue { // absent counts as true
		t.Fatalf("%+v", r)
	}
	d.proven(r, 0)
}

// CDK 0.3.0 serves listed gateways only.
func TestListedGateways(t *testing.T) {
	listed := newIdentity(t)
	d := newDesk(t, CDKOptions{Gateways: []verify.Principal{principalOf(listed)}})
	who := newIdentity(t)
	d.wantText(d.open(who, 1), "no gateway registered with principal "+principalOf(d.gateway).String())
	if r := d.poll(0); !r.Failed || r.Err != "principal is not one of the authorized gateways that have been registered during CDK initialization" {
		t.Errorf("%+v", r)
	}
	d.gateway = listed
	d.wantText(d.open(who, 1), "")
	d.proven(d.poll(0), 0)
}

func TestInitTrap(t *testing.T) {
	n := newNetwork(t, Options{})
	_, err := n.TryInstall(NewCDK(CDKOptions{AckInterval: time.Minute}))
	if err == nil || !strings.Contains(err.Error(), "send_ack_interval_ms must be greater than CLIENT_KEEP_ALIVE_TIMEOUT_MS") {
		t.Fatal(err)
	}
}
