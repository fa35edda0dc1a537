package localnet

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

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
