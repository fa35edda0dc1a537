package relay

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/verify"
)

// state is how far a session has come. It only grows.
type state int

const (
	stateConnected state = iota // handshake sent, no ws_open accepted yet
	stateOpening                // ws_open accepted; the canister's first frame has not come
	stateOpen                   // the canister's first frame was relayed
	stateEnded                  // ended for a reason; the connection may still be closing
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
// relayer while envelopes wait to be submitted. Whoever ends it calls end; the reader then cleans up.
type session struct {
	g       *Gateway
	ws      *websocket.Conn
	id      uint64 // unique in this gateway, for the admin API and logs
	ip      netip.Addr
	policy  *Policy
	trace   context.Context // values only
	started time.Time
	sharded bool // the client reads the newer layout of certificates

	chain  *verify.SenderChain // the sender's verified delegations; reader only
	window chan struct{}       // a place for each envelope under way; nil with relay_window 1

	lastSeen atomic.Int64 // unix nanoseconds of the last bytes from the client
	pinged   atomic.Int64 // unix nanoseconds of the unanswered ping, 0 = none
	starved  atomic.Bool  // the reader waits for memory

	framesIn, bytesIn, framesOut, bytesOut atomic.Int64

	mu    sync.Mutex
	state state
	// canister and key are set when ws_open is accepted, before the session is registered, and never change then.
	canister *canister
	key      verify.ClientKey
	closing  *closing // why it ended
	echo     []byte   // payload of the close frame that answers the client's; nil = none
	farewell string   // what the client said in its close frame, printable
	out      outbox
	in       inbox
	opened   openState
	life     context.Context    // of what the session submits; made when first needed, see lifetime
	cancel   context.CancelFunc // ends life
	// finishing is set when the session has ended and what its client sent is still submitted.
	finishing bool
	cleaned   bool      // the connection is closed
	vacated   bool      // the session's place has been given back
	nextSeq   uint64    // of the next canister message
	born      uint64    // when the first one was made, by the canister's clock
	lastAck   time.Time // when the canister's last ack was queued for the client
	// canisterClosed is when the canister's CloseMessage was queued for the client.
	canisterClosed time.Time
}

// Serve takes over ws, which must have been upgraded by [Upgrader] or with the like settings, and returns at once. Of
// ctx only the values are used, for traces. The connection is closed when the session ends.
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
		nextSeq: 1,
	}
	t.s = s
	s.lastSeen.Store(now.UnixNano())
	if g.cfg.RelayWindow > 1 {
		s.window = make(chan struct{}, g.cfg.RelayWindow)
	}
	g.mu.Lock()
	g.nextID++
	s.id = g.nextID
	g.sessions[s] = struct{}{}
	refusing := g.refusing
	g.cfg.Metrics.SessionStarted()
	g.spawn("session", s.run, func() { s.abort(newClosing(InternalError, "")); s.cleanup() })
	g.startSweeper()
	g.mu.Unlock()
	if refusing != nil {
		s.end(refusing) // a drain began after Reserve
	}
}

// run is the life of the connection: it reads until the end, then cleans up.
func (s *session) run() {
	s.ws.SetPongHandler(func(string) error { s.seen(); return nil })
	s.ws.SetPingHandler(s.handlePing)
	s.ws.SetCloseHandler(func(int, string) error { return nil }) // answered in end, by the writer
	if s.sendHandshake() {
		s.readLoop()
	}
	s.cleanup()
}

// end ends the session for c, unless it has ended before. The client gets a close frame and nothing else; what it sent
// before still goes to its canister, if that makes sense after c. It never blocks.
func (s *session) end(c *closing) {
	s.mu.Lock()
	if s.closing != nil {
		s.mu.Unlock()
		return
	}
	s.closing = c
	s.state = stateEnded
	s.out.clear()
	if s.opened.abandon != nil && !s.opened.going {
		s.opened.abandon()
	}
	if c.reason.keepsSent() && s.opened.submitted {
		s.in.finish()
		s.finishing = true
	} else {
		s.in.drop()
		if s.cancel != nil {
			s.cancel()
		}
	}
	s.wakeWriter()
	home := s.canister
	s.mu.Unlock()
	if home != nil {
		home.remove(s)
	}
	// The reader waits for the client's answer, not forever.
	s.ws.SetReadDeadline(time.Now().Add(closeLinger))
}

// abort is end without the courtesy: the connection is closed at once.
func (s *session) abort(c *closing) {
	s.end(c)
	s.ws.Close()
}

// cleanup runs once the connection can not be read any more.
func (s *session) cleanup() {
	s.end(newClosing(ClientGone, "")) // if nobody knows better
	s.flushClose()
	s.ws.Close()
	s.mu.Lock()
	s.cleaned = true
	c, home, farewell := s.closing, s.canister, s.farewell
	s.mu.Unlock()
	s.leave()
	g := s.g
	g.mu.Lock()
	_, mine := g.sessions[s]
	delete(g.sessions, s)
	g.mu.Unlock()
	if !mine {
		return
	}
	lasted := time.Since(s.started)
	g.cfg.Metrics.SessionClosed(home.principal(), c.reason, lasted)
	if ce := g.log().Check(c.reason.level(), "session closed"); ce != nil {
		fields := []zap.Field{
			zap.Uint64("session", s.id),
			zap.Stringer("client_ip", s.ip),
			zap.String("reason", c.reason.Label()),
			zap.Int("code", c.reason.Code()),
			zap.String("text", c.text),
			zap.Duration("duration", lasted),
			zap.Int64("frames_in", s.framesIn.Load()),
			zap.Int64("bytes_in", s.bytesIn.Load()),
			zap.Int64("frames_out", s.framesOut.Load()),
			zap.Int64("bytes_out", s.bytesOut.Load()),
		}
		if home != nil {
			fields = append(fields, zap.Stringer("canister_id", home.id))
		}
		if farewell != "" {
			fields = append(fields, zap.String("client_text", farewell))
		}
		ce.Write(fields...)
	}
}

// ended reports whether the session has ended.
func (s *session) ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing != nil
}

// seen notes a sign of life.
func (s *session) seen() {
	s.lastSeen.Store(time.Now().UnixNano())
	s.pinged.Store(0)
}
