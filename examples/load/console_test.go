package main

import (
	"bytes"
	"testing"
)

func TestConsole(t *testing.T) {
	const clear = "\r\x1b[K"
	for name, tt := range map[string]struct {
		width func() int
		want  string
	}{
		"pipe":     {nil, "begin\nstate 1\nweather\nstate 2, and so on\nreport"},
		"terminal": {func() int { return 10 }, "begin\n" + clear + "state 1" + clear + "weather\nstate 1" + clear + "state 2, " + "\nreport"},
	} {
		var out bytes.Buffer
		c := newConsole(&out)
		c.width = tt.width
		c.say("begin")
		c.show("state %d", 1)
		c.say("weather")
		c.show("state %d, and so on", 2)
		c.leave()
		c.leave()
		out.WriteString("report")
		if out.String() != tt.want {
			t.Errorf("%s: got %q, want %q", name, &out, tt.want)
		}
	}
}
