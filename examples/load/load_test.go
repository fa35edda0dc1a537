package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// childVariable makes the test binary a gateway elsewhere.
const childVariable = "ICWS_LOAD_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		if err := beElsewhere(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// beElsewhere serves a world, says where it is, and ends with its standard input.
func beElsewhere() error {
	w, err := newWorld(worldOptions{seed: 5})
	if err != nil {
		return err
	}
	fmt.Println(w.url, w.canister, hex.EncodeToString(w.network.RootKey()))
	_, _ = io.Copy(io.Discard, os.Stdin)
	return w.close()
}

// inFakeTime runs the program in memory and in fake time, so that how busy the machine is changes nothing, and returns
// its report.
func inFakeTime(t *testing.T, args ...string) (r *report, code int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { r, code = execute(t, true, "", args...) })
	return r, code
}

// execute runs the program and returns its report. It is interrupted once a line of its progress matches.
func execute(t *testing.T, memory bool, enough string, args ...string) (*report, int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stderr := &until{done: cancel}
	if enough != "" {
		stderr.match = regexp.MustCompile(enough)
	}
	s, err := parse(append(args, "-json"), stderr)
	if err != nil {
		t.Fatal(err)
	}
	s.memory = memory
	var stdout, text bytes.Buffer
	code := s.run(ctx, &stdout, stderr)
	r := new(report)
	if err := json.Unmarshal(stdout.Bytes(), r); err != nil {
		t.Fatalf("exit code %d, %v\n%s\n%s", code, err, stderr.tail(), &stdout)
	}
	r.text(&text)
	t.Logf("%s\n%s", stderr.tail(), &text)
	return r, code
}

// until calls done when a line that matches has been written.
type until struct {
	buf   bytes.Buffer
	match *regexp.Regexp
	done  func()
}

func (u *until) Write(p []byte) (int, error) {
	if u.match != nil && u.match.Match(p) {
		defer u.done()
	}
	return u.buf.Write(p)
}

