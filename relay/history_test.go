package relay_test

import (
	"strings"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/relay/client"
)

// A gateway remembers how the last 50 sessions ended, the newest first, and counts all of them.
func TestLastCloses(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		if n := len(r.gateway.Closes()); n != 0 {
			t.Fatalf("%d before any session", n)
		}
		c := r.open()
		r.echo(c, "hi")
		time.Sleep(2 * time.Minute)
		c.Close()
		time.Sleep(time.Minute)
		all := r.gateway.Closes()
		if len(all) != 1 {
			t.Fatalf("%d closes", len(all))
		}
		first := all[0]
		if first.ID != 1 || first.Canister != r.canister || first.Principal != c.Key().Principal || first.Reason != "client_closed" || first.Code != 1000 ||
			first.Lasted.Round(time.Minute) != 2*time.Minute || time.Since(first.At).Round(time.Minute) != time.Minute {
			t.Errorf("%+v", first)
		}
		s := r.gateway.Snapshot()
		if s.Opened != 1 || s.FramesIn != 2 || s.FramesOut < 2 || s.BytesIn == 0 || s.BytesOut == 0 || len(s.Closes) != 1 || s.Closes["client_closed"] != 1 {
			t.Errorf("%+v", s.TrafficSnapshot)
		}

		// What never named a canister has none, and what clients say is kept as text that fits.
		for range 60 {
			raw := r.raw(client.Options{Canister: r.canister, Authority: r.authority, NetDial: r.dial})
			raw.CloseWith(3000, "<img src=x onerror=alert(1)>\x1b[31m"+strings.Repeat("x", 80))
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		all = r.gateway.Closes()
		if len(all) != 50 {
			t.Fatalf("%d closes are remembered", len(all))
		}
		for i, c := range all {
			if c.ID != uint64(61-i) || i > 0 && !c.At.Before(all[i-1].At) || c.Canister.String() != "aaaaa-aa" || c.Reason != "client_closed" {
				t.Errorf("%d: %+v", i, c)
			}
			if !strings.HasPrefix(c.ClientText, "<img src=x onerror=alert(1)>") || strings.Contains(c.ClientText, "\x1b") || len(c.ClientText) > 123 {
				t.Errorf("%d: the client said %q", i, c.ClientText)
			}
		}
		counted := uint64(0)
		for reason, n := range r.gateway.Snapshot().Closes {
			if !strings.Contains(reason, "_") {
				t.Errorf("reason %q", reason)
			}
			counted += n
		}
		if counted != 61 {
			t.Errorf("%d closes are counted, want 61", counted)
		}
	})
}
