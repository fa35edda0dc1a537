package relay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// openRaw opens a session on a raw connection and returns once its OpenMessage has come.
func (r *rig) openRaw() *client.Raw {
	r.t.Helper()
	c := r.openingRaw(r.options())
	if _, _, err := c.Read(context.Background()); err != nil {
		r.t.Fatal(err)
	}
	return c
}

// push makes the canister send payloads to a client.
func (r *rig) push(c *client.Raw, payloads ...[]byte) {
	r.t.Helper()
	r.cdk.Do(func(ctx *localnet.AppContext) {
		for _, p := range payloads {
			if err := ctx.Send(c.Composer().Key().Principal, p); err != nil {
				r.t.Error(err)
			}
		}
	})
}

// A client that does not read is closed when its outbox is full; nobody else notices.
func TestStalledReaderHurtsOnlyItself(t *testing.T) {
	config := func(c *relay.Config) { c.OutboxBytes = 256 << 10 }
	t.Run("pipe", func(t *testing.T) {
		inBubble(t, rigOptions{config: config}, stall)
	})
	t.Run("socket", func(t *testing.T) { // whose buffers fill up first, and must not be larger than the test needs
		r := newRig(t, rigOptions{config: config})
		r.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				err = c.(*net.TCPConn).SetReadBuffer(4 << 10)
			}
			return c, err
		}
		stall(t, r)
	})
}

func stall(t *testing.T, r *rig) {
	stalled, honest := r.openRaw(), r.open()
	big := bytes.Repeat([]byte("x"), 64<<10)
	for i := 0; r.gateway.Snapshot().Sessions > 1; i++ {
		r.cdk.Do(func(ctx *localnet.AppContext) { ctx.Send(stalled.Composer().Key().Principal, big) }) // errors once it is gone
		r.echo(honest, fmt.Sprint(i))
	}
	r.waitFor("the log says that the client was slow", func() bool { return r.logged("slow_consumer") || r.logged("write_timeout") })
	r.echo(honest, "after")
}

// A frame that waited until its certificate is too old is not sent.
func TestStaleFramesAreNotSent(t *testing.T) {
	inBubble(t, rigOptions{config: func(c *relay.Config) {
		c.WriteTimeout, c.PingInterval, c.PongTimeout = time.Hour, 2*time.Hour, time.Hour
	}}, func(t *testing.T, r *rig) {
		c := r.openRaw()
		r.push(c, []byte("first"))
		time.Sleep(time.Second) // the pipe holds nothing: the first frame waits in the middle of its writing
		r.push(c, []byte("second"))
		time.Sleep(6*time.Minute - time.Second)
		if _, _, err := c.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, _, err := c.Read(t.Context())
		var ce *websocket.CloseError
		if !errors.As(err, &ce) || ce.Code != 1013 {
			t.Errorf("after a frame that waited for 6 minutes: %v, want 1013", err)
		}
	})
}

// While the inbox is full the socket is not read, and that is not held against the client.
func TestFullInboxHoldsTheClientBack(t *testing.T) {
	inBubble(t, rigOptions{network: localnet.Options{Latency: 3 * time.Second}}, func(t *testing.T, r *rig) {
		c := r.open()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		const n = 60
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range n {
				if err := c.Send(ctx, fmt.Append(nil, i)); err != nil {
					t.Error(err)
					return
				}
				time.Sleep(2 * time.Second) // slower than the client's write timeout allows, faster than the canister
			}
		})
		for i := range n {
			m, err := c.Receive(ctx)
			if err != nil || string(m.Payload) != fmt.Sprint(i) {
				t.Fatalf("message %d: %q, %v", i, m.Payload, err)
			}
		}
		wg.Wait()
	})
}

