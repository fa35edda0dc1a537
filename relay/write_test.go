package relay

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"testing"
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
		nextSeq: 1, canister: newCanister(g, verify.Principal{}), sendQueue: sendQueueOf(ws.NetConn())}
}

// frameOf makes a frame of a payload.
func frameOf(payload []byte) outFrame {
	f := frames.Get().(*frame)
	f.buf = append(append(f.buf[:0], make([]byte, headerRoom)...), payload...)
	f.seal()
	now := time.Now()
	return outFrame{f, now.UnixNano(), now.Add(time.Hour).UnixNano()}
}

// delivery delivers messages of 3 kB over a socket, one after the other.
type delivery struct {
	testing.TB
	s       *session
	there   net.Conn
	payload []byte
	bare    []byte // the frame
	got     []byte
}

func newDelivery(t testing.TB, secure bool) *delivery {
	ws, there := onSocket(t, secure)
	payload := bytes.Repeat([]byte("x"), 3000)
	bare := frameOf(payload).bytes()
	d := &delivery{t, writingSession(t, ws), there, payload, bare, make([]byte, len(bare))}
	for range 100 { // TLS begins with small records
		d.write()
	}
	return d
}

// write writes a message without a session.
func (d *delivery) write() {
	if _, err := d.s.ws.NetConn().Write(d.bare); err != nil {
		d.Fatal(err)
	}
	d.receive()
}

// deliver hands out a message.
func (d *delivery) deliver() {
	if !d.s.send(frameOf(d.payload)) {
		d.Fatal("somebody else writes")
	}
	d.s.writeNow()
	d.receive()
}

func (d *delivery) receive() {
	if _, err := io.ReadFull(d.there, d.got); err != nil || !bytes.Equal(d.got, d.bare) {
		d.Fatal("not what was sent: ", err)
	}
	for d.s.sendQueue != nil && room(d.s.sendQueue) != maxUnsent { // until the kernel has its acknowledgement
		runtime.Gosched()
	}
}

// What the kernel takes at once is written where it is handed out, without a goroutine and without memory.
func TestDeliveryAllocatesNothing(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("how full a send queue is can be told on Linux only")
		return
	}
	for _, secure := range []bool{false, true} {
		d := newDelivery(t, secure)
		least, n := testing.AllocsPerRun(100, d.write), testing.AllocsPerRun(100, d.deliver)
		if n > least {
			t.Errorf("TLS %t: %v allocations a message, %v for a bare write", secure, n, least)
		}
	}
}

// Whoever hands out does not wait for a client that does not read: a writer does.
func TestHandOutDoesNotWait(t *testing.T) {
	for _, secure := range []bool{false, true} {
		ws, there := onSocket(t, secure)
		s := writingSession(t, ws)
		payload := bytes.Repeat([]byte("x"), 3000)
		sent, waiting := 0, func() int {
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.out.frames)
		}
		for ; waiting() < 100; sent++ { // the kernel takes some
			if s.send(frameOf(binary.BigEndian.AppendUint64(bytes.Clone(payload), uint64(sent)))) {
				s.writeNow()
			}
		}
		for i := range sent { // none is lost, all in order
			got := make([]byte, 4+len(payload)+8)
			if _, err := io.ReadFull(there, got); err != nil {
				t.Fatal(err)
			}
			if n := binary.BigEndian.Uint64(got[4+len(payload):]); n != uint64(i) {
				t.Fatalf("TLS %t: message %d where %d was due", secure, n, i)
			}
		}
	}
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

// switched is a connection that writes to another one once that is set.
type switched struct {
	net.Conn
	to *recorder
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
	s.write(true)
	if len(got.writes) != 3 { // the large ones leave by themselves
		t.Errorf("%d writes", len(got.writes))
	}
	if !bytes.Equal(bytes.Join(got.writes, nil), bytes.Join(want.writes, nil)) {
		t.Error("not what gorilla writes")
	}
}

// BenchmarkDeliver hands out a message of 3 kB to a client that reads, beside the bare write of the same bytes.
func BenchmarkDeliver(b *testing.B) {
	for _, secure := range []bool{false, true} {
		name := "tcp"
		if secure {
			name = "tls"
		}
		b.Run(name+"/bare", func(b *testing.B) {
			d := newDelivery(b, secure)
			b.ReportAllocs()
			for b.Loop() {
				d.write()
			}
		})
		b.Run(name+"/session", func(b *testing.B) {
			d := newDelivery(b, secure)
			b.ReportAllocs()
			for b.Loop() {
				d.deliver()
			}
		})
	}
}
