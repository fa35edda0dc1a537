package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// doing is a network in which each host does one thing: "ok" answers, "down" cannot be reached, "busy" is 429, "trouble" is 502, "hangs" never answers,
// "lacks" has no such endpoint, "refuses" says that there is no such canister.
func doing(what map[string]string) *fakeNetwork {
	return &fakeNetwork{serve: func(r *http.Request) (*http.Response, error) {
		time.Sleep(20 * time.Millisecond)
		switch what[r.URL.Host] {
		case "ok":
			return answering(200, "", "x"), nil
		case "busy":
			return answering(429, "", ""), nil
		case "trouble":
			return answering(502, "", ""), nil
		case "hangs":
			return after(r, time.Hour, 200)
		case "lacks":
			return answering(404, "", ""), nil
		case "refuses":
			return answering(400, "canister_not_found", ""), nil
		}
		return nil, errors.New("connection refused")
	}}
}

// The host to be avoided is asked last, when no other gives an answer. Who speaks is alone exactly if all others were asked and
// gave none.
func TestAvoid(t *testing.T) {
	for _, tt := range []struct {
		hosts string // what each does, "a" first
		avoid string
		want  string // who speaks; with ! if alone
	}{
		{"ok", "", "a!"},
		{"ok", "a", "a!"},
		{"refuses", "", "a!"},
		{"ok ok", "a", "b"},
		{"ok ok", "b", "a"},
		{"ok down", "a", "a!"},
		{"ok busy", "a", "a!"},
		{"ok trouble", "a", "a!"},
		{"ok hangs", "a", "a!"},
		{"ok lacks", "a", "a!"},
		{"ok refuses", "a", "b"},
		{"refuses ok", "a", "b"},
		{"refuses down", "a", "a!"},
		{"refuses refuses", "a", "b"},
		{"ok down trouble", "a", "a!"},
		{"ok down ok", "a", "c"},
		{"ok refuses ok", "a", "b|c"},
		{"ok down down down down down down down", "a", "a!"},
		{"ok down down down down down down down down down down", "a", "a!"}, // as many as a request is tried on
	} {
		t.Run(fmt.Sprint(tt.hosts, " but ", tt.avoid), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				what := make(map[string]string)
				var names []string
				for i, does := range strings.Fields(tt.hosts) {
					name := string(rune('a' + i))
					what[name], names = does, append(names, name)
				}
				u := testNetwork(t, doing(what), 1e6, names...)
				var avoid *Host
				for _, h := range u.Hosts() {
					if h.name == tt.avoid {
						avoid = h
					}
				}
				for range 20 {
					a, err := u.do(t.Context(), &request{endpoint: EndpointQuery, canister: testPrincipal(1), class: ClassBusy, timeout: 10 * time.Second, avoid: avoid})
					var got string
					var ue *Error
					switch {
					case err == nil:
						got = a.Host.name + map[bool]string{true: "!"}[a.Alone]
					case errors.As(err, &ue) && !ue.Transient():
						got = ue.Host.name + map[bool]string{true: "!"}[ue.Alone]
					default:
						t.Fatal(err)
					}
					a.Release()
					if !strings.Contains("|"+tt.want+"|", "|"+got+"|") {
						t.Fatalf("%s answers, want %s", got, tt.want)
					}
					time.Sleep(time.Second)
				}
			})
		})
	}
}

// A request to one host only is not the word of a host alone, where there are others.
func TestOnlyIsNotAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := testNetwork(t, doing(map[string]string{"a": "ok", "b": "down"}), 1e6, "a", "b")
		a, err := u.do(t.Context(), &request{endpoint: EndpointQuery, canister: testPrincipal(1), timeout: time.Second, only: u.Hosts()[0]})
		if err != nil || a.Alone {
			t.Errorf("%v, alone %t", err, a.Alone)
		}
		a.Release()
	})
}

// A call that one host has and gave no outcome of goes to another; where that one is down, to the first again.
func TestCallAvoids(t *testing.T) {
	for _, other := range []string{"down", "busy", "lacks"} {
		synctest.Test(t, func(t *testing.T) {
			u := testNetwork(t, doing(map[string]string{"a": "ok", "b": other}), 1e6, "a", "b")
			a, err := u.Call(t.Context(), testPrincipal(1), []byte("call"), u.Hosts()[0], Stages{})
			if err != nil || a.Host.name != "a" || !a.Alone {
				t.Errorf("%s: %v", other, err)
			}
			a.Release()
		})
	}
}
