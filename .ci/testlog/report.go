package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// test names a test, or a package as a whole if name is empty.
type test struct{ pkg, name string }

func (t test) String() string { return strings.TrimSpace(t.pkg + " " + t.name) }

// failure is something that did not pass, with its output.
type failure struct {
	test
	why   string // what happened, in a word or two
	lines []string
}

type timed struct {
	name string
	took float64 // in seconds
}

// unfinished is what is known of a package that runs.
type unfinished struct {
	all    []string          // its output, and that of its tests
	output map[test][]string // of the package, and of those of its tests that have not ended
	latest string            // the test that began last
	failed bool              // whether one of its tests has
}

// report collects the events of one run of go test.
type report struct {
	out      io.Writer
	repeat   repeater
	began    time.Time
	running  map[string]*unfinished // by package
	builds   map[string][]string    // what the compiler says, by package
	orders   map[string]string      // with -shuffle, what it takes to have the order again, by package
	passed   map[string]bool        // names of tests, of whichever package
	tests    int                    // how many passed
	slow     []timed
	skipped  []string
	failures []failure
	whole    []string // the output of the packages that failed
}

func newReport(out io.Writer, repeat repeater) *report {
	return &report{
		out: out, repeat: repeat, began: time.Now(), running: map[string]*unfinished{}, builds: map[string][]string{},
		orders: map[string]string{}, passed: map[string]bool{},
	}
}

// line takes one line of the output of go test, and returns whether it printed something.
func (r *report) line(line []byte) bool {
	var e event
	if err := json.Unmarshal(line, &e); err != nil || e.Action == "" {
		fmt.Fprintf(r.out, "%s\n", line) // what the toolchain itself prints
		return true
	}
	switch e.Action {
	case "build-output":
		r.builds[e.ImportPath] = append(r.builds[e.ImportPath], e.Output)
		return false
	case "build-fail":
		lines := r.builds[e.ImportPath]
		r.whole = append(r.whole, lines...)
		pkg, _, _ := strings.Cut(e.ImportPath, " ") // "a [a.test]"
		r.failures = append(r.failures, failure{test{pkg: pkg}, "does not build", lines})
		return false
	}
	if e.Package == "" {
		return false
	}
	p := r.running[e.Package]
	if p == nil {
		p = &unfinished{output: map[test][]string{}}
		r.running[e.Package] = p
	}
	t := test{e.Package, e.Test}
	switch e.Action {
	case "run", "cont":
		p.latest = e.Test
		if p.output[t] == nil {
			p.output[t] = []string{}
		}
	case "output":
		p.all = append(p.all, e.Output)
		p.output[t] = append(p.output[t], e.Output)
		if seed := shuffle.FindStringSubmatch(e.Output); seed != nil && e.Test == "" {
			r.orders[e.Package] = seed[1]
		}
	case "pass", "skip", "fail":
		printed := r.end(e, t, p)
		delete(p.output, t)
		if e.Test == "" {
			delete(r.running, e.Package)
		}
		return printed
	}
	return false
}

// end notes how a test or a package ended, and returns whether it printed something.
func (r *report) end(e event, t test, p *unfinished) bool {
	switch {
	case e.Action == "pass" && t.name == "":
		fmt.Fprintf(r.out, "ok    %s %.1fs\n", t.pkg, e.Elapsed)
	case e.Action == "pass":
		r.tests++
		r.passed[t.name] = true
		r.slow = append(r.slow, timed{t.name, e.Elapsed})
		return false
	case e.Action == "skip" && t.name == "":
		fmt.Fprintf(r.out, "-     %s (no tests)\n", t.pkg)
	case e.Action == "skip":
		r.skipped = append(r.skipped, t.String()+": "+strings.TrimSpace(strings.Join(told(p.output[t]), "")))
		return false
	case t.name != "":
		fmt.Fprintf(r.out, "FAIL  %s %.1fs\n", t, e.Elapsed)
		// That a subtest failed is said by the subtest.
		if lines := p.output[t]; !p.failed || len(told(lines)) > 0 || !r.parentOfFailed(t) {
			r.failures = append(r.failures, failure{t, "failed", lines})
		}
		p.failed = true
	default:
		fmt.Fprintf(r.out, "FAIL  %s %.1fs\n", t, e.Elapsed)
		if e.FailedBuild == "" {
			r.packageFailed(t, p)
		}
	}
	return true
}

// parentOfFailed returns whether a subtest of t has failed.
func (r *report) parentOfFailed(t test) bool {
	return slices.ContainsFunc(r.failures, func(f failure) bool {
		return f.pkg == t.pkg && strings.HasPrefix(f.name, t.name+"/")
	})
}

