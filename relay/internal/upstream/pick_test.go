package upstream

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A host on which calls hang is as fast as ever with other requests. The calls go to the other one, however slow that is.
func TestCallsGoToASlowHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hs := testHosts("fast", "slow")
		hs[0].answered(EndpointQuery, 5*time.Millisecond)
		hs[1].answered(EndpointQuery, 900*time.Millisecond)
		hs[0].hungOnCall()
		for range 50 {
			if h := hs.pick(testPrincipal(1), nil, true); h != hs[1] {
				t.Fatalf("a call goes to %s", h.name)
			}
			if h := hs.pick(testPrincipal(1), nil, false); h != hs[0] {
				t.Fatalf("a query goes to %s", h.name)
			}
		}
		time.Sleep(noCallsAge)
		hs[0].answered(EndpointQuery, 5*time.Millisecond)
		hs[1].answered(EndpointQuery, 900*time.Millisecond)
		if h := hs.pick(testPrincipal(1), nil, true); h != hs[0] {
			t.Errorf("after %s a call goes to %s", noCallsAge, h.name)
		}
	})
}

// Whatever state three hosts are in and whichever were tried, each request gets a host that was not, if there is one.
func TestPickInAllStates(t *testing.T) {
	states := map[string]func(*Host){
		"never asked": func(*Host) {},
		"fast":        func(h *Host) { h.answered(EndpointQuery, time.Millisecond) },
		"slow":        func(h *Host) { h.answered(EndpointQuery, 5*time.Second) },
		"being tried": func(h *Host) { h.begin(testPrincipal(1)) },
		"failed":      func(h *Host) { h.failed("boom", time.Now(), time.Minute) },
		"fast, calls hang": func(h *Host) {
			h.answered(EndpointQuery, time.Millisecond)
			h.hungOnCall()
		},
		"slow, calls hang": func(h *Host) {
			h.answered(EndpointQuery, 5*time.Second)
			h.hungOnCall()
		},
		"measured long ago": func(h *Host) {
			h.answered(EndpointQuery, time.Millisecond)
			h.mu.Lock()
			h.measured = h.measured.Add(-time.Hour)
			h.mu.Unlock()
		},
	}
	synctest.Test(t, func(t *testing.T) {
		for a, first := range states {
			for b, second := range states {
				for c, third := range states {
					hs := testHosts("a", "b", "c")
					first(hs[0])
					second(hs[1])
					third(hs[2])
					for tried := range 1 << len(hs) {
						var done []*Host
						for i, h := range hs {
							if tried>>i&1 == 1 {
								done = append(done, h)
							}
						}
						for _, call := range []bool{false, true} {
							h := hs.pick(testPrincipal(1), done, call)
							if (h == nil) != (len(done) == len(hs)) || slices.Contains(done, h) {
								t.Fatalf("hosts %q, call %t: of those other than %s it is %v", fmt.Sprint(a, "; ", b, "; ", c), call, names(done), h)
							}
						}
					}
				}
			}
		}
	})
}

func names(hs []*Host) (all []string) {
	for _, h := range hs {
		all = append(all, h.name)
	}
	return all
}
