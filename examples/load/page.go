package main

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"runtime"
	"time"
)

//go:embed page.html
var pageHTML string

//go:embed page.js
var pageScript string

var pageTemplate = template.Must(template.New("page").Parse(pageHTML))

// pageView is what the template shows.
type pageView struct {
	*report
	Started  string
	Command  string
	Machine  string
	Settings []setting
	Shares   []share
	Times    []namedQuantiles
	// Footprints are those before, during and after the run.
	Footprints []footprintView
	Plots      []plot
	Elapsed    []string // of each row, in seconds
	Marks      []markView
	Missed     int // marks that there was no room for
	Ends       []ends
	Columns    []string
	Rows       [][]string
	Covers     time.Duration // of a row, if it holds several
	Script     template.JS
	Policy     string // nothing but what the page itself holds
}

type namedQuantiles struct {
	Name string
	quantiles
}

type footprintView struct {
	When           string
	Heap, Resident string // MiB
	Goroutines     int
}

type markView struct{ At, Text string }

// Width is the length of the bar for n.
func (e ends) Width(n uint64) string {
	var most uint64
	for _, c := range e.Counts {
		most = max(most, c.Count)
	}
	return place(float64(n) / float64(most))
}

// writePage writes what a run found as one page that needs nothing else. All texts in it are escaped.
func writePage(w io.Writer, r *report, rec *recorder, s *settings) error {
	hash := sha256.Sum256([]byte(pageScript))
	v := pageView{
		report: r, Command: s.command, Settings: s.flags, Shares: r.shares(), Ends: r.ends(), Missed: rec.missed,
		Machine: fmt.Sprintf("%s/%s, %d CPUs, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version()),
		Times:   []namedQuantiles{{"open", r.OpenTime}, {"round trip", r.RoundTrip}, {"push", r.Push}},
		Script:  template.JS(pageScript),
		Policy:  "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'",
	}
	if !rec.started.IsZero() {
		v.Started = rec.started.UTC().Format("2 January 2006 15:04:05 UTC")
	}
	if rec.per > 1 {
		v.Covers = time.Duration(rec.per) * rec.interval
	}
	for i, f := range []footprint{r.Before, r.During, r.After} {
		when := []string{"before", "during", "after"}[i]
		v.Footprints = append(v.Footprints, footprintView{when, fmt.Sprintf("%.1f", mib(f.HeapBytes)), fmt.Sprintf("%.1f", mib(f.RSSBytes)), f.Goroutines})
	}
	var marks []mark
	for _, c := range columns {
		v.Columns = append(v.Columns, c.name)
	}
	for _, w := range rec.drawn {
		v.Rows = append(v.Rows, w.cells())
		v.Elapsed = append(v.Elapsed, number(w.elapsed.Seconds(), true))
		marks = append(marks, w.marks...)
	}
	for _, m := range marks {
		v.Marks = append(v.Marks, markView{number(m.elapsed.Seconds(), true), m.text})
	}
	v.Plots = plots(rec.drawn, marks)
	return pageTemplate.Execute(w, v)
}
