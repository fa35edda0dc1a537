package caddylog

import (
	"fmt"
	"log"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// childVariable makes the test binary run TestChild, which fails.
const childVariable = "ICWS_TESTLOG_CHILD"

func TestMain(m *testing.M) { os.Exit(Run(m)) }

func entry(level string, n int) string {
	return fmt.Sprintf("{\"level\":%q,\"ts\":1.5,\"msg\":\"%s %c%d\"}\n", level, level, 'a'+n%26, n)
}

func TestExcerpt(t *testing.T) {
	t.Setenv(Variable, "")
	var text strings.Builder
	for i := range 100 {
		text.WriteString(entry("info", i))
		if i%4 == 0 && i < 80 {
			text.WriteString(entry("warn", i))
		}
	}
	text.WriteString("no JSON\n")
	for i := range 50 {
		text.WriteString(entry("info", i))
	}
	got := Excerpt(text.String())
	// 13 letters of 20 warnings, the line that is no JSON, the last 10.
	if strings.Count(got, `"warn"`) != 13 || strings.Count(got, `"info"`) != latest || !strings.Contains(got, "no JSON\n") || !strings.Contains(got, "info x49") {
		t.Errorf("excerpt:\n%s", got)
	}
	if !strings.HasSuffix(got, "(147 more lines: set ICWS_TEST_LOG=all to see them)\n") {
		t.Errorf("the end is %q", got[strings.LastIndex(got[:len(got)-1], "\n"):])
	}
	if short := entry("info", 1) + entry("error", 2); Excerpt(short) != short {
		t.Errorf("a short log became %q", Excerpt(short))
	}
	crashed := Excerpt(entry("warn", 1) + "panic: nil map\n\ngoroutine 1\n" + strings.Repeat("main.f()\n", 100))
	if !strings.Contains(crashed, "warn b1") || !strings.Contains(crashed, "panic: nil map\n") || strings.Count(crashed, "main.f()") != crash-3 {
		t.Errorf("crash:\n%s", crashed)
	}
	t.Setenv(Variable, "all")
	if Excerpt(text.String()) != text.String() {
		t.Error("not all")
	}
}

// TestChild is run by the other tests. On its own it shows that a test that passes prints nothing.
func TestChild(t *testing.T) {
	fmt.Fprintln(os.Stderr, "before")
	Watch(t)
	Watch(t)
	t.Cleanup(func() {
		Show(t)
		fmt.Fprintln(os.Stderr, "the cleanup")
	})
	fmt.Fprintln(os.Stderr, "to standard error")
	log.Print("to package log")
	if os.Getenv(childVariable) != "" {
		t.Error("told to fail")
	}
}

func TestWatch(t *testing.T) {
	if os.Getenv(childVariable) != "" {
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := func(env ...string) (string, error) {
		dir := t.TempDir()
		cmd := exec.Command(exe, "-test.run=^TestChild$", "-test.v")
		cmd.Env = append(append(os.Environ(), Variable+"=", "TMPDIR="+dir, "TMP="+dir), env...)
		out, err := cmd.CombinedOutput()
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("left behind: %v (%v)", left, err)
		}
		return string(out), err
	}
	if out, err := run(); err != nil || strings.Contains(out, "standard error") {
		t.Errorf("a test that passes: %v\n%s", err, out)
	}
	out, err := run(childVariable + "=1")
	if err == nil || strings.Count(out, "to standard error") != 1 || strings.Count(out, "to package log") != 1 || strings.Contains(out, "before") || strings.Contains(out, "the cleanup") {
		t.Errorf("a test that fails: %v\n%s", err, out)
	}
	if out, err := run(Variable + "=all"); err != nil || !strings.Contains(out, "before") || !strings.Contains(out, "the cleanup") {
		t.Errorf("everything: %v\n%s", err, out)
	}
}
