package main

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

func TestChaos(t *testing.T) {
	checkChaos(t)(inFakeTime(t, "chaos", "-clients", "30", "-rate", "1", "-opens", "0", "-duration", "1m", "-latency", "50ms", "-progress", "5s"))
}

func checkChaos(t *testing.T) func(*report, int) {
	return func(r *report, code int) {
		t.Helper()
		checkBooks(t, r)
		if code != 0 || len(r.Violations) > 0 {
			t.Errorf("exit code %d, violations %q", code, r.Violations)
		}
		if r.Delivered == 0 || len(r.Closes) == 0 || !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.HasSuffix(n, ", 2 upgrades") }) {
			t.Errorf("delivered %d, closes %v, notes %q: nothing happened", r.Delivered, r.Closes, r.Notes)
		}
	}
}

// Of clients that all stop reading most messages stay open, and the run says whether that is too much. The numbers are those
// between which luck decides nothing.
func TestTooLittleIsKnown(t *testing.T) {
	for resolved, want := range map[string]int{"100": 1, "0": 0} {
		r, code := inFakeTime(t, "chaos", "-clients", "4", "-opens", "0", "-duration", "1m", "-latency", "50ms", "-weather", "none", "-progress", "0", "-resolved", resolved)
		checkBooks(t, r)
		if r.Unresolved == 0 {
			t.Error("nothing is unresolved")
		}
		if code != want || (code == 0) != (len(r.Violations) == 0) {
			t.Errorf("-resolved %s: exit code %d, violations %q", resolved, code, r.Violations)
		}
		if code == 1 && (len(r.Violations) != 1 || !strings.Contains(r.Violations[0], "the run proves too little")) {
			t.Errorf("violations %q", r.Violations)
		}
	}
}

func TestChaosJudge(t *testing.T) {
	upgraded := &storm{lastUp: time.Now().Add(-10 * time.Second)}
	quiet := &storm{lastUp: time.Now().Add(-time.Hour)}
	forgotten := &client.CloseError{Code: 1012, Text: "the canister no longer knows this session, reconnect"}
	tests := []struct {
		name  string
		storm *storm
		end   *client.CloseError
		fine  bool
	}{
		{"forgotten after an upgrade", upgraded, forgotten, true},
		{"forgotten without one", quiet, forgotten, false},
		{"a lost frame", upgraded, &client.CloseError{Code: 4000, Text: client.TextReceive, Local: true, Err: client.ErrSequence}, false},
		{"no close frame", upgraded, &client.CloseError{Code: client.CodeAbnormal}, false},
		{"no text", upgraded, &client.CloseError{Code: 1012}, false},
		{"slow consumer", upgraded, &client.CloseError{Code: relay.SlowConsumer.Code(), Text: relay.SlowConsumer.Text()}, false},
	}
	for _, tt := range tests {
		if err := tt.storm.judge(tt.end); (err == nil) != tt.fine {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// silent says nothing.
type silent struct{ localnet.NoCallbacks }

func (silent) OnMessage(*localnet.AppContext, verify.Principal, []byte) error { return nil }

// A client that stalled is not judged, whichever way it ends and whatever the gateway did before.
func TestStalledClientsAreNotJudged(t *testing.T) {
	for seed := range uint64(6) { // one of them hangs up, the others close
		synctest.Test(t, func(t *testing.T) {
			w, err := newWorld(worldOptions{memory: true, latency: 10 * time.Millisecond, cdk: localnet.CDKOptions{App: silent{}}})
			if err != nil {
				t.Fatal(err)
			}
			defer w.close()
			f := newFleet(w.target(), plan{clients: 1, size: payloadHead, window: 2})
			time.AfterFunc(time.Second, func() { w.drain(time.Second) }) // it stalls for 2 s at least
			if err := stall(t.Context(), f, rand.New(rand.NewPCG(seed, 0))); err != nil {
				t.Fatal(err)
			}
			r := f.stats.report("test", time.Second)
			checkBooks(t, r)
			if len(r.Violations) > 0 || len(r.OwnCloses) != 1 {
				t.Errorf("seed %d: violations %q, ends %v and %v", seed, r.Violations, r.Closes, r.OwnCloses)
			}
		})
	}
}

// The node that is lost is another one each time, whatever the other kinds of weather are.
func TestNodesTakeTurns(t *testing.T) {
	c := &storm{world: &world{nodes: []string{"a", "b", "c"}}}
	for _, list := range []string{"all", "node"} {
		kinds, err := c.pick(list)
		if err != nil {
			t.Fatal(err)
		}
		lost := map[string]bool{}
		for c.spell = range 3 * len(kinds) {
			if kind := kinds[c.spell%len(kinds)]; kind.name == "node" {
				for _, node := range c.world.nodes {
					if kind.fault(nil, &localnet.Request{Boundary: node}).Drop {
						lost[node] = true
					}
				}
			}
		}
		if len(lost) != 3 {
			t.Errorf("%s: only %v were lost", list, lost)
		}
	}
}
