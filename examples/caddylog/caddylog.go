// Package caddylog keeps the log of a server away from the output of the tests that run it, and prints of it what somebody
// needs who looks at a failed test.
package caddylog

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Variable is the environment variable that, set to "all", lets everything be printed.
const Variable = "ICWS_TEST_LOG"

// How many lines an excerpt has at most: of warnings and above, of those after them of any level, and of a crash.
const (
	troubles = 20
	latest   = 10
	crash    = 20
)

func all() bool { return os.Getenv(Variable) == "all" }

// sink is where standard error goes while Run runs.
var sink struct {
	mu      sync.Mutex
	file    *os.File // nil if standard error is as it was
	watched map[testing.TB]*watch
}

type watch struct {
	from  int64 // offset in the file
	shown bool
}

// Run is m.Run with standard error, where Caddy logs, written to a file that is gone afterwards. What goes to the file
// descriptor itself, as panics and reports of races do, is printed as ever. Loggers made before Run are not concerned, but
// for that of package log. Run is called once, by TestMain.
func Run(m *testing.M) int {
	if all() {
		return m.Run()
	}
	file, err := os.CreateTemp("", "icws-caddylog")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	stderr := os.Stderr
	sink.file, sink.watched = file, map[testing.TB]*watch{}
	os.Stderr = file
	log.SetOutput(file)
	defer func() {
		os.Stderr = stderr
		log.SetOutput(stderr)
		file.Close()
		os.Remove(file.Name())
	}()
	return m.Run()
}

// Watch makes a test that fails log an excerpt of what has been written to standard error since the first call for it.
// Tests that run at the same time share standard error, and the excerpt.
func Watch(t testing.TB) {
	t.Helper()
	sink.mu.Lock()
	defer sink.mu.Unlock()
	if sink.file == nil || sink.watched[t] != nil {
		return
	}
	sink.watched[t] = &watch{from: size()}
	t.Cleanup(func() {
		Show(t)
		sink.mu.Lock()
		defer sink.mu.Unlock()
		delete(sink.watched, t)
	})
}

// Show logs the excerpt of a watched test at once if the test has failed and has not shown it yet: before a cleanup whose
// own lines would hide those that matter.
func Show(t testing.TB) {
	t.Helper()
	sink.mu.Lock()
	defer sink.mu.Unlock()
	w := sink.watched[t]
	if w == nil || w.shown || !t.Failed() {
		return
	}
	w.shown = true
	text, err := io.ReadAll(io.NewSectionReader(sink.file, w.from, size()-w.from))
	if err != nil {
		t.Error(err)
	}
	t.Logf("log:\n%s", Excerpt(string(text)))
}

// size is that of the file.
func size() int64 {
	info, err := sink.file.Stat()
	if err != nil {
		panic(err)
	}
	return info.Size()
}

var (
	digits  = regexp.MustCompile(`[0-9]+`)
	crashes = regexp.MustCompile(`(?m)^(panic: |fatal error: |WARNING: DATA RACE)`)
)

// Excerpt returns what matters of a log that Caddy wrote as JSON: the head of a crash if there was one, the last warnings
// and errors, each once whatever its numbers, and the last lines of any level. A line that is no JSON counts as an error.
// Where lines were left out the excerpt says so.
func Excerpt(text string) string {
	if all() {
		return text
	}
	var end string
	if at := crashes.FindStringIndex(text); at != nil {
		text, end = text[:at[0]], text[at[0]:]
	}
	lines := slices.Collect(strings.Lines(text))
	keep := map[int]bool{}
	for i := max(0, len(lines)-latest); i < len(lines); i++ {
		keep[i] = true
	}
	seen := map[string]bool{}
	for i := len(lines) - 1; i >= 0 && len(seen) < troubles; i-- {
		if same := digits.ReplaceAllString(lines[i], "0"); trouble(lines[i]) && !seen[same] {
			seen[same], keep[i] = true, true
		}
	}
	var out strings.Builder
	for i, line := range lines {
		if keep[i] {
			out.WriteString(line)
		}
	}
	left := len(lines) - len(keep)
	for i, line := range slices.Collect(strings.Lines(end)) {
		if i < crash {
			out.WriteString(line)
		} else {
			left++
		}
	}
	if left > 0 {
		fmt.Fprintf(&out, "(%d more lines: set %s=all to see them)\n", left, Variable)
	}
	return out.String()
}

// trouble tells whether a line is a warning or worse.
func trouble(line string) bool {
	var entry struct {
		Level string `json:"level"`
	}
	if json.Unmarshal([]byte(line), &entry) != nil {
		return strings.TrimSpace(line) != ""
	}
	return !slices.Contains([]string{"", "debug", "info"}, entry.Level)
}
