package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// throwaway makes a module with a package p that consists of one test file, and goes there.
func throwaway(t *testing.T, source string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":      "module example.com/throwaway\n\ngo 1.26\n",
		"p/p_test.go": "package p\n\nimport (\n\t\"fmt\"\n\t\"os\"\n\t\"testing\"\n)\n\nvar _, _ = fmt.Print, os.Exit\n\n" + source,
		"none/p.go":   "package none\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	// Nothing of the run that this test is part of.
	t.Setenv("CGO_ENABLED", "0")
	t.Setenv("GOWORK", "off")
	t.Setenv("TMPDIR", t.TempDir())
}

// The path of the log is another one each time.
var logPath = regexp.MustCompile(`in (\S+icws-test-\S+)$`)

// TestRun runs real tests that end in every way.
func TestRun(t *testing.T) {
	const panicking = "func TestBad(t *testing.T) {\n\tfmt.Println(\"before\")\n\tvar m map[string]int\n\tm[\"a\"] = 1\n}\n"
	for _, c := range []struct {
		name, source, require string
		args                  []string
		err                   string   // "" = the run counts
		printed, absent       []string // lines
		log                   string   // a line of the log
	}{
		{
			name: "pass", source: "func TestA(t *testing.T) { t.Run(\"b c\", func(*testing.T) {}) }\n", require: "TestA,TestA/b_c", args: []string{"./..."},
			printed: []string{"-     example.com/throwaway/none (no tests)", "2 tests passed, 0 skipped, 0 failed; slowest:"},
		},
		{name: "required", source: "func TestA(t *testing.T) {}\n", require: "TestA,TestB", err: "required tests did not run: TestB"},
		{name: "none", args: []string{"./none"}, err: "no test ran"},
		{name: "unknown package", args: []string{"./nowhere"}, err: "1 failed"},
		{name: "bad flag", args: []string{"./p", "-run=("}, err: "1 failed"},
		{
			name: "skip", source: "func TestA(t *testing.T) { " + "t." + "Skip(\"no network\") }\n",
			err: "1 skipped, which counts as failed here:\n  example.com/throwaway/p TestA: p_test.go:11: no network",
		},
		{
			name: "long output", args: []string{"-short", "-run=TestBad", "./p"},
			source: "func TestBad(t *testing.T) {\n\tt.Run(\"it's a/b (c)\", func(t *testing.T) {\n\t\tfor i := range 100 {\n\t\t\tfmt.Println(\"line\", i)\n\t\t}\n\t\tt.Error(\"wrong\")\n\t})\n}\n",
			err:    "1 failed",
			printed: []string{
				"1. example.com/throwaway/p TestBad/it's_a/b_(c) failed",
				`   repeat: CGO_ENABLED=0 go test -short -count=1 -run '^TestBad$/^it'\''s_a$/^b_\(c\)$' ./p`,
				"   | line 0", "   | line 19", "   | [41 lines left out]", "   | line 61", "   | line 99", "   |     p_test.go:16: wrong",
			},
			absent: []string{"   | line 20", "   | line 60", "2. example.com/throwaway/p TestBad failed"},
			log:    "line 42",
		},
		{
			name: "seed", source: "func TestBad(t *testing.T) { t.Fatal(\"repeat it with ICWS_MODEL_SEED=7 ICWS_MODEL_STEPS=90, at step 3\") }\n", err: "1 failed",
			printed: []string{"   repeat: CGO_ENABLED=0 ICWS_MODEL_SEED=7 ICWS_MODEL_STEPS=90 go test -count=1 -run '^TestBad$' ./p"},
		},
		{
			name: "order", source: "func TestBad(t *testing.T) { t.Fatal(\"no\") }\n", args: []string{"-shuffle=5", "./p"}, err: "1 failed",
			printed: []string{
				"   repeat: CGO_ENABLED=0 go test -count=1 -run '^TestBad$' ./p",
				"   in the order of this run: CGO_ENABLED=0 go test -count=1 -shuffle=5 ./p",
			},
		},
		{
			name: "once of many", args: []string{"-count=3", "./p"}, err: "1 failed",
			source:  "var runs int\n\nfunc TestBad(t *testing.T) {\n\tif runs++; runs == 2 {\n\t\tt.Error(\"the second time\")\n\t}\n}\n",
			printed: []string{"   |     p_test.go:15: the second time", "2 tests passed, 0 skipped, 1 failed; slowest:"},
		},
		{
			name: "panic", source: panicking, err: "1 failed",
			printed: []string{
				"1. example.com/throwaway/p TestBad failed", "   | before", "   | panic: assignment to entry in nil map [recovered, repanicked]",
			},
		},
		{
			name: "panic elsewhere", err: "1 failed",
			source:  "func TestBad(t *testing.T) {\n\tgo panic(\"far away\")\n\tselect {}\n}\n\nfunc TestLater(*testing.T) {}\n",
			printed: []string{"1. example.com/throwaway/p TestBad ended the process", "   | panic: far away"},
		},
		{
			name: "exit", source: "func TestBad(t *testing.T) {\n\tfmt.Println(\"leaving\")\n\tos.Exit(3)\n}\n", err: "1 failed",
			printed: []string{"1. example.com/throwaway/p TestBad never ended", "   | leaving"},
		},
		{
			name: "outside", err: "1 failed",
			source:  "func TestA(*testing.T) {}\n\nfunc TestMain(m *testing.M) {\n\tm.Run()\n\tfmt.Println(\"something leaks\")\n\tos.Exit(1)\n}\n",
			printed: []string{"1. example.com/throwaway/p failed outside of its tests", "   repeat: CGO_ENABLED=0 go test -count=1 ./p", "   | something leaks"},
		},
		{
			name: "build", source: "func TestA(t *testing.T) { undefined() }\n", args: []string{"./..."}, err: "1 failed",
			printed: []string{"1. example.com/throwaway/p does not build", "   | p/p_test.go:11:28: undefined: undefined"},
		},
		{
			name: "vet", source: "func TestA(t *testing.T) { t.Logf(\"%d\", \"text\") }\n", err: "1 failed",
			printed: []string{"1. example.com/throwaway/p does not build"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			throwaway(t, c.source)
			args := c.args
			if args == nil {
				args = []string{"./p"}
			}
			var out bytes.Buffer
			err := run(&out, c.require, 5, args)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if text != c.err && (c.err != "1 failed" || !strings.HasPrefix(text, c.err+", ")) {
				t.Errorf("error %q", text)
			}
			lines := strings.Split(out.String(), "\n")
			for _, line := range c.printed {
				if !slices.ContainsFunc(lines, func(l string) bool { return l == line || strings.HasSuffix(line, ":") && strings.HasPrefix(l, line) }) {
					t.Errorf("not printed: %s", line)
				}
			}
			for _, line := range c.absent {
				if slices.Contains(lines, line) {
					t.Errorf("printed: %s", line)
				}
			}
			if c.log != "" {
				file := logPath.FindStringSubmatch(text)
				if file == nil {
					t.Fatalf("no log in %q", text)
				}
				if whole, err := os.ReadFile(file[1]); err != nil || !strings.Contains(string(whole), "\n"+c.log+"\n") {
					t.Errorf("the log lacks %q: %v", c.log, err)
				}
			}
			if t.Failed() {
				t.Logf("printed:\n%s", &out)
			}
		})
	}
}

