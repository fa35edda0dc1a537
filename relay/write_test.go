package relay

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/verify"
)

// onSocket is an upgraded connection over a real socket and its other end, with TLS if secure.
func onSocket(t testing.TB, secure bool) (*websocket.Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	there, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	here, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if secure {
		here, there = tls.Server(here, serverTLS(t)), tls.Client(there, &tls.Config{InsecureSkipVerify: true})
		shaken := make(chan error, 1)
		go func() { shaken <- here.(*tls.Conn).Handshake() }()
		if err := there.(*tls.Conn).Handshake(); err != nil {
			t.Fatal(err)
		}
		if err := <-shaken; err != nil {
			t.Fatal(err)
		}
	}
	ws := upgraded(t, here, there)
	t.Cleanup(func() { ws.Close(); there.Close() })
	return ws, there
}

func serverTLS(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// writingSession is a session at a canister of a gateway that talks to nobody.
func writingSession(t testing.TB, ws *websocket.Conn) *session {
	t.Helper()
	g := gatewayAnswered(t, http.StatusBadGateway, "", "")
	return &session{g: g, ws: ws, ip: netip.IPv6Loopback(), policy: &Policy{}, trace: context.Background(), started: time.Now(),
		nextSeq: 1, canister: newCanister(g, verify.Principal{})}
}

// frameOf makes a frame of a payload.
func frameOf(payload []byte) outFrame {
	f := frames.Get().(*frame)
	f.buf = append(append(f.buf[:0], make([]byte, headerRoom)...), payload...)
	f.seal()
	now := time.Now()
	return outFrame{f, now.UnixNano(), now.Add(time.Hour).UnixNano()}
}

// delivery delivers messages of 3 kB to clients over sockets.
type delivery struct {
	testing.TB
	sessions []*session
	there    []net.Conn
	payload  []byte
	bare     []byte // the frame
	got      []byte
}

func newDelivery(t testing.TB, secure bool, clients int) *delivery {
	payload := bytes.Repeat([]byte("x"), 3000)
	bare := frameOf(payload).bytes()
	d := &delivery{TB: t, payload: payload, bare: bare, got: make([]byte, len(bare))}
	for range clients {
		ws, there := onSocket(t, secure)
		d.sessions, d.there = append(d.sessions, writingSession(t, ws)), append(d.there, there)
	}
	for range 100 { // TLS begins with small records
		d.write()
	}
	return d
}

// write writes a message to each client without a session.
func (d *delivery) write() {
	for _, s := range d.sessions {
		if _, err := s.ws.NetConn().Write(d.bare); err != nil {
			d.Fatal(err)
		}
	}
	d.receive()
}

// deliver hands out a message for each client.
func (d *delivery) deliver() {
	mine := make([]*session, 0, len(d.sessions))
	for _, s := range d.sessions {
		if s.send(frameOf(d.payload)) {
			mine = append(mine, s)
		}
	}
	d.sessions[0].g.handOut(mine)
	d.receive()
}

func (d *delivery) receive() {
	for _, there := range d.there {
		if _, err := io.ReadFull(there, d.got); err != nil || !bytes.Equal(d.got, d.bare) {
			d.Fatal("not what was sent: ", err)
		}
	}
}

// Clients that do not read hold up the others of a page for some milliseconds, however many they are.
func TestHandOutDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const stalled = 100
		var mine []*session
		open := func() net.Conn {
			ws, there := onPipe(t) // which holds nothing
			s := writingSession(t, ws)
			if len(mine) > 0 {
				s.g, s.canister = mine[0].g, mine[0].canister
			}
			if s.send(frameOf([]byte("hello"))) {
				mine = append(mine, s)
			}
			return there
		}
		for range stalled {
			open()
		}
		honest := open()
		began := time.Now()
		mine[0].g.handOut(slices.Clone(mine))
		if took := time.Since(began); took > 0 {
			t.Errorf("handing out took %s", took)
		}
		got := make([]byte, 7)
		if _, err := io.ReadFull(honest, got); err != nil || string(got[2:]) != "hello" {
			t.Fatalf("%q, %v", got, err)
		}
		if took := time.Since(began); took > 10*handOutPatience {
			t.Errorf("behind %d clients that do not read, a message took %s", stalled, took)
		}
		time.Sleep(time.Minute)
		for i, s := range mine {
			s.mu.Lock()
			if gone := s.closing != nil && s.closing.reason == WriteTimeout; gone != (i < stalled) {
				t.Errorf("client %d: %+v", i, s.closing)
			}
			s.mu.Unlock()
		}
		mine[0].g.Close()
	})
}

