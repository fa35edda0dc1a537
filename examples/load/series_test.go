package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A table is a time series that was read again.
type table []map[string]string

func readSeries(t *testing.T, raw []byte) (rows table) {
	t.Helper()
	if lines := bytes.Count(raw, []byte("\n")); lines == 0 || lines != bytes.Count(raw, []byte("\r\n")) {
		t.Errorf("lines do not end as RFC 4180 has it:\n%s", raw)
	}
	records, err := csv.NewReader(bytes.NewReader(raw)).ReadAll()
	if err != nil || len(records) == 0 {
		t.Fatalf("%v\n%s", err, raw)
	}
	for _, cells := range records[1:] {
		w := map[string]string{}
		for i, name := range records[0] {
			w[name] = cells[i]
		}
		rows = append(rows, w)
	}
	return rows
}

func (w table) number(t *testing.T, i int, name string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(w[i][name], 64)
	if err != nil {
		t.Errorf("row %d: %s: %v", i, name, err)
	}
	return n
}

func (w table) sum(t *testing.T, name string) uint64 {
	t.Helper()
	var sum uint64
	for i := range w {
		sum += uint64(w.number(t, i, name))
	}
	return sum
}

// The rows together are the report, and each is about its own second.
func TestSeriesOfARun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "run.csv")
	r, code := inFakeTime(t, "-clients", "8", "-rate", "5", "-churn", "4", "-opens", "0", "-duration", "6s", "-latency", "20ms", "-progress", "0", "-csv", file)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rows := readSeries(t, raw)
	for name, want := range map[string]uint64{
		"opened": r.Opens, "closed": r.Closed, "refused": r.Refused, "sent": r.Sent, "received": r.Delivered, "sent_bytes": 64 * r.Sent,
		"received_bytes": 64 * r.Delivered, "errors": 0,
	} {
		if got := rows.sum(t, name); got != want {
			t.Errorf("%s: the rows have %d, the report %d", name, got, want)
		}
	}
	if r.Opens != r.Closed || r.Opens < 8 || r.Sent < 100 {
		t.Errorf("opened %d, closed %d, sent %d", r.Opens, r.Closed, r.Sent)
	}
	if len(rows) < 6 {
		t.Fatalf("%d rows of 6 s", len(rows))
	}
	began := time.Time{}
	for i := range 6 {
		at, err := time.Parse(time.RFC3339, rows[i]["time"])
		if err != nil || i > 0 && !at.Equal(began.Add(time.Duration(i)*time.Second)) {
			t.Errorf("row %d is of %s, %v", i, at, err)
		}
		if i == 0 {
			began = at
		}
		if rows.number(t, i, "elapsed_s") != float64(i+1) || rows[i]["interval_s"] != "1" || rows[i]["sent"] != rows[i]["sent_per_s"] {
			t.Errorf("row %d is %v", i, rows[i])
		}
		p50, p90, p99, most := rows.number(t, i, "latency_p50_ms"), rows.number(t, i, "latency_p90_ms"), rows.number(t, i, "latency_p99_ms"), rows.number(t, i, "latency_max_ms")
		// The network executes a call at the last block, of 2 ms, in the 20 ms that it takes.
		if p50 < 18 || p50 > p90 || p90 > p99 || p99 > most || most > r.RoundTrip.Max {
			t.Errorf("row %d: latencies %g, %g, %g, %g of at most %g", i, p50, p90, p99, most, r.RoundTrip.Max)
		}
		if i < 5 && rows.number(t, i, "sessions") < 4 || knowsUse && (rows.number(t, i, "rss_bytes") < 1<<20 || rows[i]["cpu_percent"] == "") {
			t.Errorf("row %d is %v", i, rows[i])
		}
	}
	if last := rows[len(rows)-1]; last["sessions"] != "0" {
		t.Errorf("the last row is %v", last)
	}
}

// Rows are written when they are taken, and who interrupts a run has them all, the report and the page.
func TestSeriesOfAnInterruptedRun(t *testing.T) {
	page := filepath.Join(t.TempDir(), "run.html")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stdout := &until{match: regexp.MustCompile(`Z,3,1,`), done: cancel}
		var stderr bytes.Buffer
		s, err := parse([]string{"-clients", "3", "-opens", "0", "-duration", "1h", "-latency", "20ms", "-progress", "0", "-csv", "-", "-html", page}, &stderr)
		if err != nil {
			t.Fatal(err)
		}
		s.memory = true
		if code := s.run(ctx, stdout, &stderr); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if rows := readSeries(t, stdout.buf.Bytes()); len(rows) < 3 || len(rows) > 25 {
			t.Errorf("%d rows", len(rows))
		}
		if !strings.Contains(stderr.String(), "interrupted after 3.") || !strings.Contains(stderr.String(), "delivered") {
			t.Errorf("said %s", &stderr)
		}
	})
	if text := readPage(t, page); !strings.Contains(text, "interrupted after 3.") || !strings.Contains(text, "<path") {
		t.Error("the page does not show the run")
	}
}

