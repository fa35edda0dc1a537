package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// compared runs scale or bench and returns the figures by work and name: those of the gateway and of the bare server.
func compared(t *testing.T, args ...string) (gateway, bare map[string]float64, page string) {
	t.Helper()
	dir := t.TempDir()
	series, html := filepath.Join(dir, "out.csv"), filepath.Join(dir, "out.html")
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), append(args, "-quick", "-csv", series, "-html", html), &stdout, &stderr)
	if code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, &stderr, &stdout)
	}
	t.Logf("%s\n%s", &stderr, &stdout)
	if !strings.Contains(stdout.String(), "No message and no session was lost.") {
		t.Error("it does not say that nothing was lost")
	}
	f, err := os.Open(series)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	gateway, bare = map[string]float64{}, map[string]float64{}
	for _, r := range records[1:] {
		for column, to := range map[int]map[string]float64{6: gateway, 9: bare} {
			if n, err := strconv.ParseFloat(r[column], 64); err == nil {
				to[r[0]+": "+r[3]] = n
			}
		}
	}
	return gateway, bare, readPage(t, html)
}

// unpacked is what is in a gzip file.
func unpacked(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return text
}

// Both servers run as processes, over TLS, through a reload and a restart, and all messages come back.
func TestScaleOverProcesses(t *testing.T) {
	profiles := filepath.Join(t.TempDir(), "profiles")
	gateway, bare, page := compared(t, "scale", "-sessions", "3,6", "-canisters", "2", "-rate", "5", "-duration", "2s", "-idle", "1s", "-opens", "6", "-profiles", profiles)
	for _, name := range []string{"no session heap", "opening cpu", "idle cpu", "idle heap", "messages cpu"} {
		file := filepath.Join(profiles, "6-sessions-2-canisters-"+strings.ReplaceAll(name, " ", "-")+".pprof")
		if text := unpacked(t, file); !bytes.Contains(text, []byte("inuse_space")) && !bytes.Contains(text, []byte("nanoseconds")) {
			t.Errorf("%s: no profile, %d bytes", name, len(text))
		}
	}
	for _, size := range []string{"3 sessions, 2 canisters: ", "6 sessions, 2 canisters: "} {
		for name, figures := range map[string]map[string]float64{"gateway": gateway, "bare server": bare} {
			if n := figures[size+"messages: delivered"]; n < 3 {
				t.Errorf("%s: %s: %g messages", size, name, n)
			}
			if lost, ok := figures[size+"messages lost"]; !ok || lost != 0 {
				t.Errorf("%s: %s: %g messages lost", size, name, lost)
			}
			if n := figures[size+"after a restart: sessions opened a second"]; n <= 0 {
				t.Errorf("%s: %s: nothing opened after the restart", size, name)
			}
		}
		if lost, ok := gateway[size+"reload: sessions lost"]; !ok || lost != 0 {
			t.Errorf("%s: %g sessions lost, measured: %v", size, lost, ok)
		}
		if _, ok := gateway[size+"idle: heap and stack per session after a collection"]; !ok {
			t.Errorf("%s: the gateway's heap is not known", size)
		}
		// The bare server's frames are as long as the gateway's.
		if g, b := gateway[size+"bytes of a frame to the client"], bare[size+"bytes of a frame to the client"]; g < 1000 || math.Abs(g-b) > 1 {
			t.Errorf("%s: frames of %g bytes, of the bare server %g", size, g, b)
		}
		if ours, all := gateway[size+"messages: added to the time in the network, p50"], gateway[size+"messages: round trip, p50"]; ours <= 0 || ours > all {
			t.Errorf("%s: %g ms of %g ms are the gateway's", size, ours, all)
		}
		if thisProcess.use() != (use{}) && (gateway[size+"no session: RSS"] < 10 || bare[size+"no session: RSS"] <= 0) {
			t.Errorf("%s: RSS of %g and %g MB", size, gateway[size+"no session: RSS"], bare[size+"no session: RSS"])
		}
	}
	if n := strings.Count(page, "<svg"); n < 15 {
		t.Errorf("the page has %d curves", n)
	}
}

// memorySubject is a gateway in this process and in fake time, with the given application.
func memorySubject(t *testing.T, app localnet.App) (s *subject, done func()) {
	t.Helper()
	w, err := newWorld(worldOptions{memory: true, cdk: localnet.CDKOptions{App: app}})
	if err != nil {
		t.Fatal(err)
	}
	return &subject{
		target:  w.target(),
		use:     func() use { return use{} },
		reload:  func(context.Context) error { return nil },
		restart: func(context.Context) (string, error) { return w.url, nil },
	}, func() { w.close() }
}

