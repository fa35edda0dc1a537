package upstream

import (
	"net/http"
	"testing"

	"github.com/icws-gateway/caddy-icws/examples/recorded"
)

// Every cause is a name that can be read, and what it means does not both pass and damn the canister.
func TestCausesAreNames(t *testing.T) {
	for name, m := range causes {
		if causeName(name) != name {
			t.Errorf("%s is not in the alphabet of causes", name)
		}
		if m.Passes() && m.OfCanister() || m == 0 || m >= MeaningEnd {
			t.Errorf("%s means %d", name, m)
		}
	}
}

// Retry-After has whole seconds; what else it has is nothing.
func TestRetryAfterHeader(t *testing.T) {
	for header, want := range map[string]float64{
		"": 0, "7": 7, " 12 ": 12, "0": 0, "-3": 0, "1.5": 0, "999999": 3600, "99999999999999999999": 0, "Wed, 21 Oct 2026 07:28:00 GMT": 0,
	} {
		if got := retryAfter(header).Seconds(); got != want {
			t.Errorf("%q: %v s, want %v", header, got, want)
		}
	}
}

func FuzzRefusal(f *testing.F) {
	f.Add(400, "canister_not_found", "error: canister_not_found\ndetails: x")
	f.Add(429, "none", "load_shed: Overloaded")
	f.Add(451, "", `{"error_type":"denylisted","description":"x","details":null}`)
	for _, a := range recorded.All(f, "../../..") {
		if a.Kind == "text" {
			f.Add(a.Status, "none", string(a.Bytes(f)))
		}
	}
	f.Fuzz(func(t *testing.T, status int, cause, body string) {
		r := readRefusal(status, http.Header{"X-Ic-Error-Cause": {cause}}, []byte(body))
		if r.Means == 0 || len(r.Text) > maxRefusalText || len(r.Cause) > 64 || Printable(r.Text, maxRefusalText) != r.Text || r.Cause != causeName(r.Cause) {
			t.Fatalf("%+v", r)
		}
	})
}
