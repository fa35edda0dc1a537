package relay_test

import (
	"bytes"
	"encoding/binary"
	"io"
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

// frameOf is a client's WebSocket frame, masked with zeros, as no library writes it: in the middle of a message, say.
func frameOf(final bool, opcode byte, payload []byte) []byte {
	if final {
		opcode |= 0x80
	}
	f := append([]byte{opcode, 0x80 | 127}, binary.BigEndian.AppendUint64(nil, uint64(len(payload)))...)
	switch n := len(payload); {
	case n < 126:
		f = []byte{opcode, 0x80 | byte(n)}
	case n < 1<<16:
		f = append([]byte{opcode, 0x80 | 126}, binary.BigEndian.AppendUint16(nil, uint16(n))...)
	}
	f = append(f, 0, 0, 0, 0)
	return append(f, payload...)
}

// Frames of a client that has begun a binary message.
var (
	pong        = frameOf(true, websocket.PongMessage, nil)
	emptyPiece  = frameOf(false, 0, nil)
	singleBytes = frameOf(false, 0, []byte{1})
)

func beginning(size int) []byte { return frameOf(false, websocket.BinaryMessage, make([]byte, size)) }

// unfinished writes the beginning of a message and then the frames at times, until the connection takes no more. It returns how
// the gateway closed and how long that took.
func unfinished(t *testing.T, raw *client.Raw, size int, frames ...[]byte) (*websocket.CloseError, time.Duration) {
	t.Helper()
	conn := raw.Conn().NetConn()
	conn.SetDeadline(time.Time{})
	began := time.Now()
	done := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		_, err := conn.Write(beginning(size))
		for err == nil {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Second):
			}
			_, err = conn.Write(bytes.Join(frames, nil))
		}
	})
	defer writing.Wait()
	defer raw.Close()
	defer close(done)
	for {
		_, _, err := raw.Conn().ReadMessage()
		if ce, ok := err.(*websocket.CloseError); ok {
			return ce, time.Since(began)
		}
		if err != nil || time.Since(began) > time.Hour {
			t.Fatalf("after %s: %v, want a close frame", time.Since(began), err)
		}
	}
}

// A message that does not end is not waited for, whatever its client sends meanwhile to look alive.
func TestUnfinishedMessages(t *testing.T) {
	t.Parallel()
	for name, frames := range map[string][][]byte{
		"nothing but pongs":          {pong},
		"empty pieces and pongs":     {emptyPiece, pong},
		"a byte at times":            {singleBytes},
		"bytes, empty pieces, pongs": {singleBytes, emptyPiece, pong, emptyPiece},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
				raw := r.openingRaw(r.options())
				if _, _, err := raw.Read(t.Context()); err != nil { // OpenMessage
					t.Fatal(err)
				}
				ce, took := unfinished(t, raw, 1<<20, frames...)
				if ce.Code != websocket.CloseTryAgainLater || took < time.Minute || took > 2*time.Minute+5*time.Second {
					t.Errorf("closed with %d %q after %s, want 1013 after 2 minutes", ce.Code, ce.Text, took)
				}
			})
		})
	}
}

// Who has proven nothing gets no memory to speak of.
func TestLargeMessageBeforeOpen(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		defer r.gateway.TakeMessageMemory()() // it is not even asked for
		ce, took := unfinished(t, r.raw(r.options()), 17<<10, pong)
		if ce.Code != websocket.CloseMessageTooBig || took > time.Second {
			t.Errorf("closed with %d %q after %s, want 1009 at once", ce.Code, ce.Text, took)
		}
	})
}

// However many clients stop in the middle of messages, others get theirs through.
func TestUnfinishedMessagesKeepNobodyWaiting(t *testing.T) {
	inBubble(t, rigOptions{policy: func(p *relay.Policy) { p.MaxSessionsPerIP = 0 }}, func(t *testing.T, r *rig) {
		honest := r.open()
		defer r.gateway.TakeMessageMemoryBut(8 << 20)()
		var attack sync.WaitGroup
		for range 16 {
			raw := r.openingRaw(r.options())
			if _, _, err := raw.Read(t.Context()); err != nil {
				t.Fatal(err)
			}
			attack.Go(func() {
				conn := raw.Conn().NetConn()
				conn.SetDeadline(time.Time{})
				go io.Copy(io.Discard, conn)
				if _, err := conn.Write(beginning(1<<20 - 1)); err != nil {
					return
				}
				for err := error(nil); err == nil; _, err = conn.Write(pong) {
					time.Sleep(5 * time.Second)
				}
			})
		}
		time.Sleep(10 * time.Second)
		for i := range 3 {
			began := time.Now()
			big := bytes.Repeat([]byte{byte(i)}, 100<<10)
			if err := honest.Send(t.Context(), big); err != nil {
				t.Fatal(err)
			}
			if m, err := honest.Receive(t.Context()); err != nil || !bytes.Equal(m.Payload, big) {
				t.Fatalf("message %d: %d bytes, %v", i, len(m.Payload), err)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("message %d took %s", i, took)
			}
		}
		attack.Wait()
	})
}

