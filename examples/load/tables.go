package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// findings is what scale or bench found.
type findings struct {
	command string
	began   time.Time
	load    string // of the machine when it began; "" if not known
	results []*result
}

// machine describes where it was measured, and what else ran there.
func (f *findings) machine() string {
	text := fmt.Sprintf("%s, %s/%s, %d CPUs%s, %s", f.began.UTC().Format("2 January 2006 15:04 UTC"), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), processor(), runtime.Version())
	if f.load != "" {
		text += ", load average at the start " + f.load
	}
	return text
}

// processor is the model of the first processor in brackets, on Linux.
func processor() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return " (" + printable(value) + ")"
		}
	}
	return ""
}

// loadAverage is that of the last minute, on Linux.
func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	one, _, _ := strings.Cut(string(b), " ")
	return one
}

// wrong is everything that makes the run a failed one.
func (f *findings) wrong() (all []string) {
	for _, r := range f.results {
		all = append(all, r.wrong...)
		_, missing := r.rows()
		all = append(all, missing...)
	}
	return all
}

// markdown writes the tables. They can be pasted into a page.
func (f *findings) markdown(w io.Writer) {
	fmt.Fprintf(w, "`%s`\n\n%s.\n", f.command, f.machine())
	for _, r := range f.results {
		rows, _ := r.rows()
		fmt.Fprintf(w, "\n### %s\n\n| medians of %d | unit | gateway | bare server | ratio |\n|---|---|---|---|---|\n", r.title, len(r.gateway))
		for _, row := range rows {
			c := row.cells()
			fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", c.Name, c.Unit, c.Gateway, c.Bare, c.Ratio)
		}
	}
	fmt.Fprintln(w)
	for _, text := range f.wrong() {
		fmt.Fprintf(w, "VIOLATION %s\n", text)
	}
	if len(f.wrong()) == 0 {
		fmt.Fprintln(w, "No message and no session was lost.")
	}
}

// cells are a row as texts.
type cells struct{ Name, Unit, Gateway, Bare, Ratio string }

func (r tableRow) cells() cells {
	c := cells{Name: r.name, Unit: r.unit, Gateway: shortly(r.gateway.median), Bare: shortly(r.bare.median)}
	if r.alone {
		c.Bare = "has none"
	}
	if ratio := r.ratio(); !math.IsNaN(ratio) {
		c.Ratio = shortly(ratio)
	}
	return c
}

// shortly is n with three digits that count.
func shortly(n float64) string {
	switch {
	case math.IsNaN(n):
		return "not known"
	case math.Abs(n) >= 100:
		return strconv.FormatFloat(math.Round(n), 'f', 0, 64)
	}
	return strconv.FormatFloat(n, 'g', 3, 64)
}

// csv writes all figures with how far the runs lie apart, as RFC 4180 has it.
func (f *findings) csv(w io.Writer) error {
	c := csv.NewWriter(w)
	c.UseCRLF = true
	_ = c.Write([]string{"work", "sessions", "canisters", "figure", "unit", "runs",
		"gateway_median", "gateway_least", "gateway_most", "bare_median", "bare_least", "bare_most", "ratio"}) // Error has it
	cell := func(n float64) string {
		if math.IsNaN(n) {
			return ""
		}
		return strconv.FormatFloat(n, 'g', 6, 64)
	}
	for _, r := range f.results {
		rows, _ := r.rows()
		for _, row := range rows {
			_ = c.Write([]string{r.title, strconv.Itoa(r.course.sessions), strconv.Itoa(r.rig.canisters), row.name, row.unit, strconv.Itoa(len(r.gateway)),
				cell(row.gateway.median), cell(row.gateway.least), cell(row.gateway.most),
				cell(row.bare.median), cell(row.bare.least), cell(row.bare.most), cell(row.ratio())})
		}
	}
	c.Flush()
	return c.Error()
}