// What goes wrong fails the trial and is told.
func TestScaleFindsWhatIsWrong(t *testing.T) {
	silent := func(*testing.T) localnet.App {
		return &botch{
			wrong: func(*localnet.AppContext, verify.Principal, []byte, []byte) error { return nil },
			last:  map[verify.Principal][]byte{}, count: map[verify.Principal]int{},
		}
	}
	for name, tt := range map[string]struct {
		app    func(t *testing.T) localnet.App
		reload func(c *crowd) error
		want   string // in a violation; "": none
	}{
		"nothing":           {want: ""},
		"a message is lost": {app: silent, want: "messages lost"},
		"a reload loses a session": {want: "reload: 1 sessions lost", reload: func(c *crowd) error {
			return c.sessions[0].client.(*client.Client).Raw().Conn().NetConn().Close()
		}},
		"a reload fails": {want: "reload: no such module", reload: func(*crowd) error { return errors.New("no such module") }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				app := localnet.App(localnet.Echo{})
				if tt.app != nil {
					app = tt.app(t)
				}
				s, done := memorySubject(t, app)
				defer done()
				trial := newTrial(s, plan{clients: 3, rate: 4, size: 40, window: 8, grace: 5 * time.Second}, 0, func(string, ...any) {})
				if tt.reload != nil {
					s.reload = func(context.Context) error { return tt.reload(trial.crowd) }
				}
				c := course{sessions: 3, talk: 4 * time.Second, idle: time.Second}
				if err := trial.crowd.open(t.Context(), c.sessions); err != nil {
					t.Fatal(err)
				}
				trial.messages(t.Context(), c, "messages")
				trial.reloading(t.Context(), c)
				trial.finish(t.Context())
				found := slices.ContainsFunc(trial.wrong, func(text string) bool { return strings.Contains(text, tt.want) })
				if tt.want == "" && len(trial.wrong) > 0 || tt.want != "" && !found {
					t.Errorf("violations %q, want %q", trial.wrong, tt.want)
				}
			})
		})
	}
}

// Many messages to everybody end with the first burst of which something did not come.
func TestBurstWithLosses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, done := memorySubject(t, pageWriter{burst: 2})
		defer done()
		trial := newTrial(s, plan{clients: 3, size: 40, window: 8, grace: 5 * time.Second}, 3, func(string, ...any) {}) // 2 come of 3
		began := time.Now()
		err := trial.fanOut(t.Context(), course{sessions: 3, bursts: 10})
		if want := "3 of 9 messages did not come"; err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("it took %s", took)
		}
		trial.finish(t.Context())
	})
}

// Without a baseline there is no comparison, and the run fails.
func TestScaleNeedsItsBaseline(t *testing.T) {
	figures := []figure{{name: "RSS", unit: "MB", value: 40}, {name: "reload", value: 3, alone: true}}
	for name, tt := range map[string]struct {
		bare [][]figure
		want string
	}{
		"all":             {[][]figure{{{name: "RSS", value: 20}}, {{name: "RSS", value: 10}}}, ""},
		"none":            {nil, `work: no baseline for "RSS"`},
		"in one run only": {[][]figure{{{name: "RSS", value: 20}}, {}}, `work: no baseline for "RSS"`},
	} {
		f := &findings{results: []*result{{experiment: experiment{title: "work"}, gateway: [][]figure{figures, figures}, bare: tt.bare}}}
		if got := strings.Join(f.wrong(), "; "); got != tt.want {
			t.Errorf("%s: violations %q, want %q", name, got, tt.want)
		}
	}
	if got := (&findings{results: []*result{{experiment: experiment{title: "work"}}}}).wrong(); len(got) != 1 {
		t.Errorf("nothing measured: violations %q", got)
	}
}

// Medians, ratios, and what is not known.
func TestScaleTables(t *testing.T) {
	figures := func(n ...float64) (runs [][]figure) {
		for _, v := range n {
			runs = append(runs, []figure{{name: "RSS", unit: "kB", value: v}, {name: "slab", unit: "kB", value: math.NaN()}, {name: "reload", value: 1, alone: true}})
		}
		return runs
	}
	f := &findings{command: "x", results: []*result{{experiment: experiment{title: "work"}, gateway: figures(30, 10, 20), bare: figures(5, 8, 4)}}}
	var text, series bytes.Buffer
	f.markdown(&text)
	for _, want := range []string{
		"| RSS | kB | 20 | 5 | 4 |", "| slab | kB | not known | not known |  |", "| reload |  | 1 | has none |  |",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, &text)
		}
	}
	if err := f.csv(&series); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(series.String(), "work,0,0,RSS,kB,3,20,10,30,5,4,8,4\r\n") {
		t.Errorf("%s", &series)
	}
}

// Only what is asked for is measured.
func TestBenchOnly(t *testing.T) {
	for only, want := range map[string]int{"": 5, "idle sessions": 3, "echo": 1} {
		s, err := parseScale("bench", []string{"-only", only}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.experiments(); len(got) != want {
			t.Errorf("-only %q: %d works, want %d", only, len(got), want)
		}
	}
}

// A run of which a file cannot be written says so before it measures.
func TestScaleOpensItsFilesFirst(t *testing.T) {
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"scale", "-html", filepath.Join(t.TempDir(), "no", "page.html")}, io.Discard, &stderr); code != 2 {
		t.Errorf("exit code %d: %s", code, &stderr)
	}
}

// What an interruption cuts off is a failed run, and all that was begun is ended.
func TestScaleInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		e := experiment{plan: plan{clients: 2, size: 40, window: 8}, course: course{sessions: 2, talk: time.Second, idle: time.Hour}, steps: (*trial).full}
		said := func(format string, args ...any) {
			if strings.Contains(fmt.Sprintf(format, args...), "idle for") {
				cancel()
			}
		}
		trial, err := e.trial(ctx, "gateway", said, func(context.Context) (*subject, error) {
			s, done := memorySubject(t, localnet.Echo{})
			s.close = func() error { done(); return nil }
			return s, nil
		})
		if !slices.Contains(trial.wrong, "interrupted: context canceled") {
			t.Errorf("violations %q, %v", trial.wrong, err)
		}
	})
}
