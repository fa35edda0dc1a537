package caddymodule

import (
	"strings"
	"testing"
)

func TestNormalHost(t *testing.T) {
	for in, want := range map[string]string{
		"localhost":                     "localhost",
		"Example.COM":                   "example.com",
		"example.com.":                  "example.com.",
		"ic_replica":                    "ic_replica",
		"_dnslink.example.com":          "_dnslink.example.com",
		"v2--site.example.com":          "v2--site.example.com",
		"-.example.com":                 "-.example.com",
		"1.example":                     "1.example",
		"0x":                            "error: ends in a number",
		"1e3":                           "1e3",
		"127.0.0.1":                     "127.0.0.1",
		"127.0.0.1.":                    "127.0.0.1",
		"127.1":                         "error: ends in a number",
		"0x7f.0.0.1":                    "error: ends in a number",
		"example.0x10":                  "error: ends in a number",
		"\uff11\uff12\uff17.0.0.1":      "127.0.0.1", // full width
		"::1":                           "::1",
		"2001:DB8:0:0::1":               "2001:db8::1",
		"fe80::1%eth0":                  "fe80::1%eth0",
		"::1::":                         "error: is not an IPv6 address",
		"a:b":                           "error: is not an IPv6 address",
		"B\u00dcCHER.example":           "xn--bcher-kva.example",
		"fa\u00df.example":              "xn--fa-hia.example", // as browsers map it today
		"\u4f8b\u3002example":           "xn--fsq.example",    // an ideographic dot
		"\uff49\uff43\uff10.app":        "ic0.app",
		"ic_\uff52eplica":               "ic_replica",
		"exam\u00adple.com":             "example.com",            // a soft hyphen
		"a\uff0fb.example":              "error: has a character", // a full-width slash
		"a\u200db.example":              "error: is not a valid international name",
		"xn--zz\u00fc.example":          "error: is not a valid international name",
		"":                              "error: has an empty part",
		".":                             "error: has an empty part",
		"a..b":                          "error: has an empty part",
		"example.com..":                 "error: has an empty part",
		"*.example.com":                 "error: has a character",
		"a b":                           "error: has a character",
		"a%20b":                         "error: has a character",
		"a\x00b":                        "error: has a character",
		"\xff\xfe":                      "error: is not a valid international name",
		strings.Repeat("a", 63):         strings.Repeat("a", 63),
		strings.Repeat("a", 64):         "error: has a part of more than 63 bytes",
		strings.Repeat("a.", 126) + "a": strings.Repeat("a.", 126) + "a",
		strings.Repeat("a.", 127) + "a": "error: is longer than 253 bytes",
	} {
		got, err := normalHost(in)
		if why, bad := strings.CutPrefix(want, "error: "); bad {
			if err == nil || !strings.Contains(err.Error(), why) {
				t.Errorf("%q: %q and %v, want an error %q", in, got, err, why)
			}
		} else if err != nil || got != want {
			t.Errorf("%q: %q and %v, want %q", in, got, err, want)
		}
	}
}

// FuzzNormalHost makes sure that the form is stable: the form of a form is itself, however a name is spelled. A host of
// mainnet would not be recognized otherwise.
func FuzzNormalHost(f *testing.F) {
	for _, seed := range []string{"localhost", "ic_replica.", "127.0.0.1", "::1", "b\u00fccher.example", "\uff49c0\u3002app", "xn--bcher-kva.example"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, host string) {
		once, err := normalHost(host)
		if err != nil {
			return
		}
		twice, err := normalHost(once)
		if err != nil || twice != once {
			t.Errorf("%q is %q, and that is %q, %v", host, once, twice, err)
		}
	})
}
