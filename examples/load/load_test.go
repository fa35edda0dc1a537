package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// execute runs the program and returns its report.
func execute(t *testing.T, args ...string) (*report, int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), append(args, "-json"), &stdout, &stderr)
	r := new(report)
	if err := json.Unmarshal(stdout.Bytes(), r); err != nil {
		t.Fatalf("exit code %d, %v\n%s\n%s", code, err, &stdout, &stderr)
	}
	t.Logf("%s%s", &stderr, &stdout)
	return r, code
}

func TestRun(t *testing.T) {
	r, code := execute(t, "-clients", "8", "-rate", "5", "-churn", "16", "-opens", "0", "-duration", "6s", "-latency", "20ms", "-progress", "1s")
	if code != 0 || len(r.Violations) > 0 {
		t.Errorf("exit code %d, violations %q", code, r.Violations)
	}
	if r.Opens <= 8 || r.Sent < 8 || r.Delivered != r.Sent || r.RoundTrip.Count != r.Sent || r.RoundTrip.P50 <= 0 {
		t.Errorf("opened %d, sent %d, delivered %d, timed %d", r.Opens, r.Sent, r.Delivered, r.RoundTrip.Count)
	}
}

func TestSoakLooksAtTheTrend(t *testing.T) {
	r, _ := execute(t, "soak", "-clients", "10", "-rate", "2", "-opens", "0", "-duration", "5s", "-warm", "1s", "-latency", "10ms", "-progress", "500ms")
	if !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.HasPrefix(n, "warm  heap ") }) {
		t.Errorf("notes %q", r.Notes)
	}
	// The heap of so short a run proves nothing; everything else holds.
	for _, v := range r.Violations {
		if !strings.HasPrefix(v, "heap grew") {
			t.Error(v)
		}
	}
}

func TestChaos(t *testing.T) {
	r, code := execute(t, "chaos", "-clients", "30", "-rate", "2", "-opens", "0", "-duration", "12s", "-latency", "50ms", "-progress", "2s")
	if code != 0 || len(r.Violations) > 0 {
		t.Errorf("exit code %d, violations %q", code, r.Violations)
	}
	if r.Delivered == 0 || len(r.Closes) == 0 {
		t.Errorf("delivered %d, closes %v: nothing happened", r.Delivered, r.Closes)
	}
}

func TestHeadOfLine(t *testing.T) {
	r, _ := execute(t, "headofline", "-clients", "40", "-stalled", "4", "-rate", "20", "-opens", "0", "-duration", "9s", "-latency", "10ms", "-progress", "0")
	for _, v := range r.Violations {
		// A quarter of a second of another process shows in the times of a run this short.
		if !strings.HasPrefix(v, "p99 is ") {
			t.Error(v)
		}
	}
	if r.Delivered == 0 || r.Delivered != r.Sent*36 {
		t.Errorf("sent %d, delivered %d to 36 listeners", r.Sent, r.Delivered)
	}
}

// What comes in between is a failure of the run and not of who called it, and the report says what it was.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(500*time.Millisecond, cancel)
	var stdout, stderr bytes.Buffer
	code := run(ctx, []string{"headofline", "-clients", "4", "-stalled", "1", "-opens", "0", "-duration", "1m", "-latency", "10ms", "-progress", "0"}, &stdout, &stderr)
	if code != 1 || !strings.Contains(stdout.String(), "not finished") {
		t.Errorf("exit code %d\n%s\n%s", code, &stderr, &stdout)
	}
}

// botch is an echo that does something wrong with the third message of each session.
type botch struct {
	localnet.NoCallbacks
	wrong func(ctx *localnet.AppContext, to verify.Principal, payload, before []byte) error
	last  map[verify.Principal][]byte
	count map[verify.Principal]int
}

func (b *botch) OnMessage(ctx *localnet.AppContext, from verify.Principal, payload []byte) error {
	before := b.last[from]
	b.last[from] = payload
	if b.count[from]++; b.count[from] == 3 {
		return b.wrong(ctx, from, payload, before)
	}
	return ctx.Send(from, payload)
}

