package caddymodule

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
)

// logLine is a line of Caddy's log.
type logLine struct {
	Level, Logger, Msg, Gateway, Error, Remedy, Text string
	Status, Code                                     int
	ClientIP                                         string `json:"client_ip"`
	Canister                                         string `json:"canister_id"`
	ClientText                                       string `json:"client_text"`
	Reason                                           string
}

// lines returns the lines that the process has logged with a message, or all without one.
func (p *process) lines(message string) (list []logLine) {
	for text := range strings.Lines(p.log.String()) {
		var l logLine
		if json.Unmarshal([]byte(text), &l) == nil && (message == "" || l.Msg == message) {
			list = append(list, l)
		}
	}
	return list
}

// TestRefusalsInTheLog makes sure that an opening which is refused before the upgrade, of which a page learns no more than 1006, has
// one line in the log at its default level that says what to do, and none of the level error.
func TestRefusalsInTheLog(t *testing.T) {
	port := freeport.ForTest(t)
	p := runCaddy(t, "", fmt.Sprintf(`http://127.0.0.1:%d {
	icws /origin %[2]s {
		%[3]s
		origin https://a.io
	}
	icws /ip %[2]s {
		%[3]s
		max_sessions_per_ip 1
	}
	icws /all %[2]s {
		%[3]s
		max_sessions 1
	}
	icws /ws %[2]s {
		%[3]s
	}
}`, port, testCanister, deadNetwork()))
	base := fmt.Sprintf("ws://127.0.0.1:%d", port)
	ws, _, err := dial(t, base+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	greeted(t, ws)
	refused := func(path string, header http.Header, status int, level, reason, remedy string) {
		t.Helper()
		_, resp, err := dial(t, base+path, header)
		if err == nil || resp == nil || resp.StatusCode != status {
			t.Fatalf("%s is not refused with %d: %v %v", path, status, resp, err)
		}
		var lines []logLine
		eventually(t, "the line", func() bool {
			lines = p.lines("opening refused: " + reason)
			return len(lines) > 0
		})
		if l := lines[0]; len(lines) != 1 || l.Level != level || l.Status != status || l.ClientIP != "127.0.0.1" || l.Error == "" || !strings.Contains(l.Remedy, remedy) {
			t.Errorf("%s: %d lines, first %+v", path, len(lines), l)
		}
	}
	refused("/origin", http.Header{"Origin": {"https://b.io"}}, 403, "warn", "origin", "origin")
	refused("/ip", nil, 429, "warn", "max_sessions_per_ip", "trusted_proxies")
	refused("/all", nil, 503, "warn", "max_sessions", "raise max_sessions")
	resp, err := http.Post(p.admin+"/icws/drain", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	refused("/ws", nil, 503, "info", "draining", "connect again")
	for _, l := range p.lines("") {
		if l.Level == "error" {
			t.Errorf("a line of the level error: %+v", l)
		}
	}
}

// TestRefusalWithoutHandleErrors has the answer that nobody dresses; TestRefusals has those with handle_errors.
func TestRefusalWithoutHandleErrors(t *testing.T) {
	site := serve(t, fmt.Sprintf("icws %s {\n\t%s\n\tmax_sessions 1\n\t}", testCanister, deadNetwork()))
	ws, _, _ := site.open(t, "/", nil)
	greeted(t, ws)
	if _, resp, body := site.open(t, "/", nil); resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "5" || body != "" {
		t.Errorf("%d %q, Retry-After %q", resp.StatusCode, body, resp.Header.Get("Retry-After"))
	}
}
