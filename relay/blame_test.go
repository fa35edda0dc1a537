package relay_test

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

// One of two hosts answers fast and badly, or refuses what the other answers. It is left alone for longer and longer, and does
// not fill the log.
func TestBadAnswersComeWell(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]localnet.Fault{
		"refused":             {Status: 400, Body: []byte("no")},
		"no such canister":    {Status: 400, Cause: "canister_not_found"},
		"denylisted":          {Status: 451},
		"too large":           {Status: 413},
		"what cannot be read": {Edit: func([]byte) []byte { return []byte("<html>") }},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rigOptions{config: twoNodes}, func(t *testing.T, r *rig) {
				c := r.open()
				hosts := asked(r, func(q *localnet.Request) localnet.Fault {
					if q.Boundary == "http://lying.test" {
						return bad
					}
					return localnet.Fault{ReplyDelay: 30 * time.Millisecond}
				})
				for i := range 60 {
					r.echo(c, fmt.Sprint(i))
					time.Sleep(time.Second)
				}
				lines := r.logs.Filter(func(e observer.LoggedEntry) bool { return e.Level > zapcore.DebugLevel }).Len()
				if n := hosts()["http://lying.test"]; n > 40 || lines > 60 {
					t.Errorf("in a minute the bad host is asked %d times, and there are %d lines in the log", n, lines)
				}
				// It is used again once it is good.
				r.network.SetFaults(nil)
				time.Sleep(2 * time.Minute)
				hosts = asked(r, noFault)
				time.Sleep(5 * time.Minute)
				if n := hosts()["http://lying.test"]; n < 10 {
					t.Errorf("in five minutes the host that is good again is asked %d times", n)
				}
			})
		})
	}
}