// tail is the last lines.
func (u *until) tail() string {
	lines := strings.Split(strings.TrimSpace(u.buf.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

func TestRun(t *testing.T) {
	checkRun(t)(inFakeTime(t, "-clients", "8", "-rate", "5", "-churn", "16", "-opens", "0", "-duration", "6s", "-latency", "20ms", "-progress", "1s"))
}

func checkRun(t *testing.T) func(*report, int) {
	return func(r *report, code int) {
		t.Helper()
		checkBooks(t, r)
		if code != 0 || len(r.Violations) > 0 {
			t.Errorf("exit code %d, violations %q", code, r.Violations)
		}
		if r.Opens <= 8 || r.Sent < 8 || r.Delivered != r.Sent || r.RoundTrip.Count != r.Sent || r.RoundTrip.P50 <= 0 {
			t.Errorf("opened %d, sent %d, delivered %d, timed %d", r.Opens, r.Sent, r.Delivered, r.RoundTrip.Count)
		}
	}
}

// checkBooks checks that what is due is all accounted for, and every session.
func checkBooks(t *testing.T, r *report) {
	t.Helper()
	if r.Due == 0 || r.Due != r.Delivered+r.Lost+r.Unresolved {
		t.Errorf("due %d, delivered %d, lost %d, unresolved %d", r.Due, r.Delivered, r.Lost, r.Unresolved)
	}
	ends := uint64(0)
	for _, m := range []map[string]uint64{r.Closes, r.OwnCloses} {
		for _, n := range m {
			ends += n
		}
	}
	if r.Opens == 0 || r.Opens != r.Closed || r.Closed != ends {
		t.Errorf("opened %d, closed %d, with %d reasons", r.Opens, r.Closed, ends)
	}
}

func TestSoakLooksAtTheTrend(t *testing.T) {
	checkSoak(t)(inFakeTime(t, "soak", "-clients", "10", "-rate", "2", "-opens", "0", "-duration", "20s", "-warm", "5s", "-latency", "10ms", "-progress", "1s"))
}

func checkSoak(t *testing.T) func(*report, int) {
	return func(r *report, code int) {
		t.Helper()
		if code != 0 || len(r.Violations) > 0 {
			t.Errorf("exit code %d, violations %q", code, r.Violations)
		}
		if !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.HasPrefix(n, "warm  heap ") }) {
			t.Errorf("notes %q", r.Notes)
		}
	}
}

// A process that grows between the warm state and the end fails the run.
func TestTrend(t *testing.T) {
	warm := footprint{HeapBytes: 40 << 20, Goroutines: 100}
	for _, tt := range []struct {
		last footprint
		want string
	}{
		{footprint{HeapBytes: 66 << 20, Goroutines: 175}, ""},
		{footprint{HeapBytes: 67 << 20, Goroutines: 175}, "heap grew from 40.0 to 67.0 MiB"},
		{footprint{HeapBytes: 66 << 20, Goroutines: 176}, "goroutines grew from 100 to 176"},
	} {
		var r report
		trend{warm: warm, last: tt.last}.judge(&r)
		if got := strings.Join(r.Violations, "; "); got != tt.want {
			t.Errorf("%+v: violations %q, want %q", tt.last, got, tt.want)
		}
	}
	var r report
	if (trend{last: warm}).judge(&r); len(r.Violations) > 0 || len(r.Notes) != 1 {
		t.Errorf("never warm: violations %q, notes %q", r.Violations, r.Notes)
	}
}

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

func TestHeadOfLine(t *testing.T) {
	// The latency is long against the time to the next block and the next poll, in which a message is lucky or not.
	r, code := inFakeTime(t, "headofline", "-clients", "40", "-stalled", "4", "-rate", "0.5", "-opens", "0", "-duration", "3m", "-latency", "1s", "-progress", "0")
	if code != 0 || len(r.Violations) > 0 {
		t.Errorf("exit code %d, violations %q", code, r.Violations)
	}
	if r.Delivered == 0 || r.Delivered != r.Sent*36 {
		t.Errorf("sent %d, delivered %d to 36 listeners", r.Sent, r.Delivered)
	}
	checkBooks(t, r)
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

func TestJudge(t *testing.T) {
	usual, err := parse(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		report report
		want   string
	}{
		"all":               {report{Opens: 1, Due: 3, Delivered: 3}, ""},
		"half":              {report{Opens: 1, Due: 100, Delivered: 49, Lost: 1, Unresolved: 50}, ""},
		"less than half":    {report{Opens: 1, Due: 100, Delivered: 49, Unresolved: 51}, "what became of the messages is known of only 49.00 %, -resolved asks for 50 %: the run proves too little"},
		"nothing sent":      {report{Opens: 1}, "no message was sent: the run proves nothing"},
		"nothing opened":    {report{}, "no session could be opened"},
		"goroutines remain": {report{Opens: 1, Due: 1, Before: footprint{Goroutines: 2}, After: footprint{Goroutines: 3}}, "2 goroutines before, 3 after"},
	} {
		tt.report.judge(usual)
		if got := strings.Join(tt.report.Violations, "; "); got != tt.want {
			t.Errorf("%s: violations %q, want %q", name, got, tt.want)
		}
	}
	idle := report{Opens: 1}
	if idle.judge(&settings{resolved: usual.resolved}); len(idle.Violations) > 0 {
		t.Errorf("nothing sent, as asked for: violations %q", idle.Violations)
	}
}

// A share that is not all or nothing does not look so.
func TestPercent(t *testing.T) {
	for want, of := range map[string][2]uint64{
		"": {0, 0}, "0 %": {0, 7}, "100 %": {7, 7}, "<0.01 %": {1, 1e6}, ">99.99 %": {1e6 - 1, 1e6}, "33.33 %": {1, 3}, "0.01 %": {1, 10000}, "99.99 %": {9999, 10000},
	} {
		if got := percent(of[0], of[1]); got != want {
			t.Errorf("%d of %d: %q, want %q", of[0], of[1], got, want)
		}
	}
}

// The report as text has every share, and nothing that a terminal would obey.
func TestReportAsText(t *testing.T) {
	var s stats
	for range 3 {
		s.send(make([]byte, payloadHead), 2)
	}
	s.delivered.Add(4)
	s.unresolved.Add(1)
	s.lost.Add(1)
	s.count(&s.closes, "gateway 1011 \x1b[2Jgone\n  no violation")
	s.count(&s.refusals, strings.Repeat("x", 1000))
	var out bytes.Buffer
	if code := s.report("run", time.Second).write(&out, false); code != 1 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{
		"sent 3 ", "    due                    6     100 %\n", "    delivered              4   66.67 %\n", "    lost                   1   16.67 %\n",
		"    unresolved             1   16.67 %\n", "    duplicated             0       0 %\n", "    out of order           0       0 %\n",
		"  closed      1 x gateway 1011 ?[2Jgone?  no violation\n", "x...\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	if out.Len() > 2000 {
		t.Errorf("%d bytes", out.Len())
	}
}

// What comes in between is a failure of the run and not of who called it, and the report says what it was.
func TestInterrupted(t *testing.T) {
	for _, after := range []time.Duration{time.Millisecond, 500 * time.Millisecond, 20 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			var stdout, stderr bytes.Buffer
			s, err := parse([]string{"headofline", "-clients", "4", "-stalled", "1", "-opens", "0", "-duration", "1m", "-latency", "10ms", "-progress", "0"}, &stderr)
			if err != nil {
				t.Fatal(err)
			}
			s.memory = true
			if code := s.run(ctx, &stdout, &stderr); code != 1 || !strings.Contains(stdout.String(), "not finished") || strings.Contains(stdout.String(), "messages lost") {
				t.Errorf("after %s: exit code %d\n%s\n%s", after, code, &stderr, &stdout)
			}
		})
	}
}

