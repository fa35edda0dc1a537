package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
)

// An experiment is a course that the gateway runs, and then the bare server with frames of the same lengths.
type experiment struct {
	title  string
	rig    rig
	plan   plan
	course course
	steps  stepsFunc

	profiles string // directory for profiles of the gateway; "" for none
}

// stepsFunc is what a trial of an experiment does.
type stepsFunc = func(*trial, context.Context, course) error

// A result is what all trials of an experiment found.
type result struct {
	experiment
	gateway, bare [][]figure // of each run
	wrong         []string
}

// run runs an experiment so many times. The subjects take turns, so that what else the machine does falls on both.
func (e experiment) run(ctx context.Context, runs int, say func(string, ...any)) *result {
	r := &result{experiment: e}
	for i := range runs {
		t, err := e.trial(ctx, "gateway", say, e.rig.gateway)
		r.violate("gateway", i, t.wrong...)
		if err != nil {
			r.violate("gateway", i, err.Error())
			return r
		}
		r.gateway = append(r.gateway, t.figures)
		up, down := length(&t.up, e.plan.size), length(&t.down, e.plan.size)
		t, err = e.trial(ctx, "bare server", say, func(ctx context.Context) (*subject, error) { return e.rig.bare(ctx, up, down) })
		r.violate("bare server", i, t.wrong...)
		if err != nil {
			r.violate("bare server", i, err.Error())
			return r
		}
		r.bare = append(r.bare, t.figures)
	}
	return r
}

// length is the average length of frames, of those that were counted.
func length(f *frames, otherwise int) int {
	if f.count.Load() == 0 {
		return otherwise
	}
	return int(math.Round(f.mean()))
}

// trial sets a subject up, has it run the course and takes it down. After an error the trial still has the violations.
func (e experiment) trial(ctx context.Context, name string, say func(string, ...any), set func(context.Context) (*subject, error)) (*trial, error) {
	if ctx.Err() != nil {
		return new(trial), ctx.Err()
	}
	s, err := set(ctx)
	if err != nil {
		return new(trial), err
	}
	t := newTrial(s, e.plan, e.rig.burst, func(format string, args ...any) {
		say("%s: %s: %s", e.title, name, fmt.Sprintf(format, args...))
	})
	if e.profiles != "" && s.profile != nil {
		t.files = &profiles{dir: e.profiles, title: e.title, subject: s}
	}
	err = e.steps(t, ctx, e.course)
	t.finish(ctx)
	return t, errors.Join(err, s.close())
}

func (r *result) violate(name string, run int, texts ...string) {
	for _, text := range texts {
		r.wrong = append(r.wrong, fmt.Sprintf("%s, %s, run %d: %s", r.title, name, run+1, printable(text)))
	}
}

// A tableRow is a figure in all runs.
type tableRow struct {
	figure
	gateway, bare spread
}

// A spread is a number in several runs; all are NaN where it is not known.
type spread struct{ median, least, most float64 }

// rows are the figures, in the order of the course. The error names those that the bare server should have and has not.
func (r *result) rows() (rows []tableRow, missing []string) {
	if len(r.gateway) == 0 {
		return nil, []string{r.title + ": nothing was measured"}
	}
	for _, f := range r.gateway[0] {
		row := tableRow{figure: f, gateway: spreadOf(r.gateway, f.name), bare: spreadOf(r.bare, f.name)}
		if !f.alone && !has(r.bare, f.name) {
			missing = append(missing, fmt.Sprintf("%s: no baseline for %q", r.title, f.name))
		}
		rows = append(rows, row)
	}
	return rows, missing
}

// has reports whether each run has the figure.
func has(runs [][]figure, name string) bool {
	return len(runs) > 0 && !slices.ContainsFunc(runs, func(figures []figure) bool {
		return !slices.ContainsFunc(figures, func(f figure) bool { return f.name == name })
	})
}

func spreadOf(runs [][]figure, name string) spread {
	var all []float64
	for _, figures := range runs {
		for _, f := range figures {
			if f.name == name && !math.IsNaN(f.value) && !math.IsInf(f.value, 0) {
				all = append(all, f.value)
			}
		}
	}
	if len(all) == 0 {
		return spread{math.NaN(), math.NaN(), math.NaN()}
	}
	slices.Sort(all)
	middle := len(all) / 2
	median := all[middle]
	if len(all)%2 == 0 {
		median = (all[middle-1] + all[middle]) / 2
	}
	return spread{median, all[0], all[len(all)-1]}
}

// ratio is that of the gateway to the bare server; NaN if there is none.
func (r tableRow) ratio() float64 {
	if r.alone || r.bare.median == 0 {
		return math.NaN()
	}
	return r.gateway.median / r.bare.median
}
