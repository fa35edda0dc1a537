package caddymodule

import (
	"net/http"
	"strings"
	"testing"
)

func TestOrigins(t *testing.T) {
	for _, test := range []struct {
		patterns []string
		origin   []string
		want     bool
	}{
		{nil, []string{"https://anything.example"}, true},
		{[]string{"*"}, []string{"https://anything.example"}, true},
		{[]string{"any"}, []string{"capacitor://localhost"}, true},
		{[]string{"https://app.example.com"}, nil, true}, // not a browser
		{[]string{"https://app.example.com"}, []string{"https://app.example.com"}, true},
		{[]string{"https://APP.example.com"}, []string{"HTTPS://app.Example.com"}, true},
		{[]string{"https://app.example.com:443"}, []string{"https://app.example.com"}, true},
		{[]string{"https://app.example.com"}, []string{"https://app.example.com:443"}, true},
		{[]string{"https://app.example.com:08443"}, []string{"https://app.example.com:8443"}, true},
		{[]string{"https://app.example.com"}, []string{"http://app.example.com"}, false},
		{[]string{"https://app.example.com"}, []string{"https://app.example.com:8443"}, false},
		{[]string{"https://app.example.com"}, []string{"https://app.example.com.evil.io"}, false},
		{[]string{"https://app.example.com"}, []string{"https://app.example.com", "https://evil.io"}, false},
		{[]string{"https://app.example.com"}, []string{"null"}, false},
		{[]string{"https://app.example.com"}, []string{""}, false},
		{[]string{"https://app.example.com"}, []string{"://app.example.com"}, false},
		{[]string{"https://app.example.com"}, []string{"https://app.example.com/"}, false},
		{[]string{"https://app.example.com"}, []string{"https://app.example.com:x"}, false},
		{[]string{"null"}, []string{"null"}, true},
		{[]string{"null"}, []string{"https://x.io"}, false},
		{[]string{"null"}, []string{"null://"}, false},
		{[]string{"https://*.icp0.io"}, []string{"https://a.icp0.io"}, true},
		{[]string{"https://*.icp0.io"}, []string{"https://a.b.icp0.io"}, true},
		{[]string{"https://*.icp0.io"}, []string{"https://icp0.io"}, false},
		{[]string{"https://*.icp0.io"}, []string{"https://.icp0.io"}, false},
		{[]string{"https://*.icp0.io"}, []string{"https://evilicp0.io"}, false},
		{[]string{"https://*.icp0.io"}, []string{"https://a.icp0.io.evil.io"}, false},
		{[]string{"http://localhost:*"}, []string{"http://localhost:5173"}, true},
		{[]string{"http://localhost:*"}, []string{"http://localhost"}, true},
		{[]string{"http://localhost:*"}, []string{"http://localhost.evil.io:1"}, false},
		{[]string{"http://localhost:*"}, []string{"http://localhost:*"}, false},
		{[]string{"http://localhost:*"}, []string{"http://localhost:99999"}, false},
		{[]string{"http://[::1]:8080"}, []string{"http://[::1]:8080"}, true},
		{[]string{"http://[::1]"}, []string{"http://[::1]"}, true},
		{[]string{"http://[0:0::1]"}, []string{"http://[::1]"}, true},
		{[]string{"http://[::ffff:127.0.0.1]"}, []string{"http://[::ffff:7f00:1]"}, true}, // as browsers write it
		{[]string{"http://[::1]:*"}, []string{"http://[::1:8080"}, false},
		{[]string{"http://[::1]:*"}, []string{"http://[::1%25x]:8080"}, false},
		{[]string{"http://127.0.0.1."}, []string{"http://127.0.0.1"}, true},
		{[]string{"https://app.example.com."}, []string{"https://app.example.com."}, true},
		{[]string{"https://app.example.com"}, []string{"https://app.example.com."}, false}, // another origin for browsers, too
		{[]string{"https://b\u00fccher.example"}, []string{"https://xn--bcher-kva.example"}, true},
		{[]string{"https://*.b\u00fccher.example"}, []string{"https://a.xn--bcher-kva.example"}, true},
		{[]string{"http://my_app.localhost"}, []string{"http://my_app.localhost"}, true},
		{[]string{"https://v2--app.netlify.app"}, []string{"https://v2--app.netlify.app"}, true},
		{[]string{"https://a.io", "https://b.io"}, []string{"https://b.io"}, true},

		// App shells and extensions.
		{[]string{"capacitor://localhost"}, []string{"capacitor://localhost"}, true},
		{[]string{"capacitor://localhost"}, []string{"ionic://localhost"}, false},
		{[]string{"capacitor://localhost"}, []string{"http://localhost"}, false},
		{[]string{"capacitor://localhost"}, []string{"capacitor://localhost:80"}, false}, // no port is its own
		{[]string{"capacitor://localhost"}, []string{"capacitor://localhost.evil.io"}, false},
		{[]string{"ionic://localhost"}, []string{"ionic://localhost"}, true},
		{[]string{"tauri://localhost", "http://tauri.localhost"}, []string{"tauri://localhost"}, true},
		{[]string{"tauri://localhost", "http://tauri.localhost"}, []string{"http://tauri.localhost"}, true},
		{[]string{"chrome-extension://cdcjbimcakldgkgkglecojpjghomcafc"}, []string{"chrome-extension://cdcjbimcakldgkgkglecojpjghomcafc"}, true},
		{[]string{"chrome-extension://cdcjbimcakldgkgkglecojpjghomcafc"}, []string{"chrome-extension://aaaabimcakldgkgkglecojpjghomcafc"}, false},
		{[]string{"moz-extension://*"}, []string{"moz-extension://0d2bb2b9-7f5c-4d29-b7dc-6a3a2b9cf4aa"}, true},
		{[]string{"moz-extension://*"}, []string{"chrome-extension://cdcjbimcakldgkgkglecojpjghomcafc"}, false},
		{[]string{"safari-web-extension://2A4D5E1F-0000-4B52-8B1C-0B0F6A1D0A11"}, []string{"safari-web-extension://2A4D5E1F-0000-4B52-8B1C-0B0F6A1D0A11"}, true},
		{[]string{"app://obsidian.md"}, []string{"app://obsidian.md"}, true},
		{[]string{"app://."}, []string{"app://."}, true},
		{[]string{"app://-"}, []string{"app://-"}, true},
		{[]string{"app://"}, []string{"app://"}, true}, // a custom scheme of WebKit without a host
		{[]string{"app://"}, []string{"app://other"}, false},
		{[]string{"app://b%C3%BCcher"}, []string{"app://b%c3%bccher"}, true},
		{[]string{"app://*.bundle"}, []string{"app://main.bundle"}, true},
		{[]string{"vscode-webview://*"}, []string{"vscode-webview://1f9n3kq0ah2v7cm8dgp5"}, true},
		{[]string{"com.example.app+v2://x"}, []string{"com.example.app+v2://x"}, true},
		{[]string{"file://"}, []string{"file://"}, true},
		{[]string{"file://"}, []string{"null"}, false},
		{[]string{"wss://example.com"}, []string{"wss://example.com:443"}, true}, // clients without a page
		{[]string{"ws://example.com:80"}, []string{"ws://example.com"}, true},
		{[]string{"ftp://example.com"}, []string{"ftp://example.com"}, true},
	} {
		o, err := parseOrigins(test.patterns)
		if err != nil {
			t.Errorf("%v: %v", test.patterns, err)
			continue
		}
		r := &http.Request{Header: http.Header{}}
		if test.origin != nil {
			r.Header["Origin"] = test.origin
		}
		if got := o.allows(r); got != test.want {
			t.Errorf("%v allows %q: %v", test.patterns, test.origin, got)
		}
	}
}

