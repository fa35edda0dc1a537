package caddymodule

import (
	"bytes"
	"encoding/hex"
	"encoding/pem"
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

		"http://ic_replica:4943":           "http://ic_replica:4943", // containers
		"http://project_ic-replica_1:4943": "http://project_ic-replica_1:4943",
		"http://_replica._tcp.example.com": "http://_replica._tcp.example.com",
		"http://Replica:4943":              "http://replica:4943",
		"http://replica.:4943":             "http://replica:4943",
		"https://v2--site.example.com":     "https://v2--site.example.com",
		"https://-replica-.example.com":    "https://-replica-.example.com",
		"http://3.replica.internal:4943":   "http://3.replica.internal:4943",
		"http://127.0.0.1.:4943":           "http://127.0.0.1:4943",
		"http://[fe80::1%25eth0]:4943":     "http://[fe80::1%25eth0]:4943", // a zone is written like this in URLs
		"http://[FE80:0::1]:4943":          "http://[fe80::1]:4943",
		"https://b\u00fccher.example":      "https://xn--bcher-kva.example",
		"https://b\u00fccher_1.example":    "https://xn--bcher_1-n2a.example",
		"http://\uff49c_replica:4943":      "http://ic_replica:4943",
		"http://replica:04943":             "http://replica:4943",
		"http://replica:080":               "http://replica",
	} {
		u, err := parseHost(in)
		if err != nil || u.String() != want {
			t.Errorf("%s: %v, %v", in, u, err)
		}
	}
	for _, bad := range []string{"", "localhost", "//x", "https://", "https://a b", "http://[::1", "https://exa_mple..com", "https://x#f", "https://x?",
		"http://4943", "http://127.1:4943", "http://127.0.0.256", "http://0x7f000001", "http://a..b", "http://.", "http://a,b", "http://*.example.com", "http://replica:0", "http://replica:65536",
		"http://[::1%25]", "http://" + strings.Repeat("a", 64)} {
		if u, err := parseHost(bad); err == nil {
			t.Errorf("%q is accepted as %s", bad, u)
		}
	}
}
