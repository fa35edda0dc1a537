package relay_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// A canister with thousands of messages that cannot be used has some lines in the log, and so has its first client's end.
func TestMessagesOfACanisterDoNotFloodTheLog(t *testing.T) {
	inBubble(t, rigOptions{cdk: localnet.CDKOptions{MaxMessages: 5000}}, func(t *testing.T, r *rig) {
		bad := []*client.Client{r.open(), r.open()}
		var hold atomic.Bool
		r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
			if q.Endpoint == "query" {
				f.Drop = hold.Load()
				f.Edit = func(body []byte) []byte { return misrouted(body, bad[0].Key(), bad[1].Key()) }
			}
			return f
		})
		hold.Store(true)
		time.Sleep(time.Second)
		r.cdk.Do(func(ctx *localnet.AppContext) {
			for i := range 1500 {
				for _, c := range bad {
					ctx.Send(c.Key().Principal, fmt.Append(nil, i))
				}
			}
		})
		hold.Store(false)
		time.Sleep(20 * time.Second)
		for _, c := range bad {
			closeOf(t, c)
		}
		if n := r.lines(zapcore.WarnLevel, "message of the canister cannot be used"); n == 0 || n > 60 {
			t.Errorf("%d lines for 3000 messages", n)
		}
		if n := r.lines(zapcore.InfoLevel, "session closed"); n != 2 {
			t.Errorf("%d lines for the ends of 2 sessions", n)
		}
	})
}

// Each session's end has its line, unless there are very many in a second.
func TestEndsOfSessionsInTheLog(t *testing.T) {
	inBubble(t, rigOptions{policy: func(p *relay.Policy) { p.MaxSessionsPerIP = 0 }}, func(t *testing.T, r *rig) {
		ends := func(n int) int {
			r.logs.TakeAll()
			raws := make([]*client.Raw, n)
			for i := range raws {
				raws[i] = r.raw(r.options())
			}
			for _, raw := range raws {
				raw.CloseWith(4000, "so long, and thanks for all the fish")
			}
			time.Sleep(10 * time.Second)
			return r.lines(zapcore.InfoLevel, "session closed")
		}
		if n := ends(500); n != 500 {
			t.Errorf("%d lines for 500 ends", n)
		}
		if n := ends(1500); n != 1005 {
			t.Errorf("%d lines for 1500 ends in a second, want 1000 and every hundredth of the rest", n)
		}
	})
}

// lines counts the lines with a message.
func (r *rig) lines(level zapcore.Level, message string) (n int) {
	for _, e := range r.logs.All() {
		if e.Level == level && e.Message == message {
			n++
		}
	}
	return n
}
