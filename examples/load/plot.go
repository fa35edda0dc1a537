package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A plot is a picture of some numbers over the time of a run. What it draws lies on a field of plotWidth by plotHeight units that
// is stretched to its place, so that texts, which must not be stretched, are beside it and not in it.
type plot struct {
	Title, Unit string
	TimeUnit    string
	X, Y        []tick
	Lines       []line
	Marks       []string // where the marks of the run are, in units of the field
}

const plotWidth, plotHeight = 1000, 200

// A tick is a number at an axis, at a place in percent of its length.
type tick struct{ At, Text string }

// A line is one series.
type line struct {
	Name   string
	Path   string // "" if nothing is known
	Values string // one for each row, "" if nothing is known, separated by commas
}

// A curve is what a line shows of a row; known is false where there is nothing to show.
type curve struct {
	name  string
	value func(w row) (n float64, known bool)
}

// pictures are the plots of a page.
var pictures = []struct {
	title, unit string
	lines       []curve
}{
	{"Latency, from sending to delivery", "ms", []curve{
		{"p50", func(w row) (float64, bool) { return w.quantile(.5) }},
		{"p99", func(w row) (float64, bool) { return w.quantile(.99) }},
	}},
	{"Throughput", "messages/s", []curve{
		{"sent", func(w row) (float64, bool) { return w.rate(w.sent) }},
		{"received", func(w row) (float64, bool) { return w.rate(w.received) }},
	}},
	{"Sessions", "open", []curve{
		{"open", func(w row) (float64, bool) { return float64(w.sessions), true }},
	}},
	{"Openings, ends and errors", "1/s", []curve{
		{"opened", func(w row) (float64, bool) { return w.rate(w.opened) }},
		{"closed", func(w row) (float64, bool) { return w.rate(w.closed) }},
		{"errors", func(w row) (float64, bool) { return w.rate(w.errors) }},
	}},
	{"CPU", "% of a core", []curve{
		{"CPU", row.cpu},
	}},
	{"Resident memory", "MiB", []curve{
		{"memory", func(w row) (float64, bool) { return mib(w.use.rss), w.use.rss > 0 }},
	}},
}

// plots draws rows. A picture of which nothing is known is left out.
func plots(rows []row, marks []mark) []plot {
	if len(rows) == 0 {
		return nil
	}
	end := rows[len(rows)-1].elapsed
	unit, times := timeAxis(end)
	along := func(d time.Duration) float64 { return plotWidth * d.Seconds() / max(end, 1).Seconds() }
	var drawn []plot
	for _, picture := range pictures {
		p := plot{Title: picture.title, Unit: picture.unit, TimeUnit: unit, X: times}
		highest, known := 0.0, false
		for _, s := range picture.lines {
			for _, w := range rows {
				if n, ok := s.value(w); ok {
					highest, known = max(highest, n), true
				}
			}
		}
		if !known {
			continue
		}
		top, step := scale(highest)
		for n := 0.0; n < top+step/2; n += step {
			p.Y = append(p.Y, tick{place(n / top), number(n, true)})
		}
		for _, s := range picture.lines {
			l := line{Name: s.name}
			var values []string
			pen := "M"
			var path strings.Builder
			for i, w := range rows {
				n, ok := s.value(w)
				values = append(values, number(n, ok))
				if !ok {
					pen = "M"
					continue
				}
				fmt.Fprint(&path, pen, short(along(w.elapsed)), " ", short(plotHeight*(1-n/top)))
				if pen == "M" && !follows(s, rows[i+1:]) {
					path.WriteString("h0") // a point of its own
				}
				pen = "L"
			}
			l.Path, l.Values = path.String(), strings.Join(values, ",")
			p.Lines = append(p.Lines, l)
		}
		for _, m := range marks {
			p.Marks = append(p.Marks, short(min(along(m.elapsed), plotWidth)))
		}
		drawn = append(drawn, p)
	}
	return drawn
}

// follows reports whether s goes on in the first of rows.
func follows(s curve, rows []row) bool {
	if len(rows) == 0 {
		return false
	}
	_, ok := s.value(rows[0])
	return ok
}

// short is n to a hundredth of a unit.
func short(n float64) string { return strconv.FormatFloat(math.Round(100*n)/100, 'f', -1, 64) }

// place is a share of an axis in percent.
func place(share float64) string { return short(100*share) + "%" }

// scale chooses the end of an axis that must reach n, and the distance of its ticks, of which there are up to five: 1, 2 or 5
// times a power of ten.
func scale(n float64) (top, step float64) {
	const ticks = 4
	if n <= 0 {
		return 1, 1
	}
	unit := math.Pow10(int(math.Floor(math.Log10(n / ticks))))
	for _, factor := range []float64{1, 2, 5, 10} {
		if step = factor * unit; step*ticks >= n*(1-1e-9) {
			break
		}
	}
	return math.Ceil(n/step-1e-9) * step, step
}

// timeAxis names the unit of an axis from 0 to end and places its ticks.
func timeAxis(end time.Duration) (unit string, ticks []tick) {
	const most = 6
	steps := []time.Duration{
		10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
		time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
		time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
		time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
	}
	step := steps[0]
	for i := 0; end/step >= most; i++ {
		if i < len(steps) {
			step = steps[i]
		} else {
			step *= 2
		}
	}
	var text func(d time.Duration) string
	switch {
	case end < 2*time.Minute:
		unit, text = "s", func(d time.Duration) string { return number(d.Seconds(), true) }
	case end < 2*time.Hour:
		unit, text = "min:s", func(d time.Duration) string { return fmt.Sprintf("%d:%02d", d/time.Minute, d%time.Minute/time.Second) }
	default:
		unit, text = "h:min", func(d time.Duration) string { return fmt.Sprintf("%d:%02d", d/time.Hour, d%time.Hour/time.Minute) }
	}
	for d := time.Duration(0); d <= end; d += step {
		ticks = append(ticks, tick{place(d.Seconds() / max(end, 1).Seconds()), text(d)})
	}
	return unit, ticks
}