// TestRunsAnew has the same test run twice: what the cache knows is no run.
func TestRunsAnew(t *testing.T) {
	file := filepath.ToSlash(filepath.Join(t.TempDir(), "runs"))
	throwaway(t, `func TestA(t *testing.T) {
	f, err := os.OpenFile("`+file+`", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fmt.Fprintln(f, "ran")
}
`)
	for range 2 {
		var out bytes.Buffer
		if err := run(&out, "TestA", 0, []string{"./p"}); err != nil {
			t.Fatalf("%v\n%s", err, &out)
		}
	}
	if runs, err := os.ReadFile(file); err != nil || string(runs) != "ran\nran\n" {
		t.Errorf("ran %q, %v", runs, err)
	}
}

// recorded is what is printed of a recorded run of go test -json.
func recorded(t *testing.T, name string) string {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out bytes.Buffer
	r := newReport(&out, repeater{module: "example.com/throwaway"})
	if err := r.read(f, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := r.verdict("", 0, nil); err == nil {
		t.Error("the run counts")
	}
	return out.String()
}

// TestHang has a run in which two tests ran when the time was over. What a person needs is their own goroutines, not that of
// the test that waits for its subtest, nor those of package testing.
func TestHang(t *testing.T) {
	out := recorded(t, "hang.json")
	first, second, _ := strings.Cut(out, "\n2. ")
	if !strings.Contains(first, "\n1. example.com/throwaway/hang TestHangs/sub hung\n") || !strings.HasPrefix(second, "example.com/throwaway/hang TestAlsoRuns hung\n") {
		first, second = second, first
	}
	if !strings.Contains(first, "TestHangs/sub hung\n") || !strings.Contains(first, "about to hang\n") || !strings.Contains(first, "panic: test timed out after 2s\n") ||
		!strings.Contains(first, "of 7 goroutines") || strings.Count(first, "| goroutine ") != 3 {
		t.Errorf("of the one that hangs:\n%s", first)
	}
	if own := strings.Index(first, "| sync.(*WaitGroup).Wait("); own < 0 || own > strings.Index(first, "TestHangs.func1.1()") {
		t.Errorf("the test's own goroutine does not come first:\n%s", first)
	}
	if !strings.Contains(second, "TestAlsoRuns hung\n") || strings.Count(second, "| goroutine ") != 1 || !strings.Contains(second, "throwaway/hang.bystander(") {
		t.Errorf("of the other:\n%s", second)
	}
}

// TestRace has a run with two data races in one test.
func TestRace(t *testing.T) {
	out := recorded(t, "race.json")
	if strings.Count(out, "WARNING: DATA RACE") != 1 || !strings.Contains(out, "| [1 more reports of data races left out]") {
		t.Errorf("not one report:\n%s", out)
	}
	for _, line := range []string{"throwaway/race.TestRaces.func1()", "Previous write at ", "created at:", "| ==================", "race detected during execution of test"} {
		if !strings.Contains(out, line) {
			t.Errorf("%q is missing:\n%s", line, out)
		}
	}
}

// TestInterrupted has a run that was ended in its middle.
func TestInterrupted(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out bytes.Buffer
	r := newReport(&out, repeater{module: "m"})
	for _, line := range []string{
		`{"Action":"start","Package":"m/p"}`,
		`{"Action":"run","Package":"m/p","Test":"TestA"}`,
		`{"Action":"output","Package":"m/p","Test":"TestA","Output":"here\n"}`,
	} {
		r.line([]byte(line))
	}
	r.progress()
	err := r.verdict("", 0, os.ErrProcessDone)
	if err == nil || !strings.Contains(out.String(), "1. m/p TestA never ended\n") || !strings.Contains(out.String(), ": ./p TestA\n") {
		t.Errorf("%v\n%s", err, &out)
	}
}