// recorder is a connection that keeps what is written.
type recorder struct {
	net.Conn
	writes [][]byte
}

func (r *recorder) Write(p []byte) (int, error) {
	r.writes = append(r.writes, bytes.Clone(p))
	return len(p), nil
}

func (r *recorder) SetWriteDeadline(time.Time) error { return nil }

// overheard is a connection after its upgrade.
func overheard(t *testing.T) (*websocket.Conn, *recorder) {
	here, there := net.Pipe()
	t.Cleanup(func() { here.Close(); there.Close() })
	switching := &switched{Conn: here}
	ws := upgraded(t, switching, there)
	switching.to = &recorder{Conn: here}
	return ws, switching.to
}

// switched is a connection that writes to another one, and reads from another one, once that is set.
type switched struct {
	net.Conn
	to   *recorder
	from *frameSource
}

func (s *switched) Read(p []byte) (int, error) {
	if s.from != nil {
		return s.from.Read(p)
	}
	return s.Conn.Read(p)
}

func (s *switched) Write(p []byte) (int, error) {
	if s.to != nil {
		return s.to.Write(p)
	}
	return s.Conn.Write(p)
}

// Frames that wait for one client leave together, control frames first, and each of them is what gorilla makes of it.
func TestFramesLeaveTogether(t *testing.T) {
	ws, got := overheard(t)
	like, want := overheard(t)
	s := writingSession(t, ws)
	s.out.writing = true // this test
	s.ping()
	s.pong("hello")
	like.WriteMessage(websocket.PingMessage, nil)
	like.WriteControl(websocket.PongMessage, []byte("hello"), time.Now().Add(time.Second))
	for _, size := range []int{0, 1, 125, 126, 4000, 0xffff, 0x10000} {
		payload := bytes.Repeat([]byte("x"), size)
		s.send(frameOf(payload))
		like.WriteMessage(websocket.BinaryMessage, payload)
	}
	s.write()
	if len(got.writes) != 3 { // the large ones leave by themselves
		t.Errorf("%d writes", len(got.writes))
	}
	if !bytes.Equal(bytes.Join(got.writes, nil), bytes.Join(want.writes, nil)) {
		t.Error("not what gorilla writes")
	}
}

// Whoever violates the WebSocket protocol gets one close frame: gorilla's, and not the session's as well.
func TestOneCloseFrame(t *testing.T) {
	ws, there := onSocket(t, false)
	s := writingSession(t, ws)
	s.out.writing = true // run
	s.startReader(s.run)
	if _, err := there.Write([]byte{0x80 | 0x3, 0x80, 1, 2, 3, 4}); err != nil { // an opcode that there is not
		t.Fatal(err)
	}
	got, err := io.ReadAll(there)
	if err != nil {
		t.Fatal(err)
	}
	closes := 0
	for len(got) >= 2 && len(got) >= 2+int(got[1]) { // header, and a short payload
		if got[0] == finalFrame|websocket.CloseMessage {
			closes++
		}
		got = got[2+int(got[1]):]
	}
	if closes != 1 || len(got) > 0 {
		t.Errorf("%d close frames, and %d bytes more", closes, len(got))
	}
}

// BenchmarkHandOut hands out a page of 43 messages of 3 kB to clients that read, beside the bare writes of the same bytes.
func BenchmarkHandOut(b *testing.B) {
	for _, secure := range []bool{false, true} {
		name := "tcp"
		if secure {
			name = "tls"
		}
		for _, how := range []struct {
			name string
			do   func(*delivery)
		}{{"bare", (*delivery).write}, {"page", (*delivery).deliver}} {
			b.Run(name+"/"+how.name, func(b *testing.B) {
				d := newDelivery(b, secure, 43)
				b.ReportAllocs()
				for b.Loop() {
					how.do(d)
				}
			})
		}
	}
}