// The memory of a message that does not end is there for others as soon as its session has ended, not when its client has left.
func TestMemoryComesBackWithTheEnd(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		honest := r.open()
		defer r.gateway.TakeMessageMemoryBut(1 << 20)()
		raw := r.openingRaw(r.options())
		if _, _, err := raw.Read(t.Context()); err != nil { // OpenMessage
			t.Fatal(err)
		}
		conn := raw.Conn().NetConn()
		conn.SetDeadline(time.Time{})
		if _, err := conn.Write(beginning(1<<20 - 1)); err != nil { // and then nothing, not even an answer to the close frame
			t.Fatal(err)
		}
		var reading sync.WaitGroup
		reading.Go(func() { io.Copy(io.Discard, conn) })
		defer reading.Wait()
		time.Sleep(10 * time.Second)
		began := time.Now()
		big := make([]byte, 100<<10)
		if err := honest.Send(t.Context(), big); err != nil {
			t.Fatal(err)
		}
		if m, err := honest.Receive(t.Context()); err != nil || !bytes.Equal(m.Payload, big) {
			t.Fatalf("%d bytes, %v", len(m.Payload), err)
		}
		if took := time.Since(began); took > 2*time.Second { // the sweeper looks once a second
			t.Errorf("a message took %s", took)
		}
	})
}

// A client whose message waits for memory is gone soon after its session has ended, and does not wait on with what it holds. A drain
// is an end after which what had been sent is still submitted.
func TestEndOfTheWaitForMemory(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		defer r.gateway.TakeMessageMemoryBut(64 << 10)()
		raw := r.openingRaw(r.options())
		if _, _, err := raw.Read(t.Context()); err != nil { // OpenMessage
			t.Fatal(err)
		}
		conn := raw.Conn().NetConn()
		conn.SetDeadline(time.Time{})
		var both sync.WaitGroup
		both.Go(func() { conn.Write(beginning(100 << 10)) })
		both.Go(func() { io.Copy(io.Discard, conn) })
		defer both.Wait()
		time.Sleep(time.Second)
		began := time.Now()
		both.Go(func() { r.gateway.Drain(t.Context(), relay.Draining) })
		r.waitFor("the end of the session", func() bool { return len(r.gateway.Sessions()) == 0 })
		if took := time.Since(began); took > 4*time.Second { // it lingers for 3s
			t.Errorf("the session ended after %s", took)
		}
	})
}

// Two messages that have arrived in part wait for the same memory. One of them gets on.
func TestHalfReadMessagesDoNotWaitForEachOther(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		defer r.gateway.TakeMessageMemoryBut(128 << 10)()
		delivered, ended := atomic.Int64{}, atomic.Int64{}
		var both sync.WaitGroup
		for range 2 {
			raw := r.openingRaw(r.options())
			if _, _, err := raw.Read(t.Context()); err != nil { // OpenMessage
				t.Fatal(err)
			}
			message, err := raw.Composer().Message(1, false, make([]byte, 100<<10), time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			frame := frameOf(true, websocket.BinaryMessage, message)
			both.Go(func() {
				conn := raw.Conn().NetConn()
				conn.SetDeadline(time.Time{})
				conn.Write(frame[:50<<10])
				time.Sleep(time.Second)
				conn.Write(frame[50<<10:])
			})
			both.Go(func() {
				_, _, err := raw.Conn().ReadMessage()
				if ce, ok := err.(*websocket.CloseError); ok && ce.Code == websocket.CloseTryAgainLater {
					ended.Add(1)
					raw.Close()
				} else if err == nil {
					delivered.Add(1)
				}
			})
		}
		both.Wait()
		if delivered.Load() != 1 || ended.Load() != 1 {
			t.Errorf("%d messages were delivered and %d clients asked to come back, want one of each", delivered.Load(), ended.Load())
		}
	})
}

// What waits behind a client's first message is counted, however small. Where there is no room, it is read later, and nothing is lost.
func TestWaitingMessagesAreCounted(t *testing.T) {
	inBubble(t, rigOptions{network: localnet.Options{Latency: 5 * time.Second}}, func(t *testing.T, r *rig) {
		c := r.open()
		giveBack := r.gateway.TakeMessageMemory()
		defer giveBack()
		var sending sync.WaitGroup
		sending.Go(func() {
			for i := range 5 {
				if err := c.Send(t.Context(), []byte{byte(i)}); err != nil {
					t.Error(err)
				}
			}
		})
		time.Sleep(2 * time.Second)
		if s := r.gateway.Sessions()[0]; s.FramesIn != 3 || s.Inbox != 0 { // ws_open, the one under way, and one in the reader's hands
			t.Errorf("%d frames were read and %d wait, with memory for none", s.FramesIn, s.Inbox)
		}
		for i := range 5 {
			if m, err := c.Receive(t.Context()); err != nil || m.Payload[0] != byte(i) {
				t.Fatalf("message %d: %v, %v", i, m.Payload, err)
			}
		}
		sending.Wait()
	})
}

// Who waits for memory alone is not told that others waited for what it holds.
func TestOneMessageThatFindsNoMemory(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		c := r.open()
		defer r.gateway.TakeMessageMemoryBut(100 << 10)()
		began := time.Now()
		c.Send(t.Context(), make([]byte, 100<<10)) // it may be read to its end, or not
		ce, took := closeOf(t, c), time.Since(began)
		if ce.Code != websocket.CloseTryAgainLater || !strings.Contains(ce.Text, "too many large messages") || took < 15*time.Second {
			t.Errorf("closed with %d %q after %s, want 1013 for want of memory after 20s", ce.Code, ce.Text, took)
		}
	})
}
