package relay_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// closedLine returns the fields of the only line about the end of a session.
func (r *rig) closedLine() map[string]any {
	r.t.Helper()
	lines := r.logs.FilterMessage("session closed").All()
	if len(lines) != 1 {
		r.t.Fatalf("%d lines of the end", len(lines))
	}
	return lines[0].ContextMap()
}

// Only the IC's own limit is told as such.
func TestTooLargeNamesTheLimit(t *testing.T) {
	for _, tt := range []struct {
		limit, message int64
		text           string
	}{
		{16 << 10, 16 << 10, "message is larger than max_message_size of this gateway (16384 bytes), send smaller ones"},
		{0, relay.DefaultMaxMessageSize, "message is larger than the IC accepts, send smaller ones"},
	} {
		t.Run(fmt.Sprint(tt.limit), func(t *testing.T) {
			inBubble(t, rigOptions{policy: func(p *relay.Policy) { p.MaxMessageSize = tt.limit }}, func(t *testing.T, r *rig) {
				c := r.open()
				_ = c.Send(t.Context(), make([]byte, tt.message))
				if ce := closeOf(t, c); ce.Code != websocket.CloseMessageTooBig || ce.Text != tt.text {
					t.Errorf("%d %q", ce.Code, ce.Text)
				}
			})
		})
	}
}

// A client that answers our close frame with its text has said nothing of its own.
func TestClosedLineDoesNotRepeatOurText(t *testing.T) {
	for answer, logged := range map[string]any{
		"text frames are not supported, send binary frames": nil,
		"well then": "well then",
	} {
		t.Run(answer, func(t *testing.T) {
			inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
				c := r.raw(client.Options{Canister: r.canister, Authority: r.authority, NetDial: r.dial})
				if err := c.Write(t.Context(), websocket.TextMessage, []byte("hi")); err != nil {
					t.Fatal(err)
				}
				c.CloseWith(websocket.CloseUnsupportedData, answer)
				time.Sleep(time.Minute)
				if line := r.closedLine(); line["reason"] != "text_frame" || line["client_text"] != logged {
					t.Errorf("%v", line)
				}
			})
		})
	}
}
