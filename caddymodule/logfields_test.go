package caddymodule

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// documented makes sure that README has every field of the lines about sessions that ended and openings that were refused.
func (p *process) documented(t *testing.T) {
	t.Helper()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "\n## Logs\n")
	section, _, _ := strings.Cut(rest, "\n## ")
	for text := range strings.Lines(p.text()) {
		var line map[string]any
		if json.Unmarshal([]byte(text), &line) != nil {
			continue
		}
		message, _ := line["msg"].(string)
		if message != "session closed" && !strings.HasPrefix(message, "opening refused: ") {
			continue
		}
		for _, every := range []string{"level", "ts", "logger", "msg"} {
			delete(line, every)
		}
		for field := range line {
			if !strings.Contains(section, "`"+field+"`") {
				t.Errorf("README does not have the field %s of %q", field, message)
			}
		}
	}
}
