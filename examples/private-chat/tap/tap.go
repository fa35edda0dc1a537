// Package tap shows what passes a gateway: every WebSocket message between
// clients and the icws handler, as the gateway itself has it after TLS, and every
// request that the gateway makes of the network. Nothing is changed on the way.
//
// It is a Caddy handler that stands before icws, and an http.Handler before a
// local network. What it has seen is served as server-sent events.
package tap

import (
	"fmt"
	"sync"
	"time"
)

// Bounds of what is kept for pages that come later.
const (
	keepFrames = 500
	keepBytes  = 2 << 20
)

// A Side is who sent something.
type Side string

// The sides of the gateway. The gateway's requests have the network as the other one.
const (
	FromClient  Side = "client"
	FromGateway Side = "gateway"
	ToNetwork   Side = "to network"
	FromNetwork Side = "from network"
)

// Frame is something that passed. Its bytes are not changed by anybody later.
type Frame struct {
	// Number counts the WebSocket messages of a tap from 1, and Session its
	// sessions. Both are zero for what passes between gateway and network.
	Number  uint64    `json:"number"`
	Session uint64    `json:"session"`
	At      time.Time `json:"at"`
	From    Side      `json:"from"`
	// What says in words what the gateway can tell of it.
	What string `json:"what"`
	// Payload is the application's message inside, if there is one.
	Payload []byte `json:"payload,omitempty"`
	// Bytes is all of it.
	Bytes []byte `json:"bytes"`
}

// Tap is one tap. Its methods are safe for concurrent use.
type Tap struct {
	seen func(Frame)

	mu       sync.Mutex // guards what follows
	frames   uint64
	sessions uint64
	kept     []Frame
	size     int // bytes of kept
	readers  map[chan Frame]bool
	closed   bool
}

// taps are the taps that a Caddyfile can name.
var taps sync.Map

// New makes a tap that handlers find under its name until Close, in place of one
// that had the name before. seen, which may be nil, is called with everything
// that passes, from several goroutines.
func New(name string, seen func(Frame)) *Tap {
	t := &Tap{seen: seen, readers: map[chan Frame]bool{}}
	taps.Store(name, t)
	return t
}

// find is the tap of a name.
func find(name string) (*Tap, error) {
	if t, ok := taps.Load(name); ok {
		return t.(*Tap), nil
	}
	return nil, fmt.Errorf("there is no tap %q in this program: make it with tap.New before Caddy starts", name)
}

// Close ends the pages that read, and serves no others.
func (t *Tap) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for c := range t.readers {
		t.drop(c)
	}
}

// session begins a session and returns its number.
func (t *Tap) session() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sessions++
	return t.sessions
}

// message takes a WebSocket message, whose bytes are the tap's from then on.
func (t *Tap) message(session uint64, from Side, message []byte) {
	f := Frame{Session: session, At: time.Now(), From: from, Bytes: message}
	f.What, f.Payload = describe(from, message)
	t.mu.Lock()
	t.frames++
	f.Number = t.frames
	t.keep(f)
	for c := range t.readers {
		select {
		case c <- f:
		default:
			t.drop(c) // a page that does not read begins again, with what is kept
		}
	}
	t.mu.Unlock()
	if t.seen != nil {
		t.seen(f)
	}
}

// keep keeps a frame for pages that come later, in place of the oldest ones.
func (t *Tap) keep(f Frame) {
	t.kept = append(t.kept, f)
	t.size += len(f.Bytes)
	for len(t.kept) > keepFrames || t.size > keepBytes {
		t.size -= len(t.kept[0].Bytes)
		t.kept[0] = Frame{}
		t.kept = t.kept[1:]
	}
}

// read begins to read: what is kept, and a channel for the rest, which is closed
// when the tap is, or when its reader is too slow. A closed tap has no channel.
func (t *Tap) read() ([]Frame, chan Frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, nil
	}
	c := make(chan Frame, 100)
	t.readers[c] = true
	return append([]Frame(nil), t.kept...), c
}

// leave ends a read.
func (t *Tap) leave(c chan Frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(c)
}

// drop closes a channel, once.
func (t *Tap) drop(c chan Frame) {
	if t.readers[c] {
		delete(t.readers, c)
		close(c)
	}
}
