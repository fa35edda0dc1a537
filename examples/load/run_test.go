package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/verify"
)

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