// What a canister or a gateway gets wrong is found and fails the run.
func TestViolationsAreFound(t *testing.T) {
	tests := map[string]struct {
		wrong func(ctx *localnet.AppContext, to verify.Principal, payload, before []byte) error
		want  string
	}{
		"lost": {want: "messages lost", wrong: func(*localnet.AppContext, verify.Principal, []byte, []byte) error { return nil }},
		"repeated": {want: "messages duplicated", wrong: func(ctx *localnet.AppContext, to verify.Principal, payload, _ []byte) error {
			if err := ctx.Send(to, payload); err != nil {
				return err
			}
			return ctx.Send(to, payload)
		}},
		"altered": {want: "messages foreign or altered", wrong: func(ctx *localnet.AppContext, to verify.Principal, payload, _ []byte) error {
			other := bytes.Clone(payload)
			other[len(other)-1]++
			return ctx.Send(to, other)
		}},
		"somebody else's": {want: "messages foreign or altered", wrong: func(ctx *localnet.AppContext, to verify.Principal, payload, _ []byte) error {
			p, _ := decodePayload(payload)
			p.session += 1000
			return ctx.Send(to, p.encode(len(payload)))
		}},
		"closed": {want: "session closed: client 4001 ClosedByApplication", wrong: func(ctx *localnet.AppContext, to verify.Principal, _, _ []byte) error {
			return ctx.Close(to)
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			app := &botch{wrong: tt.wrong, last: map[verify.Principal][]byte{}, count: map[verify.Principal]int{}}
			w, err := newWorld(worldOptions{cdk: localnet.CDKOptions{App: app}})
			if err != nil {
				t.Fatal(err)
			}
			defer w.close()
			f := newFleet(w.target(), plan{clients: 2, rate: 10, size: 40, window: 8, grace: 4 * time.Second})
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			go func() { // until both have gone past the third message
				for ctx.Err() == nil && f.stats.sent.Load() < 12 {
					time.Sleep(10 * time.Millisecond)
				}
				cancel()
			}()
			f.run(ctx)
			r := f.stats.report("test", time.Second)
			if r.write(io.Discard, false) != 1 || !slices.ContainsFunc(r.Violations, func(v string) bool { return strings.Contains(v, tt.want) }) {
				t.Errorf("violations %q, want one with %q", r.Violations, tt.want)
			}
		})
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

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{"nonsense"}, {"-clients", "0"}, {"-window", "0"}, {"-rate", "-1"}, {"-duration", "0s"}, {"-size", "9999999"}, {"run", "surplus"},
		{"-rate", "NaN"}, {"-rate", "Inf"}, {"-rate", "1e12"}, {"-rate", "1e-12"}, {"-churn", "1e-12"}, {"-churn", "-1"}, {"-opens", "-1"},
		{"-opens", "NaN"}, {"headofline", "-rate", "1e12"}, {"headofline", "-stalled", "-1"}, {"-size", "23"}, {"-latency", "-1s"},
		{"-canister", "bkyz2-fmaaa-aaaaa-qaaaq-cai"}, {"-root-key", "00"}, {"-ca", "x"}, {"-origin", "https://example.com"},
		{"-url", "https://localhost:1/", "-canister", "bkyz2-fmaaa-aaaaa-qaaaq-cai"}, {"-url", "localhost:1", "-canister", "bkyz2-fmaaa-aaaaa-qaaaq-cai"},
		{"-url", "ws://localhost:1/"}, {"chaos", "-url", "ws://localhost:1/", "-canister", "aaaaa-aa"},
		{"chaos", "-weather", "sunny"}, {"headofline", "-clients", "5", "-stalled", "5"},
		{"-url", "ws://localhost:1/", "-canister", "not a principal"},
		{"-url", "ws://localhost:1/", "-canister", "bkyz2-fmaaa-aaaaa-qaaaq-cai", "-root-key", "00"},
		{"-url", "ws://localhost:1/", "-canister", "bkyz2-fmaaa-aaaaa-qaaaq-cai", "-ca", "does/not/exist"},
	} {
		var stderr bytes.Buffer
		if code := run(t.Context(), args, io.Discard, &stderr); code != 2 || stderr.Len() == 0 {
			t.Errorf("%q: exit code %d, said %q", args, code, &stderr)
		}
	}
	if code := run(t.Context(), []string{"-help"}, io.Discard, io.Discard); code != 0 {
		t.Errorf("-help: exit code %d", code)
	}
}

// A gateway that is not there fails the run, with the reason.
func TestUnreachable(t *testing.T) {
	r, code := execute(t, "-url", "ws://127.0.0.1:1/", "-canister", "bkyz2-fmaaa-aaaaa-qaaaq-cai", "-clients", "1", "-duration", "300ms", "-progress", "0")
	if code != 1 || r.Refused == 0 || !slices.Contains(r.Violations, "no session could be opened") {
		t.Errorf("exit code %d, %+v", code, r)
	}
}

// Where the gateway cannot read what the network writes, the error of its polls is told while the clients wait.
func TestSilenceIsExplained(t *testing.T) {
	w, err := newWorld(worldOptions{seed: 5})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	w.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
		if q.Endpoint == "query" {
			f.Edit = func([]byte) []byte { return []byte("\xd9\xd9\xf7\x80") }
		}
		return f
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f := newFleet(w.target(), plan{clients: 2, window: 1})
	progress := &until{text: "nothing arrives: the gateway's last poll error: 127.0.0.1", done: cancel}
	stop := f.explainSilence(ctx, w.why, progress)
	f.run(ctx)
	stop()
	if said := progress.buf.String(); !strings.Contains(said, progress.text) || !strings.Contains(said, "reading query answer") {
		t.Errorf("said %q", said)
	}
	if f.stats.opens.Load() != 0 {
		t.Error("a session opened")
	}
}

// until calls done when text has been written.
type until struct {
	buf  bytes.Buffer
	text string
	done func()
}

func (u *until) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(u.text)) {
		defer u.done()
	}
	return u.buf.Write(p)
}

// The same program goes to a gateway elsewhere.
func TestRemote(t *testing.T) {
	w, err := newWorld(worldOptions{seed: 5})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	r, _ := execute(t, "-url", w.url, "-canister", w.canister.String(), "-root-key", hexKey(w), "-origin", "https://example.com",
		"-clients", "3", "-rate", "5", "-duration", "3s", "-progress", "0")
	for _, v := range r.Violations {
		if !strings.Contains(v, "goroutines before") { // those of the server, which lives on in this process
			t.Error(v)
		}
	}
	if r.Delivered == 0 {
		t.Error("nothing delivered")
	}
}