// A page too large for a reply costs the clients whose messages it holds, and nobody else.
func TestOversizedPage(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		glutton, honest := r.openRaw(), r.open()
		r.echo(honest, "before")
		var block atomic.Bool
		block.Store(true)
		r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
			return localnet.Fault{Drop: block.Load() && q.Endpoint == "query"}
		})
		time.Sleep(time.Second)
		var heap [][]byte
		for range 45 {
			heap = append(heap, bytes.Repeat([]byte("x"), 100<<10))
		}
		r.push(glutton, heap...)
		block.Store(false)
		r.echo(honest, "after")
		if !r.logged("messages are skipped") {
			t.Error("nothing was skipped: the page was not too large, so this test shows nothing")
		}
		ce := readClose(t, glutton)
		if ce.Code != 1011 || !strings.Contains(ce.Text, "missing") {
			t.Errorf("the client of the large messages was closed with %d %q", ce.Code, ce.Text)
		}
	})
}

// An ack tick queues a message for every client at one instant; the pages are fetched back to back.
func TestAckBurst(t *testing.T) {
	const clients, roundTrip = 500, 50 * time.Millisecond
	inBubble(t, rigOptions{config: pollByDefault}, func(t *testing.T, r *rig) {
		var got atomic.Int64
		for range clients {
			c := r.openRaw()
			go func() {
				if _, _, err := c.Read(context.Background()); err == nil {
					got.Add(1)
				}
			}()
		}
		r.network.SetFaults(func(*localnet.Request) localnet.Fault { return localnet.Fault{ReplyDelay: roundTrip} })
		time.Sleep(time.Minute) // polling has slowed down
		began := time.Now()
		r.cdk.Do(func(ctx *localnet.AppContext) {
			for _, p := range ctx.Clients() {
				ctx.Send(p, []byte("tick"))
			}
		})
		for got.Load() < clients {
			time.Sleep(10 * time.Millisecond)
			if time.Since(began) > time.Minute {
				t.Fatalf("only %d of %d after a minute", got.Load(), clients)
			}
		}
		// 10 pages one after the other, and the idle interval before the first.
		limit := clients/50*roundTrip + relay.DefaultPollIdleInterval + 5*roundTrip
		if took := time.Since(began); took > limit {
			t.Errorf("%d pages took %s, want %s at most", clients/50, took, limit)
		}
	})
}

// With several boundary nodes, one that fails costs nobody anything, and it is used again when it is back.
func TestFailover(t *testing.T) {
	config := func(c *relay.Config) {
		c.Hosts = nil
		for _, host := range []string{"a.test", "b.test", "c.test"} {
			c.Hosts = append(c.Hosts, &url.URL{Scheme: "http", Host: host})
		}
	}
	inBubble(t, rigOptions{config: config}, func(t *testing.T, r *rig) {
		hosts := r.gateway.Snapshot().Hosts
		bad := "http://" + hosts[0].Host
		var asked, broken atomic.Int64
		var healed atomic.Bool
		r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
			if q.Boundary != bad {
				return localnet.Fault{}
			}
			asked.Add(1)
			if healed.Load() {
				return localnet.Fault{}
			}
			broken.Add(1)
			return localnet.Fault{Status: 502}
		})
		c := r.open()
		for i := range 50 {
			r.echo(c, fmt.Sprint(i))
		}
		if broken.Load() == 0 {
			t.Fatal("the broken host was never asked: this test shows nothing")
		}
		if n := broken.Load(); n > 20 {
			t.Errorf("the broken host was asked %d times", n)
		}
		healed.Store(true)
		before := asked.Load()
		r.waitFor("the host is used again", func() bool { return asked.Load() > before+5 })
		for _, h := range r.gateway.Snapshot().Hosts {
			if !h.Healthy {
				t.Errorf("host %s is still held for unhealthy: %s", h.Host, h.LastError)
			}
		}
		r.echo(c, "after")
	})
}

// A silent canister costs few requests, and a message that comes out of silence does not wait long.
func TestIdlePollingIsCheap(t *testing.T) {
	inBubble(t, rigOptions{config: pollByDefault}, func(t *testing.T, r *rig) {
		c := r.open()
		r.echo(c, "hi")
		time.Sleep(2 * time.Minute)
		var polls atomic.Int64
		r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
			polls.Add(1)
			return localnet.Fault{}
		})
		time.Sleep(time.Minute)
		if n := polls.Load(); n < 100 || n > 130 {
			t.Errorf("%d requests a minute for an idle canister, want about 120", n)
		}
	})
}

