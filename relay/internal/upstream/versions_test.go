package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// servingVersions is a network whose hosts serve the versions listed for each, as "call4 query3"; the rest gets status.
func servingVersions(status int, hosts map[string]string) *fakeNetwork {
	return &fakeNetwork{serve: func(r *http.Request) (*http.Response, error) {
		part := strings.Split(r.URL.Path, "/") // "", api, v3, canister, <id>, query
		if strings.Contains(" "+hosts[r.URL.Host]+" ", " "+part[5]+part[2][1:]+" ") {
			return after(r, time.Millisecond, 200)
		}
		return after(r, time.Millisecond, status)
	}}
}

// reach sends one request of e and returns the version that answered it, 0 if there is none.
func (n *Network) reach(t *testing.T, e Endpoint) int {
	t.Helper()
	a, err := n.do(t.Context(), &request{endpoint: e, canister: testPrincipal(1), class: ClassCall, timeout: time.Second})
	if err != nil {
		var ue *Error
		if !errors.As(err, &ue) || ue.Means != NoEndpoint {
			t.Errorf("%s: %v", e, err)
		}
		return 0
	}
	defer a.Release()
	return a.version
}

// testReadState sends one request to read state, for these versions of the endpoint; nil = any.
func (n *Network) testReadState(ctx context.Context, versions []int) error {
	a, err := n.do(ctx, &request{endpoint: EndpointReadState, canister: testPrincipal(1), class: ClassCall, timeout: time.Second, versions: versions})
	a.Release()
	return err
}

// A host is asked for the best version that it serves, and for a while for no other.
func TestVersionsFallBackAndReturn(t *testing.T) {
	for _, status := range []int{404, 405, 410} {
		for _, tt := range []struct {
			serves string
			e      Endpoint
			want   int
			first  int // requests of the first one
		}{
			{"call4 call3 call2", EndpointCall, 4, 1},
			{"call3 call2", EndpointCall, 3, 2},
			{"call2", EndpointCall, 0, 2}, // see call
			{"query2 query3", EndpointQuery, 2, 1},
			{"query3", EndpointQuery, 3, 2},
			{"read_state3 query2", EndpointReadState, 3, 2},
			{"query2", EndpointReadState, 0, 2},
		} {
			t.Run(fmt.Sprint(status, " ", tt.serves, " ", tt.e), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					hosts := map[string]string{"a": tt.serves}
					n := servingVersions(status, hosts)
					u := testNetwork(t, n, 1e6, "a")
					asked := func(want, requests int) {
						t.Helper()
						before := n.count("a")
						if got := u.reach(t, tt.e); got != want || n.count("a")-before != requests {
							t.Errorf("version %d answers after %d requests, want %d after %d", got, n.count("a")-before, want, requests)
						}
					}
					asked(tt.want, tt.first)
					if tt.want == 0 {
						asked(0, tt.first) // nothing is served there for now, which says nothing about versions
						return
					}
					asked(tt.want, 1)
					time.Sleep(detourAge + time.Second)
					asked(tt.want, tt.first)
					best := versions[tt.e][0]
					hosts["a"] = fmt.Sprint(tt.e, best)
					if tt.want != best {
						asked(best, 2) // what worked is gone, the others are tried
					}
					asked(best, 1)
				})
			})
		}
	}
}

// A host that lacks a version does its work with another, and that is nothing against it.
func TestHostsOfTwoGenerations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := testNetwork(t, servingVersions(404, map[string]string{"old": "query2 call3", "new": "query3 call4"}), 1e6, "old", "new")
		got := make(map[string]int)
		for range 400 {
			for _, e := range []Endpoint{EndpointQuery, EndpointCall} {
				a, err := u.do(t.Context(), &request{endpoint: e, canister: testPrincipal(1), class: ClassCall, timeout: time.Second})
				if err != nil {
					t.Fatal(err)
				}
				got[fmt.Sprint(a.Host.name, " ", e, a.version)]++
				a.Release()
			}
		}
		for _, way := range []string{"old query2", "old call3", "new query3", "new call4"} {
			if got[way] < 50 {
				t.Errorf("the ways of 400 requests of each kind are %v", got)
				break
			}
		}
	})
}

// That no host serves an endpoint is said only if all say so: one that is down may serve it.
func TestNobodyServesOnlyIfAllSaySo(t *testing.T) {
	for _, last := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			n := &fakeNetwork{serve: func(r *http.Request) (*http.Response, error) {
				if r.URL.Host == "a" {
					return after(r, 0, 404)
				}
				return after(r, 0, 503)
			}}
			u := testNetwork(t, n, 1e6, "a", "b")
			u.Hosts()[last].failed("boom", time.Now(), 0) // so that it is asked last
			err := u.testReadState(t.Context(), flatReadState)
			var ue *Error
			if !errors.As(err, &ue) || ue.Means == NoEndpoint || n.count("a") != 1 || n.count("b") != 1 {
				t.Errorf("while a host is down, %s asked last: %v", u.Hosts()[last].name, err)
			}
		})
	}
}

// Where only one version will do, a host without it is nothing the worse for that.
func TestHostWithoutTheOnlyVersionWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := testNetwork(t, servingVersions(404, map[string]string{"a": "read_state3"}), 1e6, "a")
		if got := u.reach(t, EndpointReadState); got != 3 {
			t.Fatalf("version %d", got)
		}
		if err := u.testReadState(t.Context(), flatReadState); err == nil {
			t.Fatal("version 2 answers")
		}
		if s, _, _ := u.Hosts()[0].stands(testPrincipal(1), time.Now()); s == down {
			t.Error("the host is left alone now")
		}
		if got := u.Hosts()[0].order(EndpointReadState, time.Now()); got[0] != 3 {
			t.Errorf("it is asked for versions %v", got)
		}
	})
}

// A 404 with a cause, or about a path of the state tree, is no missing endpoint.
func TestNotFoundThatIsNoMissingEndpoint(t *testing.T) {
	for body, requests := range map[string]int{
		"Not Found": 2, "": 2, "<html>nginx</html>": 2, "error: canister_not_found\ndetails: x": 1, "Invalid path requested.": 1,
	} {
		synctest.Test(t, func(t *testing.T) {
			n := &fakeNetwork{serve: func(*http.Request) (*http.Response, error) { return answering(404, "none", body), nil }}
			u := testNetwork(t, n, 1e6, "a")
			err := u.testReadState(t.Context(), nil)
			if err == nil || n.count("a") != requests {
				t.Errorf("%q: %d requests, %v, want %d", body, n.count("a"), err, requests)
			}
		})
	}
}

func TestVersionsAreDistinct(t *testing.T) {
	for e, all := range versions {
		sorted := slices.Clone(all)
		slices.Sort(sorted)
		if len(all) == 0 || len(slices.Compact(sorted)) != len(all) {
			t.Errorf("%s: %v", e, all)
		}
	}
}
