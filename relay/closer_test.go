package relay

import (
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/verify"
)

// hanging is a network that never answers.
type hanging struct{ underway atomic.Int64 }

func (h *hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	h.underway.Add(1)
	defer h.underway.Add(-1)
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// gatewayOver is a gateway on a network of one host.
func gatewayOver(t *testing.T, network http.RoundTripper) *Gateway {
	t.Helper()
	id, err := identity.NewRandomEd25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	g, err := New(Config{
		Hosts:            []*url.URL{{Scheme: "https", Host: "a"}},
		RootKey:          verify.MainnetRootKey(),
		Identity:         id,
		UpstreamCallRate: 1e6,
		Transport:        network,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

func leaverKey(n uint64) verify.ClientKey {
	p, err := verify.PrincipalFromBytes([]byte{byte(n), byte(n >> 8), byte(n >> 16), 1})
	if err != nil {
		panic(err)
	}
	return verify.ClientKey{Principal: p, Nonce: n}
}

// A canister has so many ws_close under way, and each canister has its own. A drain that begins while many wait has as many
// under way as may be, not only those that are queued later.
func TestDrainHurriesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &hanging{}
		g := gatewayOver(t, network)
		for n := range uint64(1000) {
			g.turns.leave(testPrincipal(1), leaverKey(n))
		}
		synctest.Wait()
		if n := network.underway.Load(); n != closeWorkers {
			t.Errorf("%d calls are under way, want %d", n, closeWorkers)
		}
		g.turns.leave(testPrincipal(3), leaverKey(0))
		synctest.Wait()
		if n := network.underway.Load(); n != closeWorkers+1 {
			t.Errorf("with that of another canister %d calls are under way, want %d", n, closeWorkers+1)
		}
		g.closer.startDrain()
		synctest.Wait()
		if n := network.underway.Load(); n != drainWorkers+1 {
			t.Errorf("while draining %d calls are under way, want %d", n, drainWorkers+1)
		}
	})
}

// A canister that fails is asked by one call at a time, with pauses, and everything that waits for it is given up in the end.
func TestCloserOfACanisterThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int64
		g := gatewayOver(t, tripper(func(r *http.Request) (*http.Response, error) {
			requests.Add(1)
			return answers{http.StatusBadGateway, "", ""}.RoundTrip(r)
		}))
		for n := range uint64(1000) {
			g.turns.leave(testPrincipal(1), leaverKey(n))
		}
		time.Sleep(closePatience + time.Minute)
		if n := requests.Load(); n > 150 {
			t.Errorf("%d requests to a canister that fails", n)
		}
		if _, left := g.closer.wait(t.Context()); left != 0 {
			t.Errorf("%d calls are left", left)
		}
		if n := len(g.closer.lanes); n != 0 {
			t.Errorf("%d lanes are left", n)
		}
	})
}

type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A client key is told once, and not at all once it is known that the canister does not have it. A call that is under way is not
// repeated then.
func TestCloserForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int64
		g := gatewayOver(t, tripper(func(r *http.Request) (*http.Response, error) {
			requests.Add(1)
			return answers{http.StatusBadGateway, "", ""}.RoundTrip(r)
		}))
		for range 2 {
			for n := range uint64(100) {
				g.turns.leave(testPrincipal(1), leaverKey(n))
			}
		}
		if g.closer.left != 100 {
			t.Errorf("%d calls for 100 clients", g.closer.left)
		}
		synctest.Wait()
		before := requests.Load()
		for n := range uint64(100) {
			g.closer.forget(testPrincipal(1), leaverKey(n))
		}
		if _, left := g.closer.wait(t.Context()); left != 0 {
			t.Errorf("%d calls are left", left)
		}
		if n := requests.Load() - before; n > 1 {
			t.Errorf("%d requests for clients that the canister does not have", n)
		}
	})
}

// Whoever fills the queue drops its own calls.
func TestCloserIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gatewayOver(t, &hanging{})
		for n := range uint64(100) {
			g.turns.leave(testPrincipal(3), leaverKey(n))
		}
		for n := range uint64(maxCloses + 1000) {
			g.turns.leave(testPrincipal(1), leaverKey(n))
		}
		g.closer.mu.Lock()
		defer g.closer.mu.Unlock()
		if n := g.closer.waiting; n != maxCloses {
			t.Errorf("%d calls wait, want %d", n, maxCloses)
		}
		if n := len(g.closer.lanes[testPrincipal(3)].calls); n != 100 {
			t.Errorf("%d calls to the other canister, want all 100", n)
		}
		loud := g.closer.lanes[testPrincipal(1)]
		if n := len(loud.calls); n != len(loud.waiting)+loud.workers {
			t.Errorf("%d calls are remembered, %d wait and %d are under way", n, len(loud.waiting), loud.workers)
		}
	})
}