// hush is a broadcast that closes its speaker with the third message.
type hush struct {
	localnet.Broadcast
	heard int
}

func (a *hush) OnMessage(ctx *localnet.AppContext, from verify.Principal, payload []byte) error {
	if a.heard++; a.heard == 3 {
		return ctx.Close(from)
	}
	return a.Broadcast.OnMessage(ctx, from, payload)
}

// What a speaker who was cut off said last may not have gone out: it is not lost but unresolved.
func TestSpeakerIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, err := newWorld(worldOptions{memory: true, latency: 10 * time.Millisecond, cdk: localnet.CDKOptions{App: new(hush)}})
		if err != nil {
			t.Fatal(err)
		}
		defer w.close()
		s, err := parse([]string{"headofline", "-clients", "4", "-stalled", "1", "-opens", "0", "-progress", "0"}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		rec := newRecorder(newConsole(io.Discard), s)
		h := &hall{world: w, fleet: newFleet(w.target(), s.plan()), settings: s}
		stop := rec.start(h.fleet.stats)
		err = h.run(t.Context(), rec)
		stop()
		r := h.fleet.stats.report("headofline", time.Second)
		checkBooks(t, r)
		if err == nil || !strings.Contains(err.Error(), "the speaker cannot send") || r.Delivered != 2*3 || r.Lost != 0 || r.Unresolved == 0 {
			t.Errorf("%v; due %d, delivered %d, lost %d, unresolved %d", err, r.Due, r.Delivered, r.Lost, r.Unresolved)
		}
	})
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
			synctest.Test(t, func(t *testing.T) {
				app := &botch{wrong: tt.wrong, last: map[verify.Principal][]byte{}, count: map[verify.Principal]int{}}
				w, err := newWorld(worldOptions{memory: true, cdk: localnet.CDKOptions{App: app}})
				if err != nil {
					t.Fatal(err)
				}
				defer w.close()
				f := newFleet(w.target(), plan{clients: 2, rate: 10, size: 40, window: 8, grace: 4 * time.Second})
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // both go past the third message
				defer cancel()
				f.run(ctx)
				r := f.stats.report("test", time.Second)
				if r.write(io.Discard, false) != 1 || !slices.ContainsFunc(r.Violations, func(v string) bool { return strings.Contains(v, tt.want) }) {
					t.Errorf("violations %q, want one with %q", r.Violations, tt.want)
				}
			})
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

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{"nonsense"}, {"-clients", "0"}, {"-window", "0"}, {"-rate", "-1"}, {"-duration", "0s"}, {"-size", "9999999"}, {"run", "surplus"},
		{"-rate", "NaN"}, {"-rate", "Inf"}, {"-rate", "1e12"}, {"-rate", "1e-12"}, {"-churn", "1e-12"}, {"-churn", "-1"}, {"-opens", "-1"},
		{"-opens", "NaN"}, {"headofline", "-rate", "1e12"}, {"headofline", "-stalled", "-1"}, {"-size", "23"}, {"-latency", "-1s"},
		{"-canister", "bkyz2-fmaaa-aaaaa-qaaaq-cai"}, {"-root-key", "00"}, {"-ca", "x"}, {"-origin", "https://example.com"},
		{"-url", "https://localhost:1/", "-canister", "bkyz2-fmaaa-aaaaa-qaaaq-cai"}, {"-url", "localhost:1", "-canister", "bkyz2-fmaaa-aaaaa-qaaaq-cai"},
		{"-url", "ws://localhost:1/"}, {"chaos", "-url", "ws://localhost:1/", "-canister", "aaaaa-aa"},
		{"chaos", "-weather", "sunny"}, {"-resolved", "101"}, {"-resolved", "NaN"}, {"-interval", "1ms"}, {"-csv", "-", "-json"}, {"-html", "-"},
		{"-csv", "x", "-html", "x"}, {"-pid", "1"}, {"-pid", "-1"},
		{"-url", "ws://localhost:1/", "-canister", "bkyz2-fmaaa-aaaaa-qaaaq-cai", "-pid", "2147483647"}, {"headofline", "-clients", "5", "-stalled", "5"},
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
	url := fmt.Sprintf("ws://127.0.0.1:%d/", freeport.ForTest(t))
	r, code := execute(t, false, " refused [1-9]", "-url", url, "-canister", "bkyz2-fmaaa-aaaaa-qaaaq-cai", "-clients", "1", "-duration", "5m", "-progress", "20ms")
	if code != 1 || r.Refused == 0 || !slices.Contains(r.Violations, "no session could be opened") {
		t.Errorf("exit code %d, %+v", code, r)
	}
}

