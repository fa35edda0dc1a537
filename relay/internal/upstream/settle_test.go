package upstream

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// testAsk sends one query for canister and settles the answer, if there is one.
func (n *Network) testAsk(t *testing.T, canister verify.Principal, settle func(*Answer)) {
	t.Helper()
	a, err := n.do(t.Context(), &request{endpoint: EndpointQuery, canister: canister, class: ClassBusy, timeout: time.Second})
	if err == nil {
		settle(a)
		a.Release()
	}
}

// A host whose answers do not hold is left alone for as long as one that gives none, however well its answers come.
func TestBadAnswersAreFailures(t *testing.T) {
	asked := func(does string, settle func(*Answer)) (n int) {
		synctest.Test(t, func(t *testing.T) {
			net := doing(map[string]string{"a": does, "b": "ok"})
			u := testNetwork(t, net, 1e6, "a", "b")
			for i := range 3000 { // 10 minutes
				u.testAsk(t, testPrincipal(byte(i%3)), func(a *Answer) {
					if a.Host.name == "a" {
						settle(a)
					} else {
						a.Good()
					}
				})
				time.Sleep(180 * time.Millisecond)
			}
			n = net.count("a")
		})
		return n
	}
	neither := func(*Answer) {}
	failing := asked("trouble", neither)
	if failing < 10 || failing > 60 {
		t.Fatalf("a host that answers 502 was asked %d times", failing)
	}
	turns := 0
	for name, settle := range map[string]func(*Answer){
		"bad": func(a *Answer) { a.Bad(errors.New("garbage")) },
		"bad, then good": func(a *Answer) {
			a.Bad(errors.New("garbage"))
			a.Good()
		},
		"bad and neither in turns": func(a *Answer) {
			if turns++; turns%2 == 1 {
				a.Bad(errors.New("garbage"))
			}
		},
	} {
		if got := asked("ok", settle); got > 2*failing {
			t.Errorf("%s: asked %d times, one that answers 502 %d times", name, got, failing)
		}
	}
	if got := asked("ok", (*Answer).Good); got < 500 {
		t.Errorf("good: asked %d times of 3000", got)
	}
	if got := asked("ok", neither); got < 500 {
		t.Errorf("neither good nor bad: asked %d times of 3000", got)
	}
}

// A host that was bad and is good again is used as before.
func TestHostThatIsGoodAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := testNetwork(t, doing(map[string]string{"a": "ok", "b": "ok"}), 1e6, "a", "b")
		a := u.Hosts()[0]
		for range 5 {
			a.bad(testPrincipal(1), "garbage", time.Now())
			a.bad(testPrincipal(2), "garbage", time.Now())
		}
		for range 200 {
			u.testAsk(t, testPrincipal(1), (*Answer).Good)
			time.Sleep(time.Second)
		}
		if got := picks(u.Hosts(), 1000); got["a"] < 300 || a.State().Failures > 0 || a.State().LastError != "" {
			t.Errorf("the hosts share as %v, and %+v", got, a.State())
		}
	})
}

// What is bad for one canister may be the canister's doing: others are asked as before. What is bad for two is the host's.
func TestBadAnswersOfOneCanister(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := testNetwork(t, doing(map[string]string{"a": "ok", "b": "ok"}), 1e6, "a", "b")
		garbage, other, honest := testPrincipal(1), testPrincipal(2), testPrincipal(3)
		stands := func(h *Host, canister verify.Principal) standing {
			s, _, _ := h.stands(canister, time.Now())
			return s
		}
		for range 10 {
			u.testAsk(t, honest, (*Answer).Good) // both are measured
		}
		for range 20 {
			u.testAsk(t, garbage, func(a *Answer) { a.Bad(errors.New("garbage")) })
		}
		for _, h := range u.Hosts() {
			if stands(h, garbage) != down || stands(h, honest) != up {
				t.Errorf("%s stands at %d for the canister, at %d for another, want down and up", h.name, stands(h, garbage), stands(h, honest))
			}
			h.bad(other, "garbage", time.Now())
			if stands(h, honest) != down {
				t.Errorf("%s is not down for others after two canisters had bad answers", h.name)
			}
			h.good()
			if stands(h, honest) != up || stands(h, garbage) != up {
				t.Errorf("%s is down after a good answer", h.name)
			}
			h.bad(garbage, "garbage", time.Now())
			h.failed("HTTP 502", time.Now(), 0)
			if stands(h, honest) != down {
				t.Errorf("%s gives no answer and is not down for all", h.name)
			}
		}
	})
}

// A refusal counts against a host once another has answered well.
func TestContradictedRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := testNetwork(t, doing(map[string]string{"a": "refuses", "b": "ok"}), 1e6, "a", "b")
		a, b := u.Hosts()[0], u.Hosts()[1]
		_, err := u.do(t.Context(), &request{endpoint: EndpointQuery, canister: testPrincipal(1), timeout: time.Second, avoid: b})
		var ue *Error
		if !errors.As(err, &ue) || a.State().Failures != 0 {
			t.Fatalf("%v, %+v", err, a.State())
		}
		ue.Contradicted(a)
		if a.State().Failures != 0 {
			t.Error("it contradicts itself")
		}
		ue.Contradicted(b)
		if s := a.State(); s.Failures != 1 || !strings.Contains(s.LastError, "refuses what b answers") {
			t.Errorf("%+v", s)
		}
	})
}
