package relay

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gorilla/websocket"
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

// Clients stay closed after 1008, so it is for what repeating cannot cure and for nothing else. What passes has a code that says so.
func TestOnlyWhatRepeatingCannotCureIs1008(t *testing.T) {
	final := map[CloseReason]bool{
		CanisterNotAllowed: true, WrongGateway: true, BadSender: true, BadExpiry: true, Replayed: true, Superseded: true, ClientOutdated: true,
	}
	for _, r := range CloseReasons() {
		if (r.Code() == websocket.ClosePolicyViolation) != final[r] {
			t.Errorf("%s has code %d", r, r.Code())
		}
		passes := r.Code() == websocket.CloseGoingAway || r.Code() == websocket.CloseServiceRestart || r.Code() == websocket.CloseTryAgainLater
		invites := strings.Contains(r.Text(), "reconnect") || strings.Contains(r.Text(), "again later")
		if passes && !invites || final[r] && invites {
			t.Errorf("%s has code %d and says %q", r, r.Code(), r.Text())
		}
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
