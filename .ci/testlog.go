// Command testlog reads the output of `go test -json` and decides whether the run counts.
//
// It prints one line per package and the full output of what failed, and exits with 1 when a test failed, when a test
// was skipped, when nothing ran at all, or when a test named with -require did not pass. A test that skips itself
// proves nothing, and in CI everything it could need is installed.
//
// Run it as `go test -json ./... | go run ./.ci/testlog.go`.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// event is one line of `go doc test2json`.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

func main() {
	require := flag.String("require", "", "comma-separated names of tests that must have passed")
	slowest := flag.Int("slowest", 5, "how many of the slowest tests to print")
	flag.Parse()
	if err := run(*require, *slowest); err != nil {
		fmt.Fprintln(os.Stderr, "testlog:", err)
		os.Exit(1)
	}
}

// run reads events until the end of standard input.
func run(require string, slowest int) error {
	type timed struct {
		name string
		took float64
	}
	var (
		passed          = map[string]bool{}
		skipped, failed []string
		slow            []timed
		tests           int
		output          = map[string][]string{} // of tests that have not passed yet, by package and test
	)
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var e event
		if err := json.Unmarshal(in.Bytes(), &e); err != nil || e.Action == "" {
			fmt.Println(in.Text()) // what the toolchain itself prints
			continue
		}
		id := e.Package + " " + e.Test
		switch e.Action {
		case "output":
			output[id] = append(output[id], e.Output)
		case "build-output":
			fmt.Print(e.Output)
		case "build-fail":
			failed = append(failed, e.ImportPath+" (build)")
		case "pass":
			if e.Test == "" {
				fmt.Printf("ok    %s %.1fs\n", e.Package, e.Elapsed)
				break
			}
			tests++
			passed[e.Test] = true
			slow = append(slow, timed{id, e.Elapsed})
			delete(output, id)
		case "skip":
			if e.Test == "" {
				fmt.Printf("-     %s (no tests)\n", e.Package)
				break
			}
			skipped = append(skipped, id+": "+strings.TrimSpace(strings.Join(output[id], "")))
			delete(output, id)
		case "fail":
			fmt.Printf("FAIL  %s %.1fs\n%s", id, e.Elapsed, strings.Join(output[id], ""))
			failed = append(failed, id)
			delete(output, id)
			if e.Test == "" { // tests without an end of their own: the one that hung, say, with what the runtime printed
				for _, unfinished := range slices.Sorted(maps.Keys(output)) {
					if strings.HasPrefix(unfinished, id) {
						fmt.Printf("UNFINISHED  %s\n%s", unfinished, strings.Join(output[unfinished], ""))
					}
				}
			}
		}
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("reading the test log: %w", err)
	}

	slices.SortFunc(slow, func(a, b timed) int { return int(1000 * (b.took - a.took)) })
	fmt.Printf("%d tests passed, %d skipped, %d failed; slowest:", tests, len(skipped), len(failed))
	for _, t := range slow[:min(slowest, len(slow))] {
		fmt.Printf(" %s %s;", t.name[strings.LastIndex(t.name, "/")+1:], time.Duration(t.took*float64(time.Second)).Round(100*time.Millisecond))
	}
	fmt.Println()

	var missing []string
	for name := range strings.SplitSeq(require, ",") {
		if name != "" && !passed[name] {
			missing = append(missing, name)
		}
	}
	switch {
	case len(failed) > 0:
		return fmt.Errorf("%d failed: %s", len(failed), strings.Join(failed, ", "))
	case len(skipped) > 0:
		return fmt.Errorf("%d skipped, which counts as failed here:\n  %s", len(skipped), strings.Join(skipped, "\n  "))
	case len(missing) > 0:
		return fmt.Errorf("required tests did not run: %s", strings.Join(missing, ", "))
	case tests == 0:
		return fmt.Errorf("no test ran")
	}
	return nil
}