// A run that cannot be made says so on its page.
func TestPageOfAFailedRun(t *testing.T) {
	page := filepath.Join(t.TempDir(), "run.html")
	if code := run(t.Context(), []string{"chaos", "-weather", "sunny", "-html", page}, io.Discard, io.Discard); code != 2 {
		t.Errorf("exit code %d", code)
	}
	if text := readPage(t, page); !strings.Contains(text, "the run failed: -weather &#34;sunny&#34; is not known") {
		t.Error("the page does not say what failed")
	}
}

// Files are opened before the run and not after it.
func TestOutputsThatCannotBe(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing", "file")
	for _, flag := range []string{"-csv", "-html"} {
		var stderr bytes.Buffer
		if code := run(t.Context(), []string{"-duration", "1ms", flag, missing}, io.Discard, &stderr); code != 2 || !strings.Contains(stderr.String(), flag+": open ") {
			t.Errorf("%s: exit code %d, said %s", flag, code, &stderr)
		}
	}
}

// full takes so many writes.
type full struct{ room int }

func (f *full) Write(p []byte) (int, error) {
	if f.room--; f.room < 0 {
		return 0, errors.New("no space left")
	}
	return len(p), nil
}

// A time series that cannot be written to its end fails the run, which goes on.
func TestSeriesWithoutRoom(t *testing.T) {
	for _, room := range []int{0, 2} {
		synctest.Test(t, func(t *testing.T) {
			var stderr bytes.Buffer
			s, err := parse([]string{"-clients", "2", "-opens", "0", "-duration", "5s", "-latency", "20ms", "-csv", "-"}, &stderr)
			if err != nil {
				t.Fatal(err)
			}
			s.memory = true
			code, want := s.run(t.Context(), &full{room}, &stderr), 1
			if room == 0 {
				want = 2 // there is no run
			}
			if code != want || !strings.Contains(stderr.String(), "the time series ends before the run: no space left") {
				t.Errorf("exit code %d, said %s", code, &stderr)
			}
			if got := strings.Contains(stderr.String(), "delivered"); got != (room > 0) {
				t.Errorf("there is a report: %t", got)
			}
		})
	}
}

// secondsOf are rows of a second each.
func secondsOf(n int) (rows []row) {
	for i := range n {
		rows = append(rows, row{
			elapsed: time.Duration(i+1) * time.Second, span: time.Second, sent: 3, received: 2, opened: 1, sessions: uint64(i + 1),
			latency: tally{{bucket: bucket(time.Duration(i+1) * time.Millisecond), n: 2}}, longest: time.Hour, use: use{cpu: time.Second / 2, rss: 1 << 20},
		})
	}
	return rows
}

// However long a run is, its page has a bounded number of points, and they leave nothing out.
func TestRowsAreBounded(t *testing.T) {
	const day = 24 * 60 * 60
	r := newRecorder(newConsole(io.Discard), &settings{interval: time.Second})
	marks := 0
	for i, w := range secondsOf(day) {
		if i%100 == 0 {
			w.marks = []mark{{w.elapsed, "something"}}
			marks++
		}
		r.keep(w)
		if len(r.drawn) > maxRows {
			t.Fatalf("%d rows are kept", len(r.drawn))
		}
	}
	r.keep(row{elapsed: day*time.Second + time.Millisecond, span: time.Millisecond, sent: 7})
	var sum row
	kept := 0
	for i, w := range r.drawn {
		if i < len(r.drawn)-1 && w.span != time.Duration(r.per)*time.Second {
			t.Fatalf("row %d is of %s, others are of %d s", i, w.span, r.per)
		}
		sum = sum.plus(w)
		kept += len(w.marks)
	}
	var times uint64
	for _, h := range sum.latency {
		times += h.n
	}
	if len(r.drawn) < maxRows/2 || sum.span != day*time.Second+time.Millisecond || sum.sent != 3*day+7 || sum.received != 2*day || sum.opened != day || times != 2*day {
		t.Errorf("%d rows of %s with %d sent, %d received, %d opened, %d times", len(r.drawn), sum.span, sum.sent, sum.received, sum.opened, times)
	}
	if kept != maxMarks || r.missed != marks-maxMarks {
		t.Errorf("%d marks kept, %d missed of %d", kept, r.missed, marks)
	}
	if p50 := sum.latency.quantile(.5); p50 < day/2*time.Millisecond || float64(p50) > 1.07*day/2*float64(time.Millisecond) {
		t.Errorf("the median of all is %s", p50)
	}
}

