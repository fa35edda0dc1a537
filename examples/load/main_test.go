package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
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
