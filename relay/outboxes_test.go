package relay_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// Clients that do not read share one bound. Those that wait for the most are closed first, the others and those that read notice
// nothing, and in the end nothing is counted any more.
func TestOutboxesHaveABoundTogether(t *testing.T) {
	const limit, stalled, piece = 4 << 20, 40, 20 << 10
	inBubble(t, rigOptions{config: func(c *relay.Config) {
		c.WriteTimeout, c.PingInterval, c.PongTimeout = 10*time.Minute, time.Hour, 30*time.Minute
	}}, func(t *testing.T, r *rig) {
		r.gateway.SetOutboxMemory(limit)
		modest, honest := r.openRaw(), r.open()
		var greedy []*client.Raw
		for range stalled {
			greedy = append(greedy, r.openRaw())
		}
		r.push(modest, []byte("one small message"), []byte("and another"))
		chunk := bytes.Repeat([]byte("x"), piece)
		most := int64(0)
		for i := range 25 {
			r.cdk.Do(func(ctx *localnet.AppContext) {
				for _, c := range greedy {
					ctx.Send(c.Composer().Key().Principal, chunk) // errors once it is gone
				}
			})
			r.echo(honest, fmt.Sprint(i))
			for range 20 {
				most = max(most, r.gateway.OutboxMemory())
				time.Sleep(10 * time.Millisecond)
			}
		}
		if most > limit || most < limit/2 {
			t.Errorf("up to %d bytes waited, want up to %d", most, limit)
		}
		for _, want := range []string{"one small message", "and another"} {
			if _, frame, err := modest.Read(t.Context()); err != nil || !bytes.Contains(frame, []byte(want)) {
				t.Errorf("the client with the smallest outbox read %d bytes and %v, want %q", len(frame), err, want)
			}
		}
		for _, c := range greedy {
			c.Close()
		}
		time.Sleep(time.Minute)
		if n := r.gateway.OutboxMemory(); n != 0 {
			t.Errorf("%d bytes are counted when nothing waits", n)
		}
		r.echo(honest, "after")
		if !r.logged("slow_consumer") {
			t.Error("the log does not say that clients were slow")
		}
	})
}

// What ended sessions still have to write is not made room for at the cost of those that are open.
func TestOutboxesOfEndedSessionsGoFirst(t *testing.T) {
	const limit, people, piece = 4 << 20, 8, 100 << 10
	inBubble(t, rigOptions{config: func(c *relay.Config) {
		c.WriteTimeout, c.PingInterval, c.PongTimeout = 10*time.Minute, time.Hour, 30*time.Minute
	}}, func(t *testing.T, r *rig) {
		r.gateway.SetOutboxMemory(limit)
		modest := r.openRaw()
		r.push(modest, []byte("one small message"), []byte("and another"))
		chunk := bytes.Repeat([]byte("x"), piece)
		var greedy []client.Options
		for range people {
			o := r.person()
			greedy = append(greedy, o)
			raw := r.openingRaw(o)
			if _, _, err := raw.Read(t.Context()); err != nil { // OpenMessage
				t.Fatal(err)
			}
			r.push(raw, chunk, chunk, chunk, chunk)
		}
		time.Sleep(time.Second)
		for _, o := range greedy {
			r.openingRaw(o) // replaces the one that reads nothing
		}
		time.Sleep(time.Second)
		if n := r.gateway.OutboxMemory(); n < people*4*piece/2 {
			t.Fatalf("%d bytes wait, the sessions that were replaced should still write", n)
		}
		large := r.openRaw()
		r.push(large, chunk, chunk, chunk, chunk, chunk, chunk, chunk, chunk, chunk)
		time.Sleep(time.Second)
		if n := r.gateway.OutboxMemory(); n > limit {
			t.Errorf("%d bytes wait, want up to %d", n, limit)
		}
		for _, c := range []*client.Raw{modest, large} {
			for range 2 {
				if _, _, err := c.Read(t.Context()); err != nil {
					t.Errorf("a client that is connected lost its messages: %v", err)
				}
			}
		}
	})
}
