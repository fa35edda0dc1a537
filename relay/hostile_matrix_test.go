package relay_test

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// Clients that occupy what they can and finish nothing do not slow down an honest one, whose messages are of the usual size. The
// clock is that of the bubble, so this is about who waits for whom, and not about the work that it makes.
func TestHostileMatrix(t *testing.T) {
	const echoes = 50
	p99 := func(t *testing.T, hostile int, open bool, first []byte, then []byte) (worst time.Duration) {
		inBubble(t, rigOptions{
			network: localnet.Options{Latency: 200 * time.Millisecond},
			policy:  func(p *relay.Policy) { p.MaxSessionsPerIP = 0 },
		}, func(t *testing.T, r *rig) {
			honest := r.open()
			defer r.gateway.TakeMessageMemoryBut(8 << 20)() // less of it makes less work
			var writers sync.WaitGroup
			for range hostile {
				var raw *client.Raw
				if open {
					raw = r.openingRaw(r.options())
				} else {
					raw = r.raw(r.options())
				}
				conn := raw.Conn().NetConn()
				conn.SetDeadline(time.Time{})
				go io.Copy(io.Discard, conn)
				if first == nil {
					continue // it is half open, and silent
				}
				writers.Go(func() {
					for f, err := first, error(nil); err == nil; f = then {
						_, err = conn.Write(f)
						time.Sleep(time.Second)
					}
				})
			}
			time.Sleep(2 * time.Second)
			took := make([]time.Duration, echoes)
			for i := range took {
				began := time.Now()
				r.echo(honest, fmt.Sprint(i))
				took[i] = time.Since(began)
			}
			slices.Sort(took)
			worst = took[echoes*99/100]
			r.gateway.Close() // the hostile ones go on otherwise
			writers.Wait()
		})
		return worst
	}
	alone := p99(t, 0, false, nil, nil)
	for _, tc := range []struct {
		name        string
		clients     int
		open        bool
		first, then []byte
	}{
		{"half-open sockets", sized(10_000, 2000, 500), false, nil, nil},
		{"pongs before ws_open", 200, false, pong, pong},
		{"a large message before ws_open", 200, false, beginning(20 << 10), pong},
		{"pongs only", 200, true, pong, pong},
		{"unfinished messages", 50, true, beginning(1<<20 - 1), pong},
		{"empty continuations", 50, true, beginning(60 << 10), slices.Concat(emptyPiece, emptyPiece, pong)},
		{"slow drips", 50, true, beginning(300 << 10), singleBytes},
		{"empty messages", 50, true, frameOf(true, websocket.BinaryMessage, nil), pong},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if worst := p99(t, tc.clients, tc.open, tc.first, tc.then); worst > alone*6/5 {
				t.Errorf("p99 is %s, alone it is %s", worst, alone)
			} else {
				t.Logf("p99 is %s, alone it is %s", worst, alone)
			}
		})
	}
}
