package caddymodule

import (
	"bytes"
	"encoding/hex"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/verify"
)

// TestMainnetIsPinned makes sure that no spelling of a mainnet host gets any other key.
func TestMainnetIsPinned(t *testing.T) {
	for _, spelling := range []string{
		"mainnet", "https://icp-api.io", "https://icp-api.io/", "HTTPS://ICP-API.IO", "https://icp-api.io.", "https://icp-api.io:443",
		"https://icp0.io", "https://ic0.app", "https://bkyz2-fmaaa-aaaaa-qaaaq-cai.icp0.io", "https://bkyz2-fmaaa-aaaaa-qaaaq-cai.raw.ic0.app",
		"https://ｉｃ０.ａｐｐ", "https://icp-api。io", "https://ICP0.io.:443//",
	} {
		t.Run(spelling, func(t *testing.T) {
			n, err := resolveNetwork([]string{spelling}, "")
			if err != nil {
				t.Fatal(err)
			}
			if n.fetch || !bytes.Equal(n.rootKey, verify.MainnetRootKey()) {
				t.Error("not pinned")
			}
			if _, err := resolveNetwork([]string{spelling}, "fetch"); err == nil || !strings.Contains(err.Error(), "refused") {
				t.Errorf("fetch: %v", err)
			}
			if _, err := resolveNetwork([]string{spelling}, hex.EncodeToString(verify.MainnetRootKey())); err != nil {
				t.Errorf("its own key is refused: %v", err)
			}
			local := localRootKey(t)
			if _, err := resolveNetwork([]string{spelling}, hex.EncodeToString(local)); err == nil {
				t.Error("another key is accepted")
			}
		})
	}
	// A boundary node under a name of its own: mainnet's key unless told otherwise.
	n, err := resolveNetwork([]string{"https://boundary.example.com"}, "")
	if err != nil || !bytes.Equal(n.rootKey, verify.MainnetRootKey()) {
		t.Errorf("key of a boundary node under its own name: %v", err)
	}
	for _, other := range []string{"https://icp0.io.example.com", "https://evil-icp0.io", "https://ic0.app.evil.io"} {
		if _, err := resolveNetwork([]string{other}, "fetch"); err != nil {
			t.Errorf("%s is not mainnet: %v", other, err)
		}
	}
}

func localRootKey(t testing.TB) []byte {
	t.Helper()
	n, err := localnet.New(localnet.Options{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n.RootKey()
}

// TestRootKeyForms reads a key in each of its forms.
func TestRootKeyForms(t *testing.T) {
	key, dir := localRootKey(t), t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, value := range map[string]string{
		"hexadecimal":      hex.EncodeToString(key),
		"upper case":       strings.ToUpper(hex.EncodeToString(key)),
		"pem file":         write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: key})),
		"der file":         write("key.der", key),
		"pem":              string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: key})),
		"hexadecimal file": write("key.hex", []byte(hex.EncodeToString(key)+"\n")),
	} {
		n, err := resolveNetwork([]string{"http://127.0.0.1:4943"}, value)
		if err != nil || !bytes.Equal(n.rootKey, key) {
			t.Errorf("%s: %v", name, err)
		}
	}
	large := write("large", bytes.Repeat([]byte("0"), maxRootKeyFile+1))
	if _, err := resolveNetwork([]string{"http://127.0.0.1:4943"}, large); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("large file: %v", err)
	}
	if _, err := resolveNetwork([]string{"http://127.0.0.1:4943"}, dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("directory: %v", err)
	}
}

func TestParseHost(t *testing.T) {
	for in, want := range map[string]string{
		"http://127.0.0.1:4943":   "http://127.0.0.1:4943",
		"http://[::1]:4943/":      "http://[::1]:4943",
		"http://[::1]":            "http://[::1]",
		"HTTP://Localhost:80":     "http://localhost",
		"https://example.com:443": "https://example.com",
		"https://example.com/ic/": "https://example.com/ic",
	} {
		u, err := parseHost(in)
		if err != nil || u.String() != want {
			t.Errorf("%s: %v, %v", in, u, err)
		}
	}
	for _, bad := range []string{"", "localhost", "//x", "https://", "https://a b", "http://[::1", "https://exa_mple..com", "https://x#f", "https://x?"} {
		if u, err := parseHost(bad); err == nil {
			t.Errorf("%q is accepted as %s", bad, u)
		}
	}
}

