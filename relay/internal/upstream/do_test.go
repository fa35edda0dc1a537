package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aviate-labs/agent-go/identity"
	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay/internal/pause"
	"github.com/icws-gateway/caddy-icws/verify"
)

// fakeNetwork answers requests by host.
type fakeNetwork struct {
	serve func(r *http.Request) (*http.Response, error)

	mu    sync.Mutex
	asked map[string]int
}

func (n *fakeNetwork) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	if n.asked == nil {
		n.asked = make(map[string]int)
	}
	n.asked[r.URL.Host]++
	n.mu.Unlock()
	return n.serve(r)
}

func (n *fakeNetwork) count(host string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[host]
}

// after answers with status once d is over.
func after(r *http.Request, d time.Duration, status int) (*http.Response, error) {
	if err := pause.Sleep(r.Context(), d); err != nil {
		return nil, err
	}
	return answering(status, "", "x"), nil
}

// answering is an answer with a cause in its header, if that is not empty.
func answering(status int, cause, body string) *http.Response {
	header := make(http.Header)
	if cause != "" {
		header.Set("X-Ic-Error-Cause", cause)
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body))}
}

// nothing is a recorder that counts nothing.
type nothing struct{}

func (nothing) Upstream(string, Endpoint, Outcome, time.Duration) {}
func (nothing) BudgetWait(time.Duration)                          {}
func (nothing) VerificationFailed(verify.Principal, verify.Cause) {}

func testNetwork(t testing.TB, n http.RoundTripper, rate float64, names ...string) *Network {
	t.Helper()
	id, err := identity.NewRandomEd25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Identity:  id,
		Rate:      rate,
		CallRate:  rate,
		Timeout:   10 * time.Second,
		Transport: n,
		Recorder:  nothing{},
		Log:       zap.NewNop,
		Spawn:     func(_ string, f, _ func()) { go f() },
	}
	for _, name := range names {
		o.Hosts = append(o.Hosts, &url.URL{Scheme: "https", Host: name})
	}
	network, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return network
}

func (n *Network) testQuery(ctx context.Context) error {
	a, err := n.do(ctx, &request{endpoint: EndpointQuery, canister: testPrincipal(1), class: ClassBusy, body: []byte("query"), timeout: n.timeout})
	a.Release()
	return err
}

// A host that hangs from the start gets one request to find that out, and not all of them because it has not been slow yet.
func TestHostThatHangsFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNetwork{serve: func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "hangs" {
				return after(r, time.Hour, 200)
			}
			return after(r, 100*time.Millisecond, 200)
		}}
		u := testNetwork(t, n, 1e6, "works", "hangs")
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { _ = u.testQuery(t.Context()) })
			time.Sleep(50 * time.Millisecond)
		}
		wg.Wait()
		if got := n.count("hangs"); got > 4 {
			t.Errorf("of 100 requests within 5 s, %d went to the host that hangs", got)
		}
	})
}

// While requests wait for upstream_rate, things change: what comes due then must not all go to the host that looked ready
// for a try before.
func TestWaitingRequestsDoNotRunIntoOneHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNetwork{serve: func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "down" {
				return after(r, 20*time.Millisecond, 502)
			}
			return after(r, 20*time.Millisecond, 200)
		}}
		u := testNetwork(t, n, 10, "down", "up")
		for range 4 { // both are known by now, and one is known to be down
			_ = u.testQuery(t.Context())
		}
		time.Sleep(5 * time.Second)
		before := n.count("down")
		u.reads.mu.Lock()
		u.reads.tokens, u.reads.filled = 0, time.Now()
		u.reads.mu.Unlock()
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() { _ = u.testQuery(t.Context()) })
		}
		wg.Wait()
		if got := n.count("down") - before; got > 12 {
			t.Errorf("of 200 requests that waited, %d went to a host that is down", got)
		}
	})
}

// A synchronous call takes as long as the canister does. That says nothing about the host.
func TestCallsDoNotMakeAHostLookSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNetwork{serve: func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/call") {
				return after(r, 9*time.Second, 200)
			}
			return after(r, 100*time.Millisecond, 200)
		}}
		u := testNetwork(t, n, 1e6, "a", "b")
		for range 20 {
			_ = u.testQuery(t.Context())
		}
		a, err := u.Call(t.Context(), testPrincipal(1), []byte("call"), nil, Stages{})
		if err != nil {
			t.Fatal(err)
		}
		a.Release()
		if got := picks(u.Hosts(), 1000); got["a"] < 300 || got["b"] < 300 {
			t.Errorf("after one call the hosts share as %v", got)
		}
	})
}

// A host that was slow once is asked again after a while.
func TestSlowHostIsMeasuredAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := true
		n := &fakeNetwork{serve: func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "a" && slow {
				return after(r, 3*time.Second, 200)
			}
			return after(r, 100*time.Millisecond, 200)
		}}
		u := testNetwork(t, n, 1e6, "a", "b")
		for range 20 {
			_ = u.testQuery(t.Context())
		}
		slow = false
		for range 6000 { // 10 minutes
			_ = u.testQuery(t.Context())
		}
		if got := picks(u.Hosts(), 1000); got["a"] < 300 {
			t.Errorf("10 minutes after it was slow the hosts share as %v", got)
		}
	})
}

// Requests that fail together are one failure of the host: it is tried again soon.
func TestOneBreakIsOneFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNetwork{serve: func(r *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return nil, errors.New("connection reset")
		}}
		u := testNetwork(t, n, 1e6, "a")
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { _ = u.testQuery(t.Context()) })
		}
		wg.Wait()
		if _, _, retryAt := u.Hosts()[0].stands(testPrincipal(1), time.Now()); time.Until(retryAt) > time.Second {
			t.Errorf("after 100 requests that broke together it is left alone for %s", time.Until(retryAt))
		}
	})
}
