package relay

import (
	"io"
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// Limits count a whole /64 of IPv6. Logs and the admin API have the address itself, or none where there is none.
func TestClientIP(t *testing.T) {
	for _, tt := range []struct{ client, shown, neighbour, stranger string }{
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2:ffff::1", "2001:db8:1:3::1"},
		{"192.0.2.7", "192.0.2.7", "::ffff:192.0.2.7", "192.0.2.8"},
		{"::ffff:192.0.2.7", "192.0.2.7", "192.0.2.7", "2001:db8::1"},
		{"fe80::1%eth0", "fe80::1%eth0", "fe80::2%eth1", "fe81::1"},
		{"", "", "", "192.0.2.7"},
	} {
		t.Run(tt.client, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				addr := func(text string) (ip netip.Addr) {
					if text != "" {
						ip = netip.MustParseAddr(text)
					}
					return ip
				}
				core, logs := observer.New(zap.InfoLevel)
				g := gatewayAnswered(t, http.StatusBadGateway, "", "")
				g.SetLogger(zap.New(core))
				p := &Policy{AnyCanister: true, MaxSessionsPerIP: 1}
				ticket, err := g.Reserve(p, addr(tt.client))
				if err != nil {
					t.Fatal(err)
				}
				ws, there := onPipe(t)
				go io.Copy(io.Discard, there)
				ticket.Serve(t.Context(), ws)
				if got := g.Sessions()[0].ClientIP; got != addr(tt.shown) {
					t.Errorf("the admin API says %s", got)
				}
				if _, err := g.Reserve(p, addr(tt.neighbour)); err == nil {
					t.Errorf("%s is not counted with %s", tt.neighbour, tt.client)
				}
				other, err := g.Reserve(p, addr(tt.stranger))
				if err != nil {
					t.Errorf("%s: %v", tt.stranger, err)
				} else {
					other.Release()
				}
				there.Close()
				synctest.Wait()
				closed := logs.FilterMessage("session closed").All()
				if len(closed) != 1 {
					t.Fatalf("%d lines of the end", len(closed))
				}
				if got, there := closed[0].ContextMap()["client_ip"]; there != (tt.shown != "") || there && got != tt.shown {
					t.Errorf("the log says %v", got)
				}
				if again, err := g.Reserve(p, addr(tt.neighbour)); err != nil {
					t.Errorf("after the end: %v", err)
				} else {
					again.Release()
				}
			})
		})
	}
}
