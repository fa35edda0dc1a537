package relay

import (
	"testing"
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
