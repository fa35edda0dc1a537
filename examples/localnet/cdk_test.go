package localnet

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/verify"
)

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
