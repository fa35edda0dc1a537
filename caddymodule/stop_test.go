package caddymodule

import (
	"errors"
	"fmt"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// TestStopIsNotAReload makes sure that clients of a program that embeds Caddy and stops it are told so, and not that settings have
// changed: nothing takes the place of the configuration.
func TestStopIsNotAReload(t *testing.T) {
	w, port := newWorld(t, 1), freeport.ForTest(t)
	c := func() *client.Client { return w.open(t, fmt.Sprintf("ws://127.0.0.1:%d/ws", port), 0) }
	ended := func(c *client.Client) *client.CloseError {
		<-c.Done()
		var ce *client.CloseError
		if !errors.As(c.Err(), &ce) {
			t.Fatal(c.Err())
		}
		return ce
	}
	mustLoad(t, w.site(port, 0, "drain_timeout 1s"))
	first := c()
	mustLoad(t, w.site(port, 0, "drain_timeout 2s"))
	if ce := ended(first); ce.Code != 1001 || ce.Text != "gateway settings changed, reconnect" {
		t.Errorf("reload: %v", ce)
	}
	second := c()
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	if ce := ended(second); ce.Code != 1001 || ce.Text != "gateway is shutting down, reconnect" {
		t.Errorf("stop: %v", ce)
	}
}
