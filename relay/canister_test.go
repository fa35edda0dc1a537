package relay

import (
	"net/url"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/relay/internal/queue"
	"github.com/icws-gateway/caddy-icws/verify"
)

// loneCanister is a canister whose poller does not run.
func loneCanister(t *testing.T) *canister {
	t.Helper()
	id, err := identity.NewRandomEd25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	g, err := New(Config{Hosts: []*url.URL{{Scheme: "http", Host: "network.test"}}, FetchRootKey: true, Identity: id})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return newCanister(g, testPrincipal(1))
}

// join registers a session of the client with this nonce.
func (c *canister) join(t *testing.T, nonce uint64) *session {
	t.Helper()
	s := benchSession(t, c.g)
	s.canister, s.state, s.key = c, stateOpening, verify.ClientKey{Principal: testPrincipal(2), Nonce: nonce}
	s.place = c.g.turns.place()
	if refused, _ := c.add(s, 0, false); refused != nil {
		t.Fatal(refused.text)
	}
	return s
}

// reason is why the session ended, and false if it has not.
func (s *session) reason() (CloseReason, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing == nil {
		return 0, false
	}
	return s.closing.reason, true
}

// Of two sessions of one principal the canister knows the one that it opened last, also where the poller sees that one's first
// message first, because it reads a part of the queue again.
func TestLatestSessionOfAPrincipal(t *testing.T) {
	for _, order := range [][]int{{0, 1}, {1, 0}} {
		c := loneCanister(t)
		both := []*session{c.join(t, 1), c.join(t, 2)}
		for _, i := range order {
			stamp := uint64(1000 + i)
			if first, _ := both[i].expect(1, stamp); first {
				c.opened(both[i], stamp)
			}
		}
		if why, ended := both[0].reason(); !ended || why != Superseded {
			t.Errorf("first messages in order %v: the older session has ended: %t, %s", order, ended, why)
		}
		if why, ended := both[1].reason(); ended {
			t.Errorf("first messages in order %v: the newer session ended, %s", order, why)
		}
	}
}

// A ws_open may have been executed before an upgrade that is known before its outcome is.
func TestAcceptedBeforeARestart(t *testing.T) {
	c := loneCanister(t)
	page := func(nonce, stamp uint64) *queue.Answer {
		return &queue.Answer{Question: &queue.Question{}, Nonce: nonce,
			Page: &verify.Page{Time: time.Now(), Messages: []verify.PageMessage{{Nonce: nonce, Timestamp: stamp}}}}
	}
	c.queue.Step(time.Now(), page(0, 1000))
	if d := c.queue.Step(time.Now(), page(0, 5000)); d.Do != queue.Restart {
		t.Fatalf("a younger message at the same nonce: %+v", d)
	}
	before, after := c.join(t, 1), c.join(t, 2)
	c.accepted(before, time.Unix(0, 900))
	c.accepted(after, time.Unix(0, 6000))
	if why, ended := before.reason(); !ended || why != Forgotten {
		t.Errorf("accepted before the restart: ended %t, %s", ended, why)
	}
	if why, ended := after.reason(); ended {
		t.Errorf("accepted after the restart: ended, %s", why)
	}
}
