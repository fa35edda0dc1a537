package bare

import (
	"bytes"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

func dial(t *testing.T, s *httptest.Server) *websocket.Conn {
	t.Helper()
	c, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, frame, err := c.ReadMessage(); err != nil || len(frame) != 50 || len(bytes.Trim(frame, "\x00")) != 0 {
		t.Fatalf("greeted with %x, %v", frame, err)
	}
	return c
}

func read(t *testing.T, c *websocket.Conn) string {
	t.Helper()
	_, frame, err := c.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	p, rest, ok := Next(frame)
	if !ok || len(frame) != 50 || len(bytes.Trim(rest, "\x00")) != 0 {
		t.Errorf("frame %x", frame)
	}
	return string(p)
}

// Each payload comes back in a frame of its own, to its sender or to all.
func TestServer(t *testing.T) {
	for _, all := range []bool{false, true} {
		s := httptest.NewServer(NewServer(50, all))
		defer s.Close()
		say := func(c *websocket.Conn, payloads ...[]byte) {
			t.Helper()
			if err := c.WriteMessage(websocket.BinaryMessage, Append(nil, 10, payloads...)); err != nil {
				t.Fatal(err)
			}
		}
		hear := func(want string, listeners ...*websocket.Conn) {
			t.Helper()
			for _, c := range listeners {
				got := ""
				for len(got) < len(want) {
					got += read(t, c)
				}
				if got != want {
					t.Errorf("to all %v: got %q, want %q", all, got, want)
				}
			}
		}
		one, other := dial(t, s), dial(t, s)
		listeners := []*websocket.Conn{one}
		if all {
			listeners = append(listeners, other)
		}
		say(one, []byte("a"), []byte("bc"))
		hear("abc", listeners...)
	}
}

// Who has just been greeted hears all that others say from then on.
func TestGreetedAtOnce(t *testing.T) {
	s := httptest.NewServer(NewServer(50, true))
	defer s.Close()
	one := dial(t, s)
	for range 200 {
		other := dial(t, s)
		if err := one.WriteMessage(websocket.BinaryMessage, Append(nil, 10, []byte("to all"))); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*websocket.Conn{one, other} {
			if got := read(t, c); got != "to all" {
				t.Fatalf("got %q", got)
			}
		}
		other.Close()
	}
}

func TestNextOfNoFrame(t *testing.T) {
	for _, frame := range []string{"", "\x00\x00\x00", "\x00\x00\x00\x00", "\x00\x00\x00\x02a", "\xff\xff\xff\xffabc"} {
		if _, _, ok := Next([]byte(frame)); ok {
			t.Errorf("%x has a payload", frame)
		}
	}
}
