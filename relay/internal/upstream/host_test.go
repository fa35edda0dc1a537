package upstream

import (
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"
)

func testHosts(names ...string) Hosts {
	var hs Hosts
	for _, n := range names {
		hs = append(hs, newHost(&url.URL{Scheme: "https", Host: n}))
	}
	return hs
}

// picks counts how often each host is chosen in n picks.
func picks(hs Hosts, n int) map[string]int {
	count := make(map[string]int)
	for range n {
		count[hs.pick(testPrincipal(1), nil, false).name]++
	}
	return count
}

func TestHostsShareTheLoad(t *testing.T) {
	hs := testHosts("a", "b", "c")
	hs[0].answered(EndpointQuery, 100*time.Millisecond)
	hs[1].answered(EndpointQuery, 120*time.Millisecond)
	hs[2].answered(EndpointQuery, 900*time.Millisecond)
	got := picks(hs, 1000)
	if got["a"] < 300 || got["b"] < 300 || got["c"] != 0 {
		t.Errorf("picks %v, want the two fast ones about equally and the slow one never", got)
	}
}

func TestHostsFailOverAndRecover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hs := testHosts("a", "b")
		hs[0].failed("boom", time.Now(), 0)
		if got := picks(hs, 50); got["a"] != 0 {
			t.Errorf("a host that just failed was chosen: %v", got)
		}
		if h := hs.pick(testPrincipal(1), []*Host{hs[1]}, false); h != hs[0] {
			t.Error("with nothing else left, the failed host is better than none")
		}
		if h := hs.pick(testPrincipal(1), hs, false); h != nil {
			t.Errorf("all were tried, yet %s was chosen", h.name)
		}
		time.Sleep(time.Second)
		if got := picks(hs, 200); got["a"] == 0 {
			t.Error("after its pause the host is not tried again")
		}
		hs[0].begin(testPrincipal(1)) // somebody probes it
		if got := picks(hs, 50); got["a"] != 0 {
			t.Errorf("a second request went to a host that is being probed: %v", got)
		}
		hs[0].answered(EndpointQuery, time.Millisecond)
		if got := picks(hs, 200); got["a"] == 0 {
			t.Error("the recovered host is not used")
		}
	})
}

func TestHostHonoursRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHosts("a")[0]
		h.failed("HTTP 429", time.Now(), 8*time.Second)
		time.Sleep(7 * time.Second)
		if s, _, _ := h.stands(testPrincipal(1), time.Now()); s != down {
			t.Error("ready before the time it asked for")
		}
		time.Sleep(2 * time.Second)
		if s, _, _ := h.stands(testPrincipal(1), time.Now()); s != onTrial {
			t.Error("not ready after the time it asked for")
		}
	})
}

// A host that is to be avoided and is not listed any more is none of those that have been tried.
func TestAvoidingAHostThatHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNetwork{serve: func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "a" {
				return answering(503, "", ""), nil
			}
			return answering(200, "", ""), nil
		}}
		u := testNetwork(t, n, 1e6, "a", "b")
		gone := newHost(&url.URL{Scheme: "https", Host: "gone"})
		for range 50 {
			a, err := u.do(t.Context(), &request{endpoint: EndpointQuery, canister: testPrincipal(1), class: ClassBusy, timeout: time.Second, avoid: gone})
			if err != nil {
				t.Fatal(err)
			}
			a.Release()
			time.Sleep(time.Minute)
		}
	})
}