// packageFailed looks for what a package failed of beside the tests that say so themselves: tests that never ended, or
// something outside of them.
func (r *report) packageFailed(t test, p *unfinished) {
	r.whole = append(append(r.whole, "# "+t.pkg+"\n"), p.all...)
	open := slices.SortedFunc(maps.Keys(p.output), func(a, b test) int { return strings.Compare(a.name, b.name) })
	open = slices.DeleteFunc(open, func(u test) bool { return u.name == "" })
	before := len(r.failures)
	if dump, hung := timeout(p.all); hung != nil {
		for _, name := range hung {
			lines, _ := cutDump(p.output[test{t.pkg, name}])
			r.failures = append(r.failures, failure{test{t.pkg, name}, "hung", append(lines, goroutinesOf(dump, name)...)})
		}
	} else {
		for _, u := range open {
			if _, dump := cutDump(p.output[u]); dump != nil {
				r.failures = append(r.failures, failure{u, "ended the process", p.output[u]})
			}
		}
	}
	if len(r.failures) > before || p.failed {
		return
	}
	for _, u := range open { // the process ended without a word
		r.failures = append(r.failures, failure{u, "never ended", p.output[u]})
	}
	if len(open) == 0 {
		r.failures = append(r.failures, failure{t, "failed outside of its tests", p.output[t]})
	}
}

// progress prints which packages run, and the latest test of each.
func (r *report) progress() {
	var now []string
	for _, pkg := range slices.Sorted(maps.Keys(r.running)) {
		now = append(now, strings.TrimSpace(r.repeat.path(pkg)+" "+r.running[pkg].latest))
	}
	what := "building"
	if now != nil {
		what = strings.Join(now, ", ")
	}
	fmt.Fprintf(r.out, "...   after %.0fs: %s\n", time.Since(r.began).Seconds(), what)
}

// detailed is how many failures are told with their output. Where more fail, they mostly fail of one thing.
const detailed = 12

// verdict prints the end of the report and returns what is wrong with the run. goTest is how go test itself ended.
func (r *report) verdict(require string, slowest int, goTest error) error {
	for _, pkg := range slices.Sorted(maps.Keys(r.running)) { // go test itself was ended
		r.packageFailed(test{pkg: pkg}, r.running[pkg])
	}
	for i, f := range r.failures {
		fmt.Fprintf(r.out, "\n%d. %s %s\n", i+1, f.test, f.why)
		fmt.Fprintf(r.out, "   repeat: %s\n", r.repeat.command(f, ""))
		if order := r.orders[f.pkg]; order != "" {
			fmt.Fprintf(r.out, "   in the order of this run: %s\n", r.repeat.command(f, order))
		}
		if i < detailed {
			for _, line := range digest(f.lines) {
				fmt.Fprintf(r.out, "   | %s\n", strings.TrimSuffix(line, "\n"))
			}
		}
	}
	if len(r.failures) > 0 {
		fmt.Fprintln(r.out)
	}

	slices.SortFunc(r.slow, func(a, b timed) int { return int(1000 * (b.took - a.took)) })
	fmt.Fprintf(r.out, "%d tests passed, %d skipped, %d failed; slowest:", r.tests, len(r.skipped), len(r.failures))
	for _, t := range r.slow[:min(slowest, len(r.slow))] {
		fmt.Fprintf(r.out, " %s %s;", t.name, time.Duration(t.took*float64(time.Second)).Round(100*time.Millisecond))
	}
	fmt.Fprintln(r.out)

	var missing []string
	for name := range strings.SplitSeq(require, ",") {
		if name != "" && !r.passed[name] {
			missing = append(missing, name)
		}
	}
	switch {
	case len(r.failures) > 0:
		file, err := r.save()
		if err != nil {
			return errors.Join(fmt.Errorf("%d failed", len(r.failures)), err)
		}
		return fmt.Errorf("%d failed, the whole output is in %s", len(r.failures), file)
	case len(r.skipped) > 0:
		return fmt.Errorf("%d skipped, which counts as failed here:\n  %s", len(r.skipped), strings.Join(r.skipped, "\n  "))
	case goTest != nil:
		return fmt.Errorf("go test: %w", goTest)
	case len(missing) > 0:
		return fmt.Errorf("required tests did not run: %s", strings.Join(missing, ", "))
	case r.tests == 0:
		return errors.New("no test ran")
	}
	return nil
}

// save writes the output of the packages that failed to a file of its own and returns its name.
func (r *report) save() (string, error) {
	f, err := os.CreateTemp("", "icws-test-*.log")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(strings.Join(r.whole, ""))
	return f.Name(), errors.Join(err, f.Close())
}
