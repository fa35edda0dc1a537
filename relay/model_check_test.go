package relay_test

import (
	"strings"

	"github.com/icws-gateway/caddy-icws/relay/client"
)

// check compares all sessions with the model. At the end nothing may be under way any more.
func (m *model) check(final bool) {
	for _, c := range append([]*modelClient(nil), m.clients...) {
		select {
		case <-c.Done():
			m.judge(c)
			m.drop(c)
		default:
			m.compare(c, final)
		}
	}
}

// judge holds the end of a session against the events.
func (m *model) judge(c *modelClient) {
	ce := closeOf(m.t, c.Client)
	switch {
	case c.left:
	case c.upgrades < m.upgrades && ce.Code == 1012:
	case !c.dismiss.IsZero() && ce.Code == client.CodeByApplication:
	case !c.dismiss.IsZero() && m.deaf.After(c.dismiss) && ce.Code == 1012: // a message was refused, and nobody could read why
	case c.paused && ce.Code == 1013 && strings.Contains(ce.Text, "canister is stop"):
	case (c.paused || c.stalled) && ce.Code == 4000 && strings.Contains(ce.Error(), "KeepAliveTimeout"):
	case c.replaced && ce.Code == 1008:
	case c.replaced && c.outrun && ce.Code == 1012 && strings.Contains(ce.Text, "no longer knows"):
	case c.stalled && (ce.Code == 1012 || ce.Code == 1006 || ce.Code == 1013):
	case c.stalled && (!c.dismiss.IsZero() || c.paused) && ce.Code == 1000: // its canister closed it, and it did not read that in time
	case c.missing && ce.Code == 1011 && strings.Contains(ce.Text, "missing"):
	default:
		for _, at := range m.r.cdk.Clients() {
			if at.Key.Principal == c.Key().Principal {
				m.note("the canister has %s with nonce %d, which had %d", c.name(), at.Key.Nonce, c.Key().Nonce)
			}
		}
		m.t.Errorf("step %d: %s ended with %v, and nothing in the events explains that (dismissed %s, paused %t, replaced %t, stalled %t, missing %t)",
			m.counter, c.name(), ce, c.dismiss, c.paused, c.replaced, c.stalled, c.missing)
	}
}

// compare holds what a client and the canister saw of each other against what was sent.
func (m *model) compare(c *modelClient, final bool) {
	sent, arrived := c.history.seen()
	c.mu.Lock()
	defer c.mu.Unlock()
	m.prefix("client", c.got, sent, final)
	m.prefix("canister", arrived, c.sent, final)
}

func (m *model) prefix(who string, got, want []string, whole bool) {
	m.t.Helper()
	for i, g := range got {
		if i >= len(want) || g != want[i] {
			m.t.Errorf("step %d: %s got %q as number %d, which is not what was sent", m.counter, who, g, i)
			return
		}
	}
	if whole && len(got) != len(want) {
		m.t.Errorf("at the end the %s has %d of %d messages", who, len(got), len(want))
	}
}
