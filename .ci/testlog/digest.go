package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// How much is shown of the output of a test that failed: of what it says itself the beginning and the end, of a dump of
// goroutines the beginning, in which the one at fault stands, and of reports of data races the first.
const (
	firstLines = 20
	lastLines  = 40
	dumpLines  = 60
)

// marks are lines that go test prints about every test.
var marks = regexp.MustCompile(`^\s*(=== (RUN|PAUSE|CONT|NAME) |--- (PASS|FAIL|SKIP): |(PASS|FAIL)$|FAIL\t|ok  \t|exit status |-test.shuffle )`)

// told is what a test says itself.
func told(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return marks.MatchString(line) })
}

// digest is the part of the output of a test that fits on a screen.
func digest(lines []string) []string {
	rest := told(lines)
	if len(rest) == 0 {
		rest = lines // "[setup failed]" stands in a mark
	}
	rest, dump := cutDump(rest)
	rest, races := cutRaces(rest)
	out := rest
	if left := len(rest) - firstLines - lastLines; left > 0 {
		out = slices.Concat(rest[:firstLines], []string{fmt.Sprintf("[%d lines left out]", left)}, rest[len(rest)-lastLines:])
	}
	if len(races) > 0 {
		out = append(slices.Clone(out), races[0]...)
		if more := len(races) - 1; more > 0 {
			out = append(out, fmt.Sprintf("[%d more reports of data races left out]", more))
		}
	}
	if left := len(dump) - dumpLines; left > 0 {
		dump = append(slices.Clone(dump[:dumpLines]), fmt.Sprintf("[%d lines left out]", left))
	}
	return slices.Concat(out, dump)
}

var dumpBegins = regexp.MustCompile(`^(panic: |fatal error: |SIG[A-Z]+: |\[signal |goroutine \d+ .*\[)`)

// cutDump divides the output of a test where the runtime begins to print goroutines. Without that, dump is nil.
func cutDump(lines []string) (before, dump []string) {
	i := slices.IndexFunc(lines, dumpBegins.MatchString)
	if i < 0 {
		return lines, nil
	}
	return lines[:i:i], lines[i:]
}

// cutRaces takes the reports of the race detector out of the output of a test. One that has no end goes to the end.
func cutRaces(lines []string) (rest []string, reports [][]string) {
	const frame = "==================\n"
	for i := 0; i < len(lines); i++ {
		if lines[i] != frame || i+1 == len(lines) || !strings.HasPrefix(lines[i+1], "WARNING: DATA RACE") {
			rest = append(rest, lines[i])
			continue
		}
		end := len(lines)
		if n := slices.Index(lines[i+1:], frame); n >= 0 {
			end = i + 1 + n + 1
		}
		reports = append(reports, lines[i:end])
		i = end - 1
	}
	return rest, reports
}

// timeout returns the dump of a package that was ended because of -timeout, and the tests that were running then, without
// those that were waiting for a subtest. Of another package hung is nil.
func timeout(lines []string) (dump, hung []string) {
	_, dump = cutDump(lines)
	if dump == nil || !strings.HasPrefix(dump[0], "panic: test timed out") {
		return nil, nil
	}
	for _, line := range dump[1:] {
		if strings.TrimSpace(line) == "" {
			break
		}
		if name, ok := strings.CutPrefix(line, "\t\t"); ok {
			name, _, _ = strings.Cut(name, " (")
			hung = append(hung, name)
		}
	}
	names := slices.Clone(hung)
	hung = slices.DeleteFunc(hung, func(name string) bool {
		return slices.ContainsFunc(names, func(other string) bool { return strings.HasPrefix(other, name+"/") })
	})
	return dump, hung
}

// goroutinesOf takes from a dump the first line and the goroutines that run functions of a test, its own first. One that
// waits for a subtest is left out.
func goroutinesOf(dump []string, name string) []string {
	top, _, _ := strings.Cut(name, "/")
	function := regexp.MustCompile(`(?m)^[^\s(]*\.` + regexp.QuoteMeta(top) + `(\.\S*)?\(`)
	var own, others []string
	all := 0
	for block := range strings.SplitSeq(strings.Join(dump[1:], ""), "\n\n") {
		block = strings.Trim(block, "\n")
		if !strings.HasPrefix(block, "goroutine ") {
			continue
		}
		all++
		switch {
		case !function.MatchString(block), strings.Contains(block, "\ntesting.(*T).Run("):
		case strings.Contains(block, "\ntesting.tRunner("):
			own = append(own, block)
		default:
			others = append(others, block)
		}
	}
	out := []string{dump[0], fmt.Sprintf("[of %d goroutines those with a function of %s]\n", all, top)}
	for _, block := range slices.Concat(own, others) {
		out = append(append(out, "\n"), strings.SplitAfter(block+"\n", "\n")...)
		out = out[:len(out)-1] // what follows the last line feed
	}
	return out
}

// repeater makes commands that repeat a test.
type repeater struct {
	module string
	args   []string // of go test in this run
	env    []string // of this run
}

// path is what to call a package on the command line.
func (r repeater) path(pkg string) string {
	if pkg == r.module {
		return "."
	}
	if rest, ok := strings.CutPrefix(pkg, r.module+"/"); ok {
		return "./" + rest
	}
	return pkg
}

var (
	// Variables that decide what a test does, and those that others set for the run as a whole: a file that it takes with it,
	// and how long it is.
	variable = regexp.MustCompile(`^(ICWS_\w+|GOMAXPROCS|CGO_ENABLED)=`)
	ofTheRun = regexp.MustCompile(`^ICWS_(CADDY|SOAK\w*|FUZZTIME)=`)
	// What tests print of themselves, to be repeated.
	printed = regexp.MustCompile(`\bICWS_\w+=[\w.-]+`)
	shuffle = regexp.MustCompile(`(?m)^-test\.shuffle (\d+)$`)
	plain   = regexp.MustCompile(`^[\w@%+=:,./-]+$`)
)

// command is what to type to see a failure again: that test alone, or, where order is given, the package in that order.
func (r repeater) command(f failure, order string) string {
	var words []string
	for _, v := range r.env {
		if variable.MatchString(v) && !ofTheRun.MatchString(v) {
			words = append(words, v)
		}
	}
	for _, line := range f.lines {
		for _, v := range printed.FindAllString(line, -1) {
			name, _, _ := strings.Cut(v, "=")
			words = slices.DeleteFunc(words, func(w string) bool { return strings.HasPrefix(w, name+"=") })
			words = append(words, v)
		}
	}
	words = append(words, "go", "test")
	for _, arg := range r.args {
		name, _, _ := strings.Cut(arg, "=")
		if strings.HasPrefix(arg, "-") && name != "-run" && name != "-count" && name != "-json" && name != "-shuffle" {
			words = append(words, arg)
		}
	}
	words = append(words, "-count=1")
	switch {
	case order != "":
		words = append(words, "-shuffle="+order)
	case f.name != "":
		elements := strings.Split(f.name, "/")
		for i, e := range elements {
			elements[i] = "^" + regexp.QuoteMeta(e) + "$"
		}
		words = append(words, "-run", strings.Join(elements, "/"))
	}
	words = append(words, r.path(f.pkg))
	for i, w := range words {
		if !plain.MatchString(w) {
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}
