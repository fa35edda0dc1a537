package relay

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
)

// onPipe is an upgraded connection and its other end, from which nothing has been read.
func onPipe(t testing.TB) (*websocket.Conn, net.Conn) {
	here, there := net.Pipe()
	return upgraded(t, here, there), there
}

// upgraded is the server's end of a connection after its upgrade, whose answer is read from the other end.
func upgraded(t testing.TB, here, there net.Conn) *websocket.Conn {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="} {
		r.Header.Set(k, v)
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		for b, end := make([]byte, 1), ""; end != "\r\n\r\n"; end = (end + string(b))[max(0, len(end)-3):] {
			if _, err := there.Read(b); err != nil {
				return
			}
		}
	}()
	ws, err := Upgrader().Upgrade(hijacked{httptest.NewRecorder(), here}, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	<-answered
	return ws
}

// A ticket can be served while Close waits for the last goroutine, or after that: nothing is started any more, the connection is
// closed and the place given back.
func TestServeAfterClose(t *testing.T) {
	for _, waiting := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			g := gatewayAnswered(t, http.StatusBadGateway, "", "")
			ticket, err := g.Reserve(&Policy{AnyCanister: true}, netip.IPv6Loopback())
			if err != nil {
				t.Fatal(err)
			}
			ws, there := onPipe(t)
			release, closed := make(chan struct{}), make(chan struct{})
			g.spawn("test", func() { <-release }, nil)
			go func() { defer close(closed); g.Close() }()
			synctest.Wait()
			if !waiting {
				close(release)
				<-closed
			}
			ticket.Serve(t.Context(), ws)
			there.SetReadDeadline(time.Now().Add(time.Minute))
			if frame, err := io.ReadAll(there); err != nil || len(frame) > 0 {
				t.Errorf("the client got %x and %v, want the end of the connection", frame, err)
			}
			g.mu.Lock()
			if len(g.sessions) != 0 || g.places != 0 || g.sweeping {
				t.Errorf("%d sessions, %d places, sweeper %v", len(g.sessions), g.places, g.sweeping)
			}
			g.mu.Unlock()
			if waiting {
				close(release)
				<-closed
			}
		})
	}
}

// The same with everything at once: no panic, and no place is lost.
func TestServeDuringClose(t *testing.T) {
	for range 300 {
		synctest.Test(t, func(t *testing.T) {
			g := gatewayAnswered(t, http.StatusBadGateway, "", "")
			var tickets []*Ticket
			var conns []*websocket.Conn
			for range 3 {
				ticket, err := g.Reserve(&Policy{AnyCanister: true}, netip.IPv6Loopback())
				if err != nil {
					t.Fatal(err)
				}
				ws, there := onPipe(t)
				go io.Copy(io.Discard, there)
				tickets, conns = append(tickets, ticket), append(conns, ws)
			}
			tickets[0].Serve(t.Context(), conns[0])
			done := make(chan struct{})
			go func() { g.Close(); done <- struct{}{} }()
			for i := 1; i < 3; i++ {
				go func() { tickets[i].Serve(t.Context(), conns[i]); done <- struct{}{} }()
			}
			for range 3 {
				<-done
			}
			synctest.Wait()
			g.mu.Lock()
			defer g.mu.Unlock()
			if len(g.sessions) != 0 || g.places != 0 {
				t.Fatalf("%d sessions, %d places", len(g.sessions), g.places)
			}
		})
	}
}
