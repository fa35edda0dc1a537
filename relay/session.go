package relay

import (
	"container/list"
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/verify"
)

// state is how far a session has come. It only grows.
type state int

const (
	stateConnected state = iota // handshake sent, no ws_open accepted yet
	stateOpening                // ws_open accepted; the canister's first frame has not come
	stateOpen                   // the canister's first frame was relayed
	stateEnded                  // ended for a reason; the connection is closing, and what the client sent may still be submitted
	stateClosed                 // the connection is closed, too, and the session's place has been given back
)

// Times of a connection that are nobody's to configure.
const (
	// closeLinger is how long a connection stays after our close frame, so that the client can read it: closing at
	// once, with its data unread, makes the kernel send a reset that can overtake the frame.
	closeLinger = 3 * time.Second
	// canisterCloseGrace is how long a client has to close by itself after a CloseMessage of its canister. The SDK
	// does, with a code of its own that the application should see.
	canisterCloseGrace = 5 * time.Second
)

// session is one client connection.
//
// The reader goroutine lives as long as the connection; a writer exists while something waits to be written, and a
// relayer while envelopes wait to be submitted. Whoever ends it calls end; the reader then cleans up. How it begins and ends
// is in session_life.go, how it stands at its canister in lifecycle.go.
type session struct {
	g       *Gateway
	ws      *websocket.Conn
	id      uint64     // unique in this gateway, for the admin API and logs
	ip      netip.Addr // invalid if the client has none
	policy  *Policy
	trace   context.Context // values only
	started time.Time
	sharded bool // the client reads the newer layout of certificates

	asked  verify.Principal    // the canister of the first ws_open, allowed or not; reader only
	chain  *verify.SenderChain // the sender's verified delegations; reader only
	window chan struct{}       // a place for each envelope under way; nil with relay_window 1
	paced  time.Time           // when the messages that went out have used up client_rate; relayer only

	lastSeen atomic.Int64 // age at the last bytes from the client, see age
	pinged   atomic.Int64 // age at the unanswered ping, 0 = none

	messageBegan atomic.Int64 // age when the message began that arrives, 0 = none does
	wanted       atomic.Int64 // bytes that the reader waits for, 0 = it does not

	writeBy time.Duration // age up to which the connection takes writes; of whoever writes
	traced  bool          // spans below trace are kept

	departure *list.Element // in the gateway's departing, whose lock guards it

	framesIn, bytesIn, framesOut, bytesOut atomic.Int64

	mu    sync.Mutex
	state state
	// canister to turn are set when ws_open is accepted, before the session is registered, and never change then.
	canister   *canister
	key        verify.ClientKey
	place      uint64        // of ws_open among all of the gateway: the higher, the newer
	turn       *turn         // of ws_open; nil if nobody waits for it
	closing    *closing      // why it ended
	echo       []byte        // payload of the close frame that answers the client's; nil = none
	clientText string        // what the client said in its close frame, printable
	flushed    chan struct{} // made when it ends; closed when nothing more is written
	out        outbox
	in         inbox
	arrival    arrival
	opening    opening
	life       context.Context    // of what the session submits; made when first needed, see lifetime
	cancel     context.CancelFunc // ends life
	nextSeq    uint64             // of the next canister message
	born       uint64             // when the first one was made, by the canister's clock
	lastAck    time.Time          // when the canister's last ack was queued for the client
	lastProof  lastProof          // shows that the canister had the session
	// canisterClosed is when the canister's CloseMessage was queued for the client.
	canisterClosed time.Time
}

// Serve takes over ws, which must have been upgraded by [Upgrader] or with the like settings, and returns at once. Of
// ctx only the values are used, for traces. The connection is closed when the session ends; at once if the gateway has been
// closed since [Gateway.Reserve].
func (t *Ticket) Serve(ctx context.Context, ws *websocket.Conn) {
	if !t.used.CompareAndSwap(false, true) {
		ws.Close()
		return
	}
	g := t.g
	now := time.Now()
	s := &session{
		g:       g,
		ws:      ws,
		ip:      t.ip,
		policy:  t.policy,
		trace:   context.WithoutCancel(ctx),
		started: now,
		sharded: t.sharded,
		traced:  g.cfg.Tracer.Traces(ctx),

		nextSeq: 1,
	}
	s.out.writing = true // run is, at first
	if g.cfg.RelayWindow > 1 {
		s.window = make(chan struct{}, g.cfg.RelayWindow)
	}
	g.mu.Lock()
	if g.closed { // nothing may be started any more
		g.mu.Unlock()
		ws.Close()
		g.vacate(t.ip)
		return
	}
	g.nextID++
	s.id = g.nextID
	g.sessions[s] = struct{}{}
	refusing := g.refusing
	g.cfg.Metrics.SessionStarted()
	s.startReader(s.run)
	g.startSweeper()
	g.mu.Unlock()
	t.s = s
	if refusing != nil {
		s.end(refusing) // a drain began after Reserve
	}
}

// run begins the life of the connection.
func (s *session) run() {
	s.ws.SetPongHandler(func(string) error { s.seen(); return nil })
	s.ws.SetPingHandler(s.handlePing)
	s.ws.SetCloseHandler(func(int, string) error { return nil }) // answered in end, by the writer
	s.sendHandshake()
	s.read()
}

// ended reports whether the session has ended.
func (s *session) ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing != nil
}

// age is how long the session has lasted at now, by the monotonic clock: neither a step of the wall clock nor the time for which
// the machine was suspended is held against the client.
func (s *session) age(now time.Time) time.Duration { return now.Sub(s.started) }

// seen notes a sign of life.
func (s *session) seen() {
	s.lastSeen.Store(int64(s.age(time.Now())))
	s.pinged.Store(0)
}

// hasOpened reports whether the first message of the canister has come.
func (s *session) hasOpened() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state >= stateOpen
}

// snapshot returns the present state, for the admin API.
func (s *session) snapshot() SessionSnapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return SessionSnapshot{
		ID: s.id, Canister: s.canister.principal(), Principal: s.key.Principal, ClientIP: s.ip,
		State: stateNames[s.state], Started: s.started,
		FramesIn: s.framesIn.Load(), BytesIn: s.bytesIn.Load(),
		FramesOut: s.framesOut.Load(), BytesOut: s.bytesOut.Load(),
		Outbox: len(s.out.frames), Inbox: len(s.in.waiting),
	}
}
