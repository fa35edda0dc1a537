package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	usual, err := parse(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		report report
		want   string
	}{
		"all":               {report{Opens: 1, Due: 3, Delivered: 3}, ""},
		"half":              {report{Opens: 1, Due: 100, Delivered: 49, Lost: 1, Unresolved: 50}, ""},
		"less than half":    {report{Opens: 1, Due: 100, Delivered: 49, Unresolved: 51}, "what became of the messages is known of only 49.00 %, -resolved asks for 50 %: the run proves too little"},
		"nothing sent":      {report{Opens: 1}, "no message was sent: the run proves nothing"},
		"nothing opened":    {report{}, "no session could be opened"},
		"goroutines remain": {report{Opens: 1, Due: 1, Before: footprint{Goroutines: 2}, After: footprint{Goroutines: 3}}, "2 goroutines before, 3 after"},
	} {
		tt.report.judge(usual)
		if got := strings.Join(tt.report.Violations, "; "); got != tt.want {
			t.Errorf("%s: violations %q, want %q", name, got, tt.want)
		}
	}
	idle := report{Opens: 1}
	if idle.judge(&settings{resolved: usual.resolved}); len(idle.Violations) > 0 {
		t.Errorf("nothing sent, as asked for: violations %q", idle.Violations)
	}
}

// A share that is not all or nothing does not look so.
func TestPercent(t *testing.T) {
	for want, of := range map[string][2]uint64{
		"": {0, 0}, "0 %": {0, 7}, "100 %": {7, 7}, "<0.01 %": {1, 1e6}, ">99.99 %": {1e6 - 1, 1e6}, "33.33 %": {1, 3}, "0.01 %": {1, 10000}, "99.99 %": {9999, 10000},
	} {
		if got := percent(of[0], of[1]); got != want {
			t.Errorf("%d of %d: %q, want %q", of[0], of[1], got, want)
		}
	}
}

// The report as text has every share, and nothing that a terminal would obey.
func TestReportAsText(t *testing.T) {
	var s stats
	for range 3 {
		s.send(make([]byte, payloadHead), 2)
	}
	s.delivered.Add(4)
	s.unresolved.Add(1)
	s.lost.Add(1)
	s.count(&s.closes, "gateway 1011 \x1b[2Jgone\n  no violation")
	s.count(&s.refusals, strings.Repeat("x", 1000))
	var out bytes.Buffer
	if code := s.report("run", time.Second).write(&out, false); code != 1 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{
		"sent 3 ", "    due                    6     100 %\n", "    delivered              4   66.67 %\n", "    lost                   1   16.67 %\n",
		"    unresolved             1   16.67 %\n", "    duplicated             0       0 %\n", "    out of order           0       0 %\n",
		"  closed      1 x gateway 1011 ?[2Jgone?  no violation\n", "x...\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	if out.Len() > 2000 {
		t.Errorf("%d bytes", out.Len())
	}
}
