package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"
)

// begin writes the names of the columns to w, which from then on gets every row when it is taken.
func (r *recorder) begin(w io.Writer, failed func(error)) {
	r.series, r.failed = csv.NewWriter(w), failed
	r.series.UseCRLF = true // RFC 4180 section 2
	var names []string
	for _, c := range columns {
		names = append(names, c.name)
	}
	r.line(names)
}

// write writes a row to the time series.
func (r *recorder) write(w row) { r.line(w.cells()) }

func (r *recorder) line(cells []string) {
	if r.series == nil {
		return
	}
	_ = r.series.Write(cells) // Error has it
	r.series.Flush()
	if err := r.series.Error(); err != nil {
		r.series = nil
		r.failed(err)
	}
}

// cells are the row as text.
func (w row) cells() []string {
	cells := make([]string, len(columns))
	for i, c := range columns {
		cells[i] = c.text(w)
	}
	return cells
}

// A column is one of the time series.
type column struct {
	name string
	text func(w row) string // "" where nothing is known
}

// columns are those of the time series and of the page's table. README has what they mean.
var columns = []column{
	{"time", func(w row) string { return w.at.UTC().Format("2006-01-02T15:04:05.000Z07:00") }},
	{"elapsed_s", func(w row) string { return number(w.elapsed.Seconds(), true) }},
	{"interval_s", func(w row) string { return number(w.span.Seconds(), true) }},
	{"sessions", func(w row) string { return fmt.Sprint(w.sessions) }},
	{"opened", func(w row) string { return fmt.Sprint(w.opened) }},
	{"refused", func(w row) string { return fmt.Sprint(w.refused) }},
	{"closed", func(w row) string { return fmt.Sprint(w.closed) }},
	{"sent", func(w row) string { return fmt.Sprint(w.sent) }},
	{"received", func(w row) string { return fmt.Sprint(w.received) }},
	{"sent_per_s", func(w row) string { return number(w.rate(w.sent)) }},
	{"received_per_s", func(w row) string { return number(w.rate(w.received)) }},
	{"sent_bytes", func(w row) string { return fmt.Sprint(w.sentBytes) }},
	{"received_bytes", func(w row) string { return fmt.Sprint(w.receivedBytes) }},
	{"latency_p50_ms", func(w row) string { return number(w.quantile(.5)) }},
	{"latency_p90_ms", func(w row) string { return number(w.quantile(.9)) }},
	{"latency_p99_ms", func(w row) string { return number(w.quantile(.99)) }},
	{"latency_max_ms", func(w row) string { return number(w.quantile(1)) }},
	{"errors", func(w row) string { return fmt.Sprint(w.errors) }},
	{"cpu_percent", func(w row) string { return number(w.cpu()) }},
	{"rss_bytes", func(w row) string {
		if w.use.rss == 0 {
			return ""
		}
		return fmt.Sprint(w.use.rss)
	}},
	{"event", func(w row) string {
		var texts []string
		for _, m := range w.marks {
			texts = append(texts, m.text)
		}
		return strings.Join(texts, "; ")
	}},
}

// number writes n with up to three digits after the point, nothing if it is not known.
func number(n float64, known bool) string {
	if !known {
		return ""
	}
	text := fmt.Sprintf("%.3f", n)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

// rate is n of the span, per second.
func (w row) rate(n uint64) (float64, bool) {
	return float64(n) / w.span.Seconds(), w.span > 0
}

// quantile is the time from sending to delivery that the share q of what was delivered in the span did not exceed, in
// milliseconds.
func (w row) quantile(q float64) (float64, bool) {
	return millis(min(w.latency.quantile(q), w.longest)), len(w.latency) > 0
}

// cpu is what the process used of one core, in percent.
func (w row) cpu() (float64, bool) {
	return 100 * w.use.cpu.Seconds() / w.span.Seconds(), w.use.rss > 0 && w.span > 0
}
