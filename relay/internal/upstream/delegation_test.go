package upstream

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/verify"
)

// sharded is a network whose pages come in the newer layout, and a canister there.
func sharded(t *testing.T, o localnet.Options) (*localnet.Network, verify.Principal) {
	t.Helper()
	net, err := localnet.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { net.Close() })
	return net, net.Install(localnet.NewCDK(localnet.CDKOptions{}))
}

// certificate reads one in the newer layout.
func (n *Network) certificate(t *testing.T, canister verify.Principal) []byte {
	t.Helper()
	a, err := n.readState(t.Context(), canister, func(r *request) { r.versions = []int{3} }, []byte("time"))
	if err != nil {
		t.Fatal(err)
	}
	return a.raw
}

// Many pages come at once, and most hosts hang. There is one reading, which asks another host soon, and all wait for it.
func TestDelegationIsReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, canister := sharded(t, localnet.Options{ShardedOnly: true})
		var hang atomic.Bool
		n := &fakeNetwork{serve: func(r *http.Request) (*http.Response, error) {
			if hang.Load() && r.URL.Host != "works" {
				return after(r, time.Hour, 200)
			}
			return net.RoundTripper().RoundTrip(r)
		}}
		u := testNetwork(t, n, 1e6, "a", "b", "c", "works")
		cert := u.certificate(t, canister)
		hang.Store(true)
		asked := n.count("works")
		d := u.NewDelegation(canister)
		began := time.Now()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				page := new(verify.Page)
				if err := d.Fit(page, cert); err != nil || !page.Flat {
					t.Errorf("%v, flat %t", err, page.Flat)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took > 3*delegationStagger || n.count("works")-asked > 1 {
			t.Errorf("it took %s and %d requests", took, n.count("works")-asked)
		}
	})
}

// A delegation that is there is used while it is read again, and while the network hangs.
func TestDelegationIsReadAgainBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, canister := sharded(t, localnet.Options{ShardedOnly: true})
		var readings atomic.Int64
		n := &fakeNetwork{serve: func(r *http.Request) (*http.Response, error) {
			if strings.HasPrefix(r.URL.Path, "/api/v2/canister/") && readings.Add(1) > 1 {
				return after(r, time.Hour, 200)
			}
			return net.RoundTripper().RoundTrip(r)
		}}
		u := testNetwork(t, n, 1e6, "a", "b")
		d := u.NewDelegation(canister)
		for range 20 {
			cert := u.certificate(t, canister)
			began := time.Now()
			page := new(verify.Page)
			if err := d.Fit(page, cert); err != nil || !page.Flat || time.Since(began) > 0 {
				t.Fatalf("%v, flat %t, after %s", err, page.Flat, time.Since(began))
			}
			time.Sleep(5 * time.Minute)
		}
		if readings.Load() < 5 {
			t.Errorf("read %d times in 100 minutes", readings.Load())
		}
	})
}

// That the network has no delegation to give is believed of two hosts, or of one that no other contradicts and that says so for a
// while.
func TestNoDelegationTakesAQuorum(t *testing.T) {
	for _, tt := range []struct {
		hosts string // what each does with the older version: "lacks", "gives", "trouble", "garbage", "hangs"
		flat  bool
		fails bool
		least time.Duration // that it takes
		most  time.Duration
	}{
		{"lacks", false, false, time.Second, 3 * time.Second},
		{"lacks lacks", false, false, 0, time.Second},
		{"lacks gives", true, false, 0, time.Second},
		{"lacks hangs gives", true, false, 0, 2 * time.Second},
		{"lacks trouble", false, false, time.Second, 3 * time.Second},
		{"lacks garbage", false, false, time.Second, 3 * time.Second},
		{"lacks hangs", false, false, time.Second, 13 * time.Second},
		{"trouble hangs", false, true, 0, 7 * time.Second},
		{"hangs lacks lacks", false, false, 0, 2 * time.Second},
		{"gives hangs hangs hangs hangs hangs hangs hangs", true, false, 0, 5 * time.Second},
	} {
		t.Run(tt.hosts, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net, canister := sharded(t, localnet.Options{ShardedOnly: true})
				does := make(map[string]string)
				var names []string
				for i, what := range strings.Fields(tt.hosts) {
					names = append(names, string(rune('a'+i)))
					does[names[i]] = what
				}
				u := testNetwork(t, &fakeNetwork{serve: func(r *http.Request) (*http.Response, error) {
					if strings.HasPrefix(r.URL.Path, "/api/v2/canister/") {
						switch does[r.URL.Host] {
						case "lacks":
							return answering(404, "", ""), nil
						case "trouble":
							return answering(503, "", ""), nil
						case "garbage":
							return answering(200, "", "<html>"), nil
						case "hangs":
							return after(r, time.Hour, 200)
						}
					}
					return net.RoundTripper().RoundTrip(r)
				}}, 1e6, names...)
				cert := u.certificate(t, canister)
				began := time.Now()
				page := new(verify.Page)
				err := u.NewDelegation(canister).Fit(page, cert)
				took := time.Since(began)
				if (err != nil) != tt.fails || page.Flat != tt.flat || took < tt.least || took > tt.most {
					t.Errorf("%v, flat %t, after %s", err, page.Flat, took)
				}
			})
		})
	}
}