func TestOrigins(t *testing.T) {
	for _, test := range []struct {
		patterns []string
		origin   []string
		want     bool
	}{
		{nil, []string{"https://anything.example"}, true},
		{[]string{"*"}, []string{"https://anything.example"}, true},
		{[]string{"https://app.example.com"}, nil, true}, // not a browser
		{[]string{"https://app.example.com"}, []string{"https://app.example.com"}, true},
		{[]string{"https://APP.example.com"}, []string{"HTTPS://app.Example.com"}, true},
		{[]string{"https://app.example.com:443"}, []string{"https://app.example.com"}, true},
		{[]string{"https://app.example.com"}, []string{"https://app.example.com:443"}, true},
		{[]string{"https://app.example.com"}, []string{"http://app.example.com"}, false},
		{[]string{"https://app.example.com"}, []string{"https://app.example.com:8443"}, false},
		{[]string{"https://app.example.com"}, []string{"https://app.example.com.evil.io"}, false},
		{[]string{"https://app.example.com"}, []string{"https://app.example.com", "https://evil.io"}, false},
		{[]string{"https://app.example.com"}, []string{"null"}, false},
		{[]string{"https://app.example.com"}, []string{""}, false},
		{[]string{"null"}, []string{"null"}, true},
		{[]string{"null"}, []string{"https://x.io"}, false},
		{[]string{"https://*.icp0.io"}, []string{"https://a.icp0.io"}, true},
		{[]string{"https://*.icp0.io"}, []string{"https://a.b.icp0.io"}, true},
		{[]string{"https://*.icp0.io"}, []string{"https://icp0.io"}, false},
		{[]string{"https://*.icp0.io"}, []string{"https://.icp0.io"}, false},
		{[]string{"https://*.icp0.io"}, []string{"https://evilicp0.io"}, false},
		{[]string{"https://*.icp0.io"}, []string{"https://a.icp0.io.evil.io"}, false},
		{[]string{"http://localhost:*"}, []string{"http://localhost:5173"}, true},
		{[]string{"http://localhost:*"}, []string{"http://localhost"}, true},
		{[]string{"http://localhost:*"}, []string{"http://localhost.evil.io:1"}, false},
		{[]string{"http://[::1]:8080"}, []string{"http://[::1]:8080"}, true},
		{[]string{"http://[::1]"}, []string{"http://[::1]"}, true},
		{[]string{"http://[0:0::1]"}, []string{"http://[::1]"}, true},
		{[]string{"https://b\u00fccher.example"}, []string{"https://xn--bcher-kva.example"}, true}, // as browsers send it
		{[]string{"https://*.b\u00fccher.example"}, []string{"https://a.xn--bcher-kva.example"}, true},
		{[]string{"http://my_app.localhost"}, []string{"http://my_app.localhost"}, true},
		{[]string{"https://a.io", "https://b.io"}, []string{"https://b.io"}, true},
	} {
		o, err := parseOrigins(test.patterns)
		if err != nil {
			t.Fatalf("%v: %v", test.patterns, err)
		}
		r := &http.Request{Header: http.Header{}}
		if test.origin != nil {
			r.Header["Origin"] = test.origin
		}
		if got := o.allows(r); got != test.want {
			t.Errorf("%v allows %q: %v", test.patterns, test.origin, got)
		}
	}
	for _, bad := range []string{"", "example.com", "ftp://example.com", "https://", "https://a.io/", "https://a.io?x", "https://u@a.io", "https://*", "https://*.", "https://a.*.io", "https://*.*.io", "https://a.io:", "https://a.io:http", "https://**.io", "https://{env.HOST}", "https://[::1", "https://[x]", "https://a,b.io"} {
		if o, err := parseOrigins([]string{bad}); err == nil {
			t.Errorf("%q is accepted: %+v", bad, o)
		}
	}
}
