package main

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
)

// A growthCurve is one figure over the sizes of the experiments.
type growthCurve struct {
	Title, Unit   string
	X, Y          []curveTick
	Gateway, Bare []dot
}

// A curveTick is a number at an axis, a dot one of a line; both in units of the picture.
type curveTick struct {
	At   float64
	Text string
}

type dot struct{ X, Y float64 }

// The field of a growth curve in its picture, which has room for texts around it.
const fieldLeft, fieldTop, fieldWidth, fieldHeight = 60, 10, 420, 160

// curves draws every figure of which several sizes are known. Sizes stand side by side, whatever their distance is.
func (f *findings) curves() (all []growthCurve) {
	if len(f.results) < 2 {
		return nil
	}
	rows := make([][]tableRow, len(f.results))
	for i, r := range f.results {
		rows[i], _ = r.rows()
	}
	for _, first := range rows[0] {
		c := growthCurve{Title: first.name, Unit: first.unit}
		highest, known := 0.0, 0
		at := make([]tableRow, len(rows))
		for i := range rows {
			at[i] = tableRow{gateway: spread{median: math.NaN()}, bare: spread{median: math.NaN()}}
			for _, row := range rows[i] {
				if row.name == first.name {
					at[i] = row
				}
			}
			for _, n := range []float64{at[i].gateway.median, at[i].bare.median} {
				if !math.IsNaN(n) {
					highest = max(highest, n)
				}
			}
			if !math.IsNaN(at[i].gateway.median) {
				known++
			}
		}
		if known < 2 {
			continue
		}
		top, step := scale(highest)
		down := func(n float64) float64 { return fieldTop + fieldHeight*(1-max(n, 0)/top) }
		for n := 0.0; n < top+step/2; n += step {
			c.Y = append(c.Y, curveTick{down(n), number(n, true)})
		}
		for i, row := range at {
			x := fieldLeft + fieldWidth*(float64(i)+.5)/float64(len(at))
			c.X = append(c.X, curveTick{x, f.size(i)})
			if n := row.gateway.median; !math.IsNaN(n) {
				c.Gateway = append(c.Gateway, dot{x, down(n)})
			}
			if n := row.bare.median; !math.IsNaN(n) {
				c.Bare = append(c.Bare, dot{x, down(n)})
			}
		}
		all = append(all, c)
	}
	return all
}

// size is what distinguishes an experiment from the others.
func (f *findings) size(i int) string {
	r := f.results[i]
	return fmt.Sprintf("%d / %d", r.course.sessions, r.rig.canisters)
}

// Line is a line through dots, as SVG has it.
func (growthCurve) Line(dots []dot) string {
	var b strings.Builder
	for _, d := range dots {
		fmt.Fprintf(&b, "%s,%s ", short(d.X), short(d.Y))
	}
	return strings.TrimSpace(b.String())
}

//go:embed growth.html
var growthHTML string

var growthTemplate = template.Must(template.New("growth").Parse(growthHTML))

// growthTable is a table of the page.
type growthTable struct {
	Title string
	Runs  int
	Rows  []cells
}

// page writes the tables and curves as a page that needs nothing else.
func (f *findings) page(w io.Writer) error {
	view := struct {
		Command, Machine string
		Tables           []growthTable
		Curves           []growthCurve
		Wrong            []string
	}{Command: f.command, Machine: f.machine(), Curves: f.curves(), Wrong: f.wrong()}
	for _, r := range f.results {
		t := growthTable{Title: r.title, Runs: len(r.gateway)}
		rows, _ := r.rows()
		for _, row := range rows {
			t.Rows = append(t.Rows, row.cells())
		}
		view.Tables = append(view.Tables, t)
	}
	return growthTemplate.Execute(w, view)
}
