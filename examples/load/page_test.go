package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// An element of a page.
type element struct {
	name       string
	attributes map[string]string
}

// readPage reads a page and checks what holds of each: it is well-formed, stands alone and has no number that is none.
func readPage(t *testing.T, file string) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	checkPage(t, raw)
	return string(raw)
}

// checkPage returns the elements of a page and its texts.
func checkPage(t *testing.T, raw []byte) (elements []element, texts []string) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(raw)) // strict: every element is closed, every attribute quoted
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not well-formed: %v\n%s", err, raw)
		}
		switch token := token.(type) {
		case xml.StartElement:
			e := element{token.Name.Local, map[string]string{}}
			for _, a := range token.Attr {
				e.attributes[a.Name.Local] = a.Value
				if strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "src" || a.Name.Local == "href" {
					t.Errorf("<%s %s=%q>", e.name, a.Name.Local, a.Value)
				}
			}
			elements = append(elements, e)
		case xml.CharData:
			texts = append(texts, string(token))
		}
	}
	if bad := regexp.MustCompile(`\bNaN\b|[+-]?\bInf\b|ZgotmplZ|https?:|url\(|@import`).Find(raw); bad != nil {
		t.Errorf("the page has %q", bad)
	}
	return elements, texts
}

const hostile = `<img src=x onerror="alert(1)">'</script><script>alert(2)</script>&amp;${x}`

// The page has a point for each row, escapes what others said and needs nothing else.
func TestPage(t *testing.T) {
	rec := newRecorder(newConsole(io.Discard), &settings{interval: time.Second})
	rows := secondsOf(40)
	rows[10].latency, rows[12].latency = nil, nil // row 11 is alone
	rows[20].use = use{}
	rows[30].marks = []mark{{rows[30].elapsed, hostile}}
	for _, w := range rows {
		rec.keep(w)
	}
	r := &report{
		Mode: hostile, Opens: 40, Sent: 120, Due: 120, Delivered: 80, Unresolved: 40, RoundTrip: quantiles{80, 1, 2, 3, 4},
		Closes: map[string]uint64{hostile: 3, "gateway 1012": 6}, OwnCloses: map[string]uint64{"client 1000": 1}, Refusals: map[string]uint64{hostile: 1},
		Notes: []string{hostile}, Violations: []string{hostile},
	}
	var raw bytes.Buffer
	if err := writePage(&raw, r, rec, &settings{command: hostile, flags: []setting{{hostile, hostile}}}); err != nil {
		t.Fatal(err)
	}
	elements, texts := checkPage(t, raw.Bytes())

	counts, widths := map[string]int{}, ""
	for _, e := range elements {
		counts[e.name]++
		switch e.name {
		case "i":
			widths += e.attributes["style"] + ";"
		case "path":
			known := 40
			switch name := e.attributes["data-name"]; name {
			case "p50", "p99":
				known = 38
			case "CPU", "memory":
				known = 39
			}
			values := strings.Split(e.attributes["data-values"], ",")
			points := regexp.MustCompile(`[ML]([0-9.]+) ([0-9.]+)`).FindAllStringSubmatch(e.attributes["d"], -1)
			if len(values) != 40 || len(points) != known {
				t.Errorf("%s has %d points and %d values of 40 rows", e.attributes["data-name"], len(points), len(values))
			}
			if got := strings.Count(e.attributes["d"], "h0"); got != (40-known)/2 {
				t.Errorf("%s has %d points of their own: %s", e.attributes["data-name"], got, e.attributes["d"])
			}
		}
	}
	// Rows of tables: heads and 7 fates, 3 times, 3 counts of sessions, 3 footprints, 4 reasons in 3 tables, 40 rows of the series.
	if counts["path"] != 10 || counts["script"] != 1 || counts["img"] != 0 || counts["tr"] != 8+7+3+3+3+4+40 {
		t.Errorf("elements: %v", counts)
	}
	if widths != "width: 100%;width: 50%;width: 100%;width: 100%;" {
		t.Errorf("bars: %s", widths)
	}
	all := strings.Join(texts, "\n")
	for _, want := range []string{"120", "66.67 %", "33.33 %"} {
		if !strings.Contains(all, want) {
			t.Errorf("the page does not say %s", want)
		}
	}
	// Title and heading, violation, note, event, two reasons, command, name and value of a setting, and the event in its row.
	if got := strings.Count(all, hostile); got != 11 {
		t.Errorf("what others said is in %d texts", got)
	}
}

// A run of which nothing is known has a page too.
func TestPageOfNothing(t *testing.T) {
	var raw bytes.Buffer
	if err := writePage(&raw, &report{Mode: "run"}, newRecorder(newConsole(io.Discard), &settings{}), &settings{}); err != nil {
		t.Fatal(err)
	}
	checkPage(t, raw.Bytes())
	for _, n := range []int{1, 2} {
		rows := make([]row, n) // of no length
		for _, p := range plots(rows, []mark{{0, "x"}}) {
			for _, l := range p.Lines {
				if strings.Contains(l.Path, "NaN") || strings.Contains(l.Path, "Inf") {
					t.Errorf("%s: %s", p.Title, l.Path)
				}
			}
		}
	}
}

func TestScale(t *testing.T) {
	for n, want := range map[float64][2]float64{
		0: {1, 1}, 1: {1, .5}, 4: {4, 1}, 4.1: {6, 2}, 9: {10, 5}, 10: {10, 5}, 99: {100, 50}, 1234: {1500, 500}, .03: {.03, .01}, 20: {20, 5},
	} {
		if top, step := scale(n); short(1000*top) != short(1000*want[0]) || short(1000*step) != short(1000*want[1]) {
			t.Errorf("%g: up to %g in steps of %g, want %v", n, top, step, want)
		}
	}
}

func TestTimeAxis(t *testing.T) {
	for end, want := range map[time.Duration]string{
		0:                       "s 0",
		35 * time.Millisecond:   "s 0 0.01 0.02 0.03",
		30 * time.Second:        "s 0 10 20 30",
		185 * time.Second:       "min:s 0:00 1:00 2:00 3:00",
		30 * time.Minute:        "min:s 0:00 10:00 20:00 30:00",
		24 * time.Hour:          "h:min 0:00 6:00 12:00 18:00 24:00",
		100 * 24 * time.Hour:    "h:min 0:00 768:00 1536:00 2304:00",
		119*time.Second + 5*1e8: "s 0 30 60 90",
	} {
		unit, ticks := timeAxis(end)
		got := unit
		for _, x := range ticks {
			got += " " + x.Text
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", end, got, want)
		}
	}
}
