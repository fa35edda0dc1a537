package caddymodule

import (
	"testing"

	"github.com/icws-gateway/caddy-icws/relay"
)

// TestLimitsAboveAll makes sure that a limit above max_sessions counts as that. TestMistakes has the warning.
func TestLimitsAboveAll(t *testing.T) {
	p := (&HandlerSettings{MaxSessions: 10, MaxSessionsPerIP: 11, MaxSessionsPerCanister: 12}).policy(nil, true)
	if p.MaxSessions != 10 || p.MaxSessionsPerIP != 10 || p.MaxSessionsPerCanister != 10 {
		t.Errorf("%+v", p)
	}
	p = (&HandlerSettings{MaxSessionsPerIP: 50000}).policy(nil, true)
	if p.MaxSessionsPerIP != relay.DefaultMaxSessions {
		t.Errorf("%+v", p)
	}
}