// A window above 1 is for canisters that take messages in any order; they are still submitted in order.
func TestRelayWindow(t *testing.T) {
	inBubble(t, rigOptions{
		network: localnet.Options{Latency: time.Second},
		config:  func(c *relay.Config) { c.RelayWindow = 8 },
	}, func(t *testing.T, r *rig) {
		c := r.open()
		var order []string
		var mu sync.Mutex
		r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
			if q.Endpoint == "call" && q.Method == "ws_message" {
				mu.Lock()
				order = append(order, fmt.Sprintf("%x", q.ID))
				mu.Unlock()
			}
			return localnet.Fault{}
		})
		for i := range 8 {
			if err := c.Send(t.Context(), fmt.Append(nil, i)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(500 * time.Millisecond) // less than one update takes
		mu.Lock()
		defer mu.Unlock()
		if len(order) < 2 {
			t.Errorf("%d envelopes under way, want several", len(order))
		}
	})
}

// However many large messages wait: what can be fetched is, and the canister's other clients go on.
func TestOversizedQueue(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		glutton, honest := r.openRaw(), r.open()
		r.echo(honest, "before")
		heap := make([][]byte, 300)
		for i := range heap {
			heap[i] = bytes.Repeat([]byte("x"), 100<<10)
		}
		r.push(glutton, heap...)
		r.echo(honest, "after")
		if ce := readClose(t, glutton); ce.Code != 1011 || !strings.Contains(ce.Text, "missing") {
			t.Errorf("the client of the large messages was closed with %d %q", ce.Code, ce.Text)
		}
	})
}

// A queue that begins with a page too large for a reply does not keep a gateway that starts from its head.
func TestStartBehindAnOversizedPage(t *testing.T) {
	inBubble(t, rigOptions{cdk: localnet.CDKOptions{AckInterval: 10 * time.Hour}}, func(t *testing.T, r *rig) {
		glutton := r.openRaw()
		r.network.SetFaults(func(q *localnet.Request) localnet.Fault { return localnet.Fault{Drop: q.Endpoint == "query"} })
		time.Sleep(time.Second)
		heap := make([][]byte, 60)
		for i := range heap {
			heap[i] = bytes.Repeat([]byte("x"), 100<<10)
		}
		r.push(glutton, heap...)
		glutton.Close()
		time.Sleep(5 * time.Minute) // the poller ends
		r.network.SetFaults(nil)
		if n := len(r.gateway.Snapshot().Canisters); n != 0 {
			t.Fatalf("%d canisters are polled, want a fresh start", n)
		}
		r.echo(r.open(), "hi")
	})
}

// A large message that waits for memory keeps its client from nothing else: it is we who do not read. And a session that
// ends meanwhile does not wait on.
func TestWaitingForMemory(t *testing.T) {
	o := rigOptions{config: func(c *relay.Config) { c.PingInterval, c.PongTimeout = 2*time.Second, time.Second }}
	inBubble(t, o, func(t *testing.T, r *rig) {
		c := r.open()
		giveBack := r.gateway.TakeMessageMemory()
		var sending sync.WaitGroup
		big := bytes.Repeat([]byte("x"), 100<<10)
		sending.Go(func() {
			if err := c.Send(t.Context(), big); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(15 * time.Second)
		giveBack()
		sending.Wait()
		if m, err := c.Receive(t.Context()); err != nil || !bytes.Equal(m.Payload, big) {
			t.Errorf("got %d bytes and %v", len(m.Payload), err)
		}

		defer r.gateway.TakeMessageMemory()()
		sending.Go(func() { c.Send(t.Context(), big) })
		time.Sleep(time.Second)
		began := time.Now()
		r.gateway.CloseSession(r.gateway.Sessions()[0].ID)
		for r.gateway.Snapshot().Sessions > 0 {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("a session that had ended waited for memory for %s", took)
		}
		sending.Wait()
	})
}
