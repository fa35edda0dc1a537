package relay_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
)

// Polls that hang, as those do that reach a slow node, must not hold up what other polls can bring: there are only so many
// that overlap, and all of them may hang at once.
func TestHangingPollsHoldUpNobody(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		c := r.open()
		r.echo(c, "calm")
		var polls atomic.Int64
		r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
			if q.Endpoint == "query" && polls.Add(1) <= 8 {
				f.Delay = 9 * time.Second // less than the gateway waits for an answer
			}
			return f
		})
		time.Sleep(time.Second) // now they hang, as many as may be under way
		began := time.Now()
		r.echo(c, "while they hang")
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("the echo took %s", took)
		}
		if n := polls.Load(); n > 60 {
			t.Errorf("%d polls in %s", n, time.Since(began))
		}
	})
}

// countedPolls counts the polls under way where they are: from the moment a poll reaches the network to its return.
type countedPolls struct {
	http.RoundTripper
	now, most atomic.Int64
}

func (c *countedPolls) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/query") {
		n := c.now.Add(1)
		defer c.now.Add(-1)
		for m := c.most.Load(); n > m && !c.most.CompareAndSwap(m, n); m = c.most.Load() {
		}
	}
	return c.RoundTripper.RoundTrip(r)
}

// When everything hangs, the number of polls under way stays bounded.
func TestHangingPollsAreBounded(t *testing.T) {
	polls := &countedPolls{}
	inBubble(t, rigOptions{config: func(c *relay.Config) {
		polls.RoundTripper, c.Transport = c.Transport, polls
	}}, func(t *testing.T, r *rig) {
		c := r.open()
		r.echo(c, "calm")
		r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
			if q.Endpoint == "query" {
				f.Delay = 9 * time.Second
			}
			return f
		})
		time.Sleep(30 * time.Second)
		r.network.SetFaults(nil)
		if n := polls.most.Load(); n > 16 || n < 2 {
			t.Errorf("%d polls under way at once", n)
		}
		time.Sleep(10 * time.Second)
		r.echo(c, "calm again")
		if err := c.Err(); err != nil {
			t.Errorf("the session did not survive: %v", err)
		}
	})
}
