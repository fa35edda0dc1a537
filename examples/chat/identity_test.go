package main

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

// The local Internet Identity delegates to whoever asks at its own page, for as long as was asked, and to nobody else. That its
// delegations are good, the login in the browser shows.
func TestIdentityProvider(t *testing.T) {
	network, err := localnet.New(localnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := network.Close(); err != nil {
			t.Error(err)
		}
	})
	page, stop, err := serveIdentity(network)
	if err != nil {
		t.Fatal(err)
	}
	origin := strings.TrimSuffix(page, "/authorize")
	transport := &http.Transport{}
	ask := func(method, url, from, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", from)
		resp, err := (&http.Client{Transport: transport}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	if status, text := ask("GET", page, origin, ""); status != http.StatusOK || !strings.Contains(text, "icrc34_delegation") {
		t.Errorf("the page: %d %s", status, text)
	}
	public, err := x509.MarshalPKIXPublicKey(make(ed25519.PublicKey, ed25519.PublicKeySize))
	if err != nil {
		t.Fatal(err)
	}
	body := func(name, life string) string {
		raw, err := json.Marshal(map[string]any{"name": name, "origin": "https://chat.example", "publicKey": public, "maxTimeToLive": life})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	delegate := origin + "/delegate"
	keys := map[string]bool{}
	for _, name := range []string{"Ada", "Ada", "Grace"} {
		var got struct {
			PublicKey        []byte
			SignerDelegation []struct {
				Delegation struct {
					Pubkey     []byte
					Expiration int64 `json:",string"`
				}
				Signature []byte
			}
		}
		before := network.Now().UnixNano()
		status, text := ask("POST", delegate, origin, body(name, "1000000000"))
		if err := json.Unmarshal([]byte(text), &got); err != nil || status != http.StatusOK || len(got.SignerDelegation) != 1 {
			t.Fatalf("%s: %d %s, %v", name, status, text, err)
		}
		d := got.SignerDelegation[0]
		if string(d.Delegation.Pubkey) != string(public) || len(d.Signature) == 0 {
			t.Errorf("%s: %+v", name, d)
		}
		if e := d.Delegation.Expiration; e < before+1e9 || e > network.Now().UnixNano()+1e9 {
			t.Errorf("%s: it expires at %d, want a second after %d", name, e, before)
		}
		keys[string(got.PublicKey)] = true
	}
	if len(keys) != 2 {
		t.Errorf("two people have %d keys", len(keys))
	}
	for name, tt := range map[string]struct {
		from, body string
		want       int
	}{
		"another page's request": {"https://chat.example", body("Ada", "1"), http.StatusForbidden},
		"nobody":                 {origin, body("", "1"), http.StatusBadRequest},
		"a negative time":        {origin, body("Ada", "-1"), http.StatusBadRequest},
		"no JSON":                {origin, "Ada", http.StatusBadRequest},
		"too much":               {origin, body(strings.Repeat("a", 17<<10), "1"), http.StatusBadRequest},
	} {
		if status, text := ask("POST", delegate, tt.from, tt.body); status != tt.want {
			t.Errorf("%s: %d %s, want %d", name, status, text, tt.want)
		}
	}
	transport.CloseIdleConnections()
	if err := stop(); err != nil {
		t.Error(err)
	}
}
