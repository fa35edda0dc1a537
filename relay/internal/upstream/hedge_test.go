package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// timed is a network in which each host takes its own time; how long is asked for each request.
func timed(takes func(host string, r *http.Request) time.Duration) *fakeNetwork {
	return &fakeNetwork{serve: func(r *http.Request) (*http.Response, error) {
		if _, err := after(r, takes(r.URL.Host, r), 200); err != nil {
			return nil, err
		}
		return answering(200, "", r.URL.Host), nil
	}}
}

func isCall(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/call") }

// learn has every host answer often enough that what is usual is known.
func (n *Network) learn(t *testing.T) {
	t.Helper()
	for _, h := range n.Hosts() {
		for range fewAnswers {
			a, err := n.do(t.Context(), &request{endpoint: EndpointQuery, canister: testPrincipal(1), timeout: n.timeout, only: h})
			if err != nil {
				t.Fatal(err)
			}
			a.Release()
		}
	}
}

func TestRecentAnswers(t *testing.T) {
	var r recent
	for i := range fewAnswers - 1 {
		r.add(time.Duration(i))
	}
	if r.p95 != 0 {
		t.Errorf("after %d answers %s are said to be usual", r.count, r.p95)
	}
	for i := range 1000 {
		r.add(time.Duration(i%recentAnswers) * time.Millisecond)
	}
	if want := (recentAnswers - 2) * time.Millisecond; r.p95 != want {
		t.Errorf("of 32 answers that took 0 to 31 ms, %s are said to be usual, want %s", r.p95, want)
	}
	for range recentAnswers {
		r.add(time.Second)
	}
	if r.p95 != time.Second {
		t.Errorf("of answers that took a second each, %s are said to be usual", r.p95)
	}
}

// Where one host hangs, another answers soon. The request to the first is ended, which is no failure; but it is slow.
func TestHedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hang atomic.Bool
		n := timed(func(host string, r *http.Request) time.Duration {
			if hang.Load() && host == "a" {
				return time.Hour
			}
			return 30 * time.Millisecond
		})
		u := testNetwork(t, n, 1e6, "a", "b")
		u.learn(t)
		hang.Store(true)
		asked := n.count("a")
		for range 1000 {
			began := time.Now()
			a, err := u.do(t.Context(), &request{endpoint: EndpointQuery, canister: testPrincipal(1), timeout: u.timeout})
			if err != nil || a.Host.name != "b" || string(a.Body) != "b" || a.Alone {
				t.Fatalf("%v, %+v", err, a)
			}
			a.Release()
			if took := time.Since(began); took > hedgeMin+30*time.Millisecond {
				t.Fatalf("an answer took %s", took)
			}
		}
		if got := n.count("a") - asked; got > 5 {
			t.Errorf("of 1000 requests %d went to the host that hangs", got)
		}
		if s := u.Hosts()[0].State(); s.Failures > 0 || s.Latency < hedgeMin/2 {
			t.Errorf("the host that hangs: %+v", s)
		}
		hang.Store(false)
		time.Sleep(measureAge)
		for range 100 {
			_ = u.testQuery(t.Context())
		}
		if got := picks(u.Hosts(), 1000); got["a"] < 300 {
			t.Errorf("a while after it hung the hosts share as %v", got)
		}
	})
}

// A host that failed and hangs now is left alone for longer and longer, as if it went on failing.
func TestHedgedTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := timed(func(host string, r *http.Request) time.Duration {
			if host == "a" {
				return time.Hour
			}
			return 20 * time.Millisecond
		})
		u := testNetwork(t, n, 1e6, "a", "b")
		u.Hosts()[0].failed("HTTP 502", time.Now(), 0)
		for range 3000 { // 5 minutes
			_ = u.testQuery(t.Context())
			time.Sleep(80 * time.Millisecond)
		}
		if got := n.count("a"); got > 30 {
			t.Errorf("of 3000 requests %d went to the host that hangs", got)
		}
	})
}

// Hedges cost little: in the long run one for ten requests, and none that would take a token from those who wait.
func TestHedgesAreBounded(t *testing.T) {
	for name, rate := range map[string]float64{"enough tokens": 1e6, "few tokens": 20} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := timed(func(string, *http.Request) time.Duration {
					if rand.N(2) == 0 { // nobody can foresee it
						return 2 * time.Second
					}
					return 20 * time.Millisecond
				})
				u := testNetwork(t, n, rate, "a", "b", "c")
				for range fewAnswers * 3 { // some are fast, so that 100 ms would be usual
					for _, h := range u.Hosts() {
						h.answered(EndpointQuery, 20*time.Millisecond)
					}
				}
				const requests = 2000
				var wg sync.WaitGroup
				began := time.Now()
				for range requests {
					wg.Go(func() { _ = u.testQuery(t.Context()) })
					time.Sleep(10 * time.Millisecond)
				}
				wg.Wait()
				all := n.count("a") + n.count("b") + n.count("c")
				if extra := all - requests; extra > requests/10+hedgeStock || rate > 1000 && extra < 50 {
					t.Errorf("%d requests more than %d", extra, requests)
				}
				if most := time.Since(began).Seconds()*rate + 2; float64(all) > most {
					t.Errorf("%d requests, the rate allows %.0f", all, most)
				}
			})
		})
	}
}

