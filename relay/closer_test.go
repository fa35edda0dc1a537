package relay

import (
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/icws-gateway/caddy-icws/verify"
)

// A drain that begins while many ws_close wait has as many of them under way as may be, not only those that are queued later.
func TestDrainHurriesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gatewayAnswered(t, http.StatusBadGateway, "", "")
		workers := func() int {
			synctest.Wait()
			g.closer.mu.Lock()
			defer g.closer.mu.Unlock()
			return g.closer.workers
		}
		for n := range uint64(1000) {
			g.closer.add(testPrincipal(1), verify.ClientKey{Principal: testPrincipal(2), Nonce: n})
		}
		if n := workers(); n != closeWorkers {
			t.Errorf("%d calls are under way, want %d", n, closeWorkers)
		}
		g.closer.hurry()
		if n := workers(); n != drainWorkers {
			t.Errorf("while draining %d calls are under way, want %d", n, drainWorkers)
		}
	})
}
