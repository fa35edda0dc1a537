package upstream

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/icws-gateway/caddy-icws/examples/recorded"
	"github.com/icws-gateway/caddy-icws/verify"
)

// Every recorded answer that says that a call is accepted is taken for that.
func TestRecordedAcceptance(t *testing.T) {
	read := 0
	for _, a := range recorded.All(t, "../../..") {
		if a.Kind == "text" && a.Status == http.StatusAccepted {
			read++
			checkAccepted(t, string(a.Bytes(t)))
		}
	}
	if read == 0 {
		t.Error("no recorded acceptance was read")
	}
}

// checkAccepted wants a call that is accepted to be taken for that, whatever its body says it is.
func checkAccepted(t *testing.T, body string) {
	for _, kind := range []string{"application/cbor", "text/plain; charset=utf-8", "text/html", ""} {
		n := &fakeNetwork{serve: func(*http.Request) (*http.Response, error) {
			r := answering(202, "none", body)
			r.Header.Set("Content-Type", kind)
			return r, nil
		}}
		a, err := testNetwork(t, n, 1e6, "a").Call(t.Context(), testPrincipal(1), []byte("call"), nil, Stages{})
		if err != nil || a == nil || a.Status != 202 {
			t.Errorf("202 labelled %q: %v", kind, err)
		}
		a.Release()
	}
}

// The status of a boundary node has two keys, and of one that has no registry yet no root key. Then another is asked, and
// where none knows it, the operator is told what to do.
func TestRecordedStatus(t *testing.T) {
	read := func(file string) string { return string(recorded.Named(t, "../../..", file)) }
	without, with := read("derived-status-boundary-node-no-root-key.bin"), read("derived-status-boundary-node.bin")
	for name, tt := range map[string]struct {
		answers map[string]string
		fails   bool
	}{
		"two keys":        {map[string]string{"a": with}, false},
		"a replica's":     {map[string]string{"a": read("derived-status-replica.bin")}, false},
		"one knows it":    {map[string]string{"a": without, "b": without, "c": with}, false},
		"no root key":     {map[string]string{"a": without}, true},
		"nobody knows it": {map[string]string{"a": without, "b": without}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &fakeNetwork{serve: func(r *http.Request) (*http.Response, error) {
					return answering(200, "", tt.answers[r.URL.Host]), nil
				}}
				var hosts []string
				for h := range tt.answers {
					hosts = append(hosts, h)
				}
				a, err := testNetwork(t, n, 1e6, hosts...).root.fetch(t.Context())
				switch {
				case tt.fails && (err == nil || !strings.Contains(err.Error(), "root_key <file>")):
					t.Errorf("brings %v, want an error that names root_key <file>", err)
				case !tt.fails && (err != nil || string(a.RootKey()) != string(verify.MainnetRootKey())):
					t.Errorf("brings %v, want mainnet's key", err)
				}
			})
		})
	}
}