// No second host is asked where it must not be.
func TestNoHedge(t *testing.T) {
	for name, shape := range map[string]func(u *Network, r *request){
		"the other is to be avoided": func(u *Network, r *request) { r.avoid = u.Hosts()[1] },
		"one host only":              func(u *Network, r *request) { r.only = u.Hosts()[0] },
		"the other is down":          func(u *Network, r *request) { u.Hosts()[1].failed("HTTP 502", time.Now(), time.Hour) },
		"the other is on trial": func(u *Network, r *request) {
			u.Hosts()[1].failed("HTTP 502", time.Now(), 0)
			time.Sleep(time.Second)
			u.Hosts()[1].begin(testPrincipal(1))
		},
		"it is not to go out any more": func(u *Network, r *request) {
			sent := false
			r.stages.MaySend = func() bool { sent, r.stages.MaySend = true, func() bool { return false }; return sent }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := timed(func(host string, r *http.Request) time.Duration {
					if host == "a" {
						return 1500 * time.Millisecond
					}
					return 20 * time.Millisecond
				})
				u := testNetwork(t, n, 1e6, "a", "b")
				u.Hosts()[1].answered(EndpointQuery, 20*time.Millisecond)
				u.Hosts()[0].answered(EndpointQuery, 20*time.Millisecond)
				for n.count("a") == 0 {
					r := &request{endpoint: EndpointQuery, canister: testPrincipal(1), timeout: u.timeout}
					shape(u, r)
					before := n.count("b")
					a, err := u.do(t.Context(), r)
					if err != nil {
						t.Fatal(err)
					}
					if n.count("a") > 0 && (a.Host.name != "a" || n.count("b") > before) {
						t.Errorf("%s answered, the other was asked %d times", a.Host.name, n.count("b")-before)
					}
					a.Release()
				}
			})
		})
	}
}

// A call takes as long as its canister does. It goes to a second host only if the first answers nothing else, or if it is late
// even for a replica that has waited for the outcome.
func TestHedgedCalls(t *testing.T) {
	for _, tt := range []struct {
		name  string
		takes time.Duration // the call, at the first host it comes to
		dead  bool          // which answers no queries either
		extra int           // requests at most, for 20 calls
		most  time.Duration
	}{
		{"a fast canister", time.Second, false, 0, time.Second},
		{"a slow canister", 9 * time.Second, false, 0, 9 * time.Second},
		{"a host that hangs", time.Hour, true, 3, 5 * time.Second},
		{"a host that hangs on calls", time.Hour, false, 3, callLate + 2*time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var first atomic.Value
				var calls atomic.Int64
				n := timed(func(host string, r *http.Request) time.Duration {
					if isCall(r) {
						calls.Add(1)
						first.CompareAndSwap(nil, host)
					}
					switch bad := first.Load() == host; {
					case bad && isCall(r):
						return tt.takes
					case bad && tt.dead:
						return time.Hour
					case isCall(r):
						return time.Second
					}
					return 20 * time.Millisecond
				})
				u := testNetwork(t, n, 1e6, "a", "b")
				u.learn(t)
				ctx, cancel := context.WithCancel(t.Context())
				var polls sync.WaitGroup
				polls.Go(func() {
					for ctx.Err() == nil {
						polls.Go(func() { _ = u.testQuery(ctx) })
						time.Sleep(200 * time.Millisecond)
					}
				})
				for i := range 20 {
					began := time.Now()
					a, err := u.Call(t.Context(), testPrincipal(1), []byte("call"), nil, Stages{})
					if err != nil {
						t.Fatal(err)
					}
					if took := time.Since(began); took > tt.most {
						t.Errorf("call %d took %s", i, took)
					}
					a.Release()
				}
				if extra := int(calls.Load()) - 20; extra > tt.extra {
					t.Errorf("%d requests more than 20", extra)
				}
				cancel()
				polls.Wait()
			})
		})
	}
}

// Whatever two hosts do, a request ends with the answer of one, or fails when all have failed; and it says who was alone.
func TestHedgeAtRandom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNetwork{serve: func(r *http.Request) (*http.Response, error) {
			if _, err := after(r, time.Duration(rand.N(400))*time.Millisecond, 200); err != nil {
				return nil, err
			}
			switch rand.N(6) {
			case 0:
				return nil, errors.New("connection reset")
			case 1:
				return answering(503, "", ""), nil
			case 2:
				return answering(400, "canister_not_found", ""), nil
			case 3:
				return answering(404, "", ""), nil
			}
			return answering(200, "", r.URL.Host), nil
		}}
		u := testNetwork(t, n, 1e6, "a", "b", "c")
		var failed, refused, answered int
		for i := range 3000 {
			var ctx context.Context
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.N(3000))*time.Millisecond)
			e := []Endpoint{EndpointQuery, EndpointReadState, EndpointCall}[i%3]
			a, err := u.do(ctx, &request{endpoint: e, canister: testPrincipal(1), timeout: time.Second})
			cancel()
			var ue *Error
			switch {
			case err == nil && string(a.Body) != a.Host.name:
				t.Fatalf("%s answers %q", a.Host.name, a.Body)
			case err == nil:
				answered++
			case errors.As(err, &ue) && !ue.Transient():
				refused++
			case errors.As(err, &ue):
				failed++
			case !errors.Is(err, context.DeadlineExceeded):
				t.Fatal(err)
			}
			a.Release()
			time.Sleep(50 * time.Millisecond)
		}
		if failed < 20 || refused < 100 || answered < 500 {
			t.Error(fmt.Sprint(failed, " failed, ", refused, " were refused and ", answered, " answered"))
		}
	})
}
