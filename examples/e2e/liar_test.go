//go:build e2e

package e2e

import (
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/websocket"
)

// liar is a gateway between a client and the real one that passes frames on, and not all of them as they come. What it cannot do is
// to change one: it has no key.
type liar struct {
	t       *testing.T
	gateway string
	tls     *tls.Config

	mu      sync.Mutex
	waiting map[string]chan chan []byte // sessions of one occasion that swap a frame, by its name
}

// A lie is what goes on instead of the frame number n of a direction, counted from 1. Down, the first is the handshake, the second
// the canister's OpenMessage, and the third tells who is there; up, the first is ws_open.
type lie func(n int, frame []byte) [][]byte

func honest(_ int, frame []byte) [][]byte { return [][]byte{frame} }

// on does something else with one frame.
func on(which int, do lie) lie {
	return func(n int, frame []byte) [][]byte {
		if n == which {
			return do(n, frame)
		}
		return [][]byte{frame}
	}
}

func drop(int, []byte) [][]byte { return nil }

func replay(_ int, frame []byte) [][]byte { return [][]byte{frame, frame} }

// reorder exchanges a frame and the next one.
func reorder(which int) lie {
	var held []byte
	return func(n int, frame []byte) [][]byte {
		switch n {
		case which:
			held = frame
			return nil
		case which + 1:
			return [][]byte{frame, held}
		}
		return [][]byte{frame}
	}
}

// silence passes nothing on any more.
func silence(from int) lie {
	return func(n int, frame []byte) [][]byte {
		if n >= from {
			return nil
		}
		return [][]byte{frame}
	}
}

// lies are those of one session, of each direction.
func (l *liar) lies(how, occasion string) (down, up lie, err error) {
	switch how {
	case "drop":
		return on(3, drop), honest, nil
	case "replay":
		return on(3, replay), honest, nil
	case "reorder":
		return reorder(3), honest, nil
	case "silence":
		return silence(3), honest, nil
	case "swap":
		return on(3, func(_ int, frame []byte) [][]byte { return [][]byte{l.swap(occasion, frame)} }), honest, nil
	case "drop-up":
		return honest, on(2, drop), nil
	case "reorder-up":
		return honest, reorder(2), nil
	}
	return nil, nil, errors.New("no such lie")
}

// swap returns the frame of the other session of this occasion, which waits for this one.
func (l *liar) swap(occasion string, frame []byte) []byte {
	l.mu.Lock()
	if l.waiting == nil {
		l.waiting = map[string]chan chan []byte{}
	}
	meeting, second := l.waiting[occasion]
	if !second {
		meeting = make(chan chan []byte)
		l.waiting[occasion] = meeting
	}
	l.mu.Unlock()
	if second {
		other := <-meeting
		theirs := <-other
		other <- frame
		return theirs
	}
	mine := make(chan []byte)
	meeting <- mine
	mine <- frame
	return <-mine
}

func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	down, up, err := l.lies(r.PathValue("how"), r.PathValue("occasion"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	gateway, _, err := (&websocket.Dialer{TLSClientConfig: l.tls}).DialContext(l.t.Context(), l.gateway+"?"+r.URL.RawQuery, nil)
	if err != nil {
		l.t.Errorf("dialing the gateway: %v", err)
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer gateway.Close()
	client, err := (&websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}).Upgrade(w, r, nil)
	if err != nil {
		return // it has answered
	}
	defer client.Close()
	var both sync.WaitGroup
	both.Go(func() { pass(gateway, client, down) })
	both.Go(func() { pass(client, gateway, up) })
	both.Wait()
}

// pass passes frames on until one side closes, which the other is told.
func pass(from, to *websocket.Conn, lie lie) {
	for n := 1; ; n++ {
		kind, frame, err := from.ReadMessage()
		if err != nil {
			text := websocket.FormatCloseMessage(websocket.CloseGoingAway, "")
			if end := new(websocket.CloseError); errors.As(err, &end) && end.Code != websocket.CloseAbnormalClosure {
				text = websocket.FormatCloseMessage(end.Code, strings.ToValidUTF8(end.Text, ""))
			}
			to.WriteMessage(websocket.CloseMessage, text) // it may have gone, too
			return
		}
		for _, f := range lie(n, frame) {
			if err := to.WriteMessage(kind, f); err != nil {
				from.Close()
				return
			}
		}
	}
}
