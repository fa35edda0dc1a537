package localnet

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

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