// Where the gateway cannot read what the network writes, the error of its polls is told while the clients wait.
func TestSilenceIsExplained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, err := newWorld(worldOptions{seed: 5, memory: true})
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
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		f := newFleet(w.target(), plan{clients: 2, window: 1})
		var said bytes.Buffer
		stop := f.explainSilence(ctx, w.why, newConsole(&said))
		f.run(ctx)
		stop()
		if !strings.Contains(said.String(), "nothing arrives: the gateway's polls fail: node0.test") || !strings.Contains(said.String(), "reading query answer") {
			t.Errorf("said %q", &said)
		}
		if f.stats.opens.Load() != 0 {
			t.Error("a session opened")
		}
	})
}

// The same program goes to a gateway elsewhere, over sockets and in real time.
func TestRemote(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := exec.CommandContext(t.Context(), exe)
	elsewhere.Env = append(os.Environ(), childVariable+"=1")
	elsewhere.Stderr = os.Stderr
	stdin, err := elsewhere.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := elsewhere.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := elsewhere.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stdin.Close()
		if err := elsewhere.Wait(); err != nil {
			t.Error(err)
		}
	}()
	var url, canister, rootKey string
	if _, err := fmt.Fscanln(stdout, &url, &canister, &rootKey); err != nil {
		t.Fatal(err)
	}
	series := filepath.Join(t.TempDir(), "run.csv")
	r, code := execute(t, false, " delivered [1-9]", "-url", url, "-csv", series, "-pid", strconv.Itoa(elsewhere.Process.Pid), "-canister", canister, "-root-key", rootKey, "-origin", "https://example.com",
		"-clients", "3", "-rate", "5", "-duration", "5m", "-grace", "5m", "-progress", "20ms")
	if code != 0 || len(r.Violations) > 0 {
		t.Errorf("exit code %d, violations %q", code, r.Violations)
	}
	if r.Delivered == 0 || r.Delivered != r.Sent {
		t.Errorf("sent %d, delivered %d", r.Sent, r.Delivered)
	}
	raw, err := os.ReadFile(series)
	if err != nil {
		t.Fatal(err)
	}
	rows := readSeries(t, raw)
	if rss := rows.number(t, 0, "rss_bytes"); rss < 1<<20 {
		t.Errorf("the gateway's process has %g bytes", rss)
	}
}

// A password in the address is in no page.
func TestShownWithoutPassword(t *testing.T) {
	s, err := parse([]string{"-url", "wss://me:secret@example.com/?token=secret", "-canister", "bkyz2-fmaaa-aaaaa-qaaaq-cai", "-clients", "3"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if s.command != "load run -canister=bkyz2-fmaaa-aaaaa-qaaaq-cai -clients=3 -url=wss://me:xxxxx@example.com/?token=xxxxx" || strings.Contains(fmt.Sprint(s.flags), "secret") {
		t.Errorf("%s %v", s.command, s.flags)
	}
	s.url = "http://me:secret@example.com/?token=secret"
	if _, err := s.remote(); err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}