// What is left at the end is no rate, and where nothing is known nothing is said.
func TestShortAndUnknown(t *testing.T) {
	r := newRecorder(newConsole(io.Discard), &settings{interval: time.Second})
	rows := secondsOf(2)
	r.keep(rows[0])
	rows[1].span, rows[1].elapsed = 0, time.Second
	r.keep(rows[1])
	if len(r.drawn) != 1 || r.drawn[0].sent != 6 || r.drawn[0].span != time.Second {
		t.Errorf("kept %+v", r.drawn)
	}
	cells := row{}.cells()
	for i, c := range columns {
		switch c.name {
		case "sent_per_s", "received_per_s", "latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "latency_max_ms", "cpu_percent", "rss_bytes", "event":
			if cells[i] != "" {
				t.Errorf("%s is %q", c.name, cells[i])
			}
		}
	}
	one := row{elapsed: time.Second, use: use{cpu: 9 * time.Second, rss: 1}}
	two := row{elapsed: 2 * time.Second, use: use{cpu: time.Second, rss: 1}}
	if w := two.minus(one); w.use != (use{}) {
		t.Errorf("another process with the same number: %+v", w.use)
	}
	if w := one.minus(row{}); w.use != (use{}) {
		t.Errorf("a process that was not there before: %+v", w.use)
	}
	if w := (row{}).plus(one); w.use != (use{}) {
		t.Errorf("a process of which a part is not known: %+v", w.use)
	}
}

// It is the gateway's process that is recorded, where that is known, and a terminal is told more often.
func TestNewRecorder(t *testing.T) {
	terminal := newConsole(io.Discard)
	terminal.width = func() int { return 80 }
	for _, tt := range []struct {
		console *console
		s       settings
		process process
		every   time.Duration
	}{
		{newConsole(io.Discard), settings{progress: 10 * time.Second}, thisProcess, 10 * time.Second},
		{newConsole(io.Discard), settings{url: "ws://localhost/"}, "", 0},
		{newConsole(io.Discard), settings{url: "ws://localhost/", pid: 7}, "7", 0},
		{terminal, settings{progress: 10 * time.Second}, thisProcess, time.Second},
		{terminal, settings{}, thisProcess, 0},
	} {
		if r := newRecorder(tt.console, &tt.s); r.process != tt.process || r.every != tt.every {
			t.Errorf("%+v: process %q, every %s", tt.s, r.process, r.every)
		}
	}
}

func TestUse(t *testing.T) {
	fields := make([]string, 52)
	for i := range fields {
		fields[i] = fmt.Sprint(i + 1) // field 14 is 14, as in proc_pid_stat(5)
	}
	fields[1], fields[2] = "(a) 9 (b c)", "S"
	want := use{cpu: (14 + 15) * 10 * time.Millisecond, rss: 24 * uint64(os.Getpagesize())}
	if got := parseUse([]byte(strings.Join(fields, " "))); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, broken := range []string{"", ")", "1 (x) S 1 2"} {
		if got := parseUse([]byte(broken)); got != (use{}) {
			t.Errorf("%q: %+v", broken, got)
		}
	}
	if got := thisProcess.use(); knowsUse && got.rss < 1<<20 {
		t.Errorf("this process: %+v", got)
	}
	if got := process("").use(); got != (use{}) {
		t.Errorf("no process: %+v", got)
	}
}

// knowsUse says that the system tells what processes use, in /proc.
const knowsUse = runtime.GOOS == "linux"

// The README says what each column is.
func TestColumnsAreDocumented(t *testing.T) {
	raw, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	_, text, _ := strings.Cut(string(raw), "\n| column |")
	text, _, _ = strings.Cut(text, "\n\n")
	for _, line := range strings.Split(text, "\n")[1:] {
		first, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
		for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(first, -1) {
			documented[m[1]] = true
		}
	}
	for _, c := range columns {
		if !documented[c.name] {
			t.Errorf("README.md does not say what %s is", c.name)
		}
		delete(documented, c.name)
	}
	if len(documented) > 0 {
		t.Errorf("README.md has columns that do not exist: %v", documented)
	}
}
