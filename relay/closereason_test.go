package relay

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCloseReasonsAreComplete(t *testing.T) {
	labels := make(map[string]bool)
	for _, r := range CloseReasons() {
		if r.Code() < 1000 || r.Label() == "" {
			t.Errorf("reason %d has code %d and label %q", r, r.Code(), r.Label())
		}
		if r.Text() == "" && r != ClientClosed && r != ClientGone {
			t.Errorf("%s has no text", r)
		}
		if len(r.Text()) > maxCloseText {
			t.Errorf("%s: text has %d bytes, a close frame takes %d", r, len(r.Text()), maxCloseText)
		}
		if labels[r.Label()] {
			t.Errorf("label %q is used twice", r)
		}
		labels[r.Label()] = true
	}
}

func TestTruncateText(t *testing.T) {
	for _, s := range []string{"", "short", strings.Repeat("x", 123), strings.Repeat("x", 124), strings.Repeat("é", 100), strings.Repeat("日", 60)} {
		got := truncateText(s)
		if len(got) > maxCloseText || !utf8.ValidString(got) {
			t.Errorf("truncateText(%d bytes) = %q", len(s), got)
		}
		if len(s) <= maxCloseText && got != s {
			t.Errorf("%q was changed to %q", s, got)
		}
	}
}
