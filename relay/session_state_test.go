package relay

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/verify"
)

// A frame can be read just before its session ends and be checked just after: before any ws_open there is no canister to
// compare it with.
func TestFrameOfAnEndedSession(t *testing.T) {
	id, err := identity.NewRandomEd25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	r := verify.Request{Type: verify.RequestCall, Canister: testPrincipal(1), Method: methodMessage, Arg: []byte("DIDL\x00\x00"),
		Nonce: []byte("nonce"), IngressExpiry: time.Now().Add(4 * time.Minute)}
	envelope, _, err := r.Sign(id)
	if err != nil {
		t.Fatal(err)
	}
	want := newClosing(OpenTimeout, "")
	s := &session{g: &Gateway{}, policy: &Policy{}, state: stateEnded, closing: want}
	if e, c := s.checkFrame(verify.AppendClientFrame(nil, envelope)); e != nil || c != want {
		t.Errorf("got %v and %v, want the reason why the session ended", e, c)
	}
}

// What is remembered of a client's signs of life is how long the session had lasted then, which steps of the wall clock do not
// change.
func TestSignsOfLifeHaveNoWallClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Gateway{}
		g.cfg.SetDefaults()
		s := &session{g: g, started: time.Now()}
		s.out.writing = true // nothing is to be written here
		time.Sleep(time.Minute)
		s.seen()
		if got := time.Duration(s.lastSeen.Load()); got != time.Minute {
			t.Errorf("seen after a minute, remembered as %s", got)
		}
		const every = time.Second
		var silence time.Duration
		for !s.out.ping && silence < time.Hour {
			time.Sleep(every)
			silence += every
			s.checkAlive(time.Now(), every)
		}
		if got := time.Duration(s.pinged.Load()); silence != DefaultPingInterval || got != time.Minute+silence {
			t.Errorf("pinged after %s of silence, remembered as %s", silence, got)
		}
	})
}
