package upstream

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/examples/recorded"
	"github.com/icws-gateway/caddy-icws/verify"
)

// statusAfter answers with the recorded status of a boundary node after d.
func statusAfter(t *testing.T, d time.Duration) *fakeNetwork {
	status := string(recorded.Named(t, "../../..", "derived-status-boundary-node.bin"))
	return &fakeNetwork{serve: func(r *http.Request) (*http.Response, error) {
		if _, err := after(r, d, 200); err != nil {
			return nil, err
		}
		return answering(200, "", status), nil
	}}
}

// The fetch belongs to none of those who wait for it: who leaves gets its own error, and the others the key, from one request.
func TestRootKeyFetchIsNobodysOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := statusAfter(t, time.Second)
		u := testNetwork(t, n, 1e6, "a")
		var wg sync.WaitGroup
		for i := range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			wg.Go(func() {
				defer cancel()
				_, err := u.Authority(ctx)
				if leaves := i%2 == 0; leaves && !errors.Is(err, context.Canceled) || !leaves && err != nil {
					t.Errorf("waiting caller %d: %v", i, err)
				}
			})
			if i%2 == 0 {
				time.AfterFunc(time.Duration(i)*10*time.Millisecond, cancel) // the first one leaves at once
			}
		}
		wg.Wait()
		if _, err := u.Authority(t.Context()); err != nil || n.count("a") != 1 {
			t.Errorf("%v, after %d requests", err, n.count("a"))
		}
	})
}

// A network that hangs ends the fetch, and a failed one is repeated.
func TestRootKeyFetchIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var works atomic.Bool
		good := statusAfter(t, 0)
		u := testNetwork(t, &fakeNetwork{serve: func(r *http.Request) (*http.Response, error) {
			if works.Load() {
				return good.serve(r)
			}
			return after(r, time.Hour, 200)
		}}, 1e6, "a", "b", "c", "d", "e", "f")
		began := time.Now()
		if _, err := u.Authority(t.Context()); err == nil || time.Since(began) > rootKeyPatience {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		if _, err := u.Authority(t.Context()); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("at once again: %v", err)
		}
		works.Store(true)
		time.Sleep(time.Minute)
		if _, err := u.Authority(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A panic in the work is an error to those who wait for it, and the work can be done again.
func TestSharedPanic(t *testing.T) {
	u := testNetwork(t, statusAfter(t, 0), 1, "a")
	u.spawn = func(_ string, f, recovered func()) {
		go func() {
			defer func() {
				if recover() != nil {
					recovered()
				}
			}()
			f()
		}()
	}
	var s shared[int]
	if _, err := s.start(u, "test", func(context.Context) (int, error) { panic("test") }).wait(t.Context()); !errors.Is(err, errPanic) {
		t.Errorf("%v", err)
	}
	if got, err := s.start(u, "test", func(context.Context) (int, error) { return 7, nil }).wait(t.Context()); got != 7 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
}

// A fetched key is fetched again after several signatures in a row that do not hold, at a bounded rate, and a configured one
// never.
func TestRootKeyFetchedAgain(t *testing.T) {
	newRoot := func(seed uint64) (*localnet.Network, []byte) {
		n, err := localnet.New(localnet.Options{Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		return n, n.RootKey()
	}
	before, oldKey := newRoot(1)
	now, newKey := newRoot(2)
	badSignature := &verify.Error{Cause: verify.CauseSignature, Text: "test"}
	for _, tt := range []struct {
		name       string
		configured bool
		changes    bool
		verdicts   []error // of answers a second apart
		want       bool    // the new key is known
		fetches    int     // after the first one
	}{
		{"repeated", false, true, []error{badSignature, badSignature, badSignature}, true, 1},
		{"twice", false, true, []error{badSignature, badSignature}, false, 0},
		{"a good one between", false, true, []error{badSignature, badSignature, nil, badSignature, badSignature}, false, 0},
		{"other causes", false, true, []error{errors.New("x"), errors.New("x"), errors.New("x"), errors.New("x")}, false, 0},
		{"the same key", false, false, []error{badSignature, badSignature, badSignature, badSignature, badSignature, badSignature, badSignature}, false, 1},
		{"configured", true, true, []error{badSignature, badSignature, badSignature, badSignature}, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var present atomic.Pointer[localnet.Network]
				present.Store(before)
				n := &fakeNetwork{serve: func(r *http.Request) (*http.Response, error) { return present.Load().RoundTripper().RoundTrip(r) }}
				u := testNetwork(t, n, 1e6, "a")
				core, logs := observer.New(zap.WarnLevel)
				u.log = func() *zap.Logger { return zap.New(core) }
				if tt.configured {
					var err error
					if u.root, err = newRootKey(u, oldKey); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := u.Authority(t.Context()); err != nil {
					t.Fatal(err)
				}
				first := n.count("a")
				if tt.changes {
					present.Store(now)
				}
				for _, v := range tt.verdicts {
					a := &Answer{Host: u.Hosts()[0], network: u, canister: testPrincipal(1), began: time.Now()}
					if v == nil {
						a.Good()
					} else {
						a.Bad(v)
					}
					time.Sleep(time.Second)
				}
				time.Sleep(time.Minute) // a request to a host that is left alone
				synctest.Wait()
				key := string(u.KnownAuthority().RootKey())
				if (key == string(newKey)) != tt.want || (key == string(oldKey)) == tt.want || n.count("a")-first != tt.fetches {
					t.Errorf("the new key is known: %t, after %d fetches", key == string(newKey), n.count("a")-first)
				}
				if got := logs.FilterMessageSnippet("another root key").Len(); got > 0 != tt.want {
					t.Errorf("%d warnings", got)
				}
			})
		})
	}
}