// TestOriginErrors refuses what no page could ever send, and says why.
func TestOriginErrors(t *testing.T) {
	long := strings.Repeat("a", 64)
	for why, patterns := range map[string][]string{
		"must be a scheme and a host":             {"", "example.com", "https://", "localhost:5173", "//a.io", "://a.io", "1app://x", "my_app://x", "h ttps://a.io", "\u00e4pp://x"},
		"must end after the host":                 {"https://a.io/", "https://a.io?x", "https://a.io#x", "https://u@a.io", "app://x/index.html"},
		"wildcard in a place other":               {"https://*", "https://*.", "https://a.*.io", "https://*.*.io", "https://**.io", "https://*..io", "app://**", "app://a.*"},
		"has no port from 0 to 65535":             {"https://a.io:", "https://a.io:http", "https://a.io:65536", "https://a.io:-1", "https://a.io:+1", "app://a:b"},
		"no host name":                            {"https://{env.HOST}", "https://a,b.io", "https://exa mple.com", "https://a.io%20"},
		"no IPv6 address without a zone":          {"https://[::1", "https://[x]", "https://[127.0.0.1]", "https://[fe80::1%25eth0]", "app://[x]", "https://*.[::1]"},
		"it has an empty part":                    {"https://a..io", "https://.", "https://.a.io"},
		"more than 63 bytes":                      {"https://" + long + ".io"},
		"longer than 253 bytes":                   {"https://" + strings.Repeat("a.", 130) + "io"},
		"is not an IPv4 address":                  {"http://127.1", "http://256.0.0.1", "http://0x7f.0.0.1", "http://1", "http://a.1", "http://0x"},
		"an IPv6 address needs brackets":          {"https://::1", "https://::1:8080"},
		"wildcard before an address":              {"http://*.127.0.0.1"},
		"is not a valid international name":       {"https://\u00ad\u00fc.xn--a.io", "https://a\u200db.io"},
		"no app could send":                       {"app://a b", "app://{env.HOST}", "app://a|b", "app://\u00fc", "app://a\x7f"},
		"pages from files are null in browsers":   {"file:///home/me/index.html", "file://localhost"},
		"browsers send that of the page it was":   {"blob:https://a.io", "about:blank", "data:text/html,x", "about://blank", "javascript:0"},
		"already allows every page: remove the o": {"any"},
	} {
		for _, pattern := range patterns {
			list := []string{pattern}
			if pattern == "any" {
				list = append(list, "https://a.io")
			}
			if o, err := parseOrigins(list); err == nil {
				t.Errorf("%q is accepted: %+v", pattern, o)
			} else if !strings.Contains(err.Error(), why) {
				t.Errorf("%q: %v, want %q", pattern, err, why)
			}
		}
	}
}
