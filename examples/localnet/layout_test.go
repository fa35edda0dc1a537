package localnet

import (
	"cmp"
	"strconv"
	"strings"
	"testing"

	"github.com/aviate-labs/agent-go/certification"

	"github.com/icws-gateway/caddy-icws/verify"
)

// layouts tells which layouts of canister ranges a certificate carries, by
// agent-go.
func layouts(t testing.TB, cert []byte) string {
	t.Helper()
	c := parseCertificate(t, cert)
	if c.Delegation == nil {
		return "none"
	}
	var out []string
	d := c.Delegation
	if _, err := d.Certificate.Tree.Lookup(label("subnet"), d.SubnetId.Raw, label("canister_ranges")); err == nil {
		out = append(out, "flat")
	}
	if _, err := d.Certificate.Tree.LookupSubTree(label("canister_ranges"), d.SubnetId.Raw); err == nil {
		out = append(out, "sharded")
	}
	return strings.Join(out, " ")
}

// The endpoint decides the layout of the ranges, as on mainnet.
func TestLayouts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		o    Options
		want map[string]string
	}{
		{"delegation", Options{}, map[string]string{
			"v3 call": "flat", "v4 call": "sharded", "v2 query": "flat", "v3 query": "sharded", "v2 read_state": "flat", "v3 read_state": "sharded"}},
		{"sharded only", Options{ShardedOnly: true}, map[string]string{
			"v3 call": "flat", "v4 call": "sharded", "v2 query": "sharded", "v3 query": "sharded", "v2 read_state": "flat", "v3 read_state": "sharded"}},
		{"no delegation", Options{NoDelegation: true}, map[string]string{
			"v3 call": "none", "v4 call": "none", "v2 query": "none", "v3 query": "none", "v2 read_state": "none", "v3 read_state": "none"}},
		{"v2 only", Options{V2Only: true}, map[string]string{
			"v2 call": "202", "v3 call": "404", "v4 call": "404", "v2 query": "flat", "v3 query": "404", "v2 read_state": "flat", "v3 read_state": "404"}},
		{"v2 only, another status", Options{V2Only: true, GoneStatus: 405}, map[string]string{
			"v2 call": "202", "v3 call": "405", "v4 call": "405", "v2 query": "flat", "v3 query": "405", "v2 read_state": "flat", "v3 read_state": "405"}},
		{"v3 only", Options{V3Only: true}, map[string]string{
			"v2 call": "404", "v3 call": "404", "v4 call": "sharded", "v2 query": "404", "v3 query": "sharded", "v2 read_state": "404", "v3 read_state": "sharded"}},
		{"v3 only, another status", Options{V3Only: true, GoneStatus: 410}, map[string]string{
			"v2 call": "410", "v3 call": "410", "v4 call": "sharded", "v2 query": "410", "v3 query": "sharded", "v2 read_state": "410", "v3 read_state": "sharded"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNetwork(t, tt.o)
			id := n.Install(NewCDK(CDKOptions{}))
			client, gateway := newIdentity(t), newIdentity(t)
			for _, endpoint := range []string{"v3 call", "v4 call"} {
				version, _, _ := strings.Cut(endpoint, " ")
				c := content(n, client, "call", id, "ws_open", verify.AppendOpenArg(nil, uint64(version[1]), principalOf(gateway)))
				r := post(t, n, canisterPath(version, id, "call"), envelope(t, c, client, nil))
				if gone(t, endpoint, tt.want[endpoint], r) {
					continue
				}
				cert := r.decode(t).Certificate
				outcome(t, n, cert, id, requestID(t, c))
				if got := layouts(t, cert); got != tt.want[endpoint] {
					t.Errorf("%s: %s", endpoint, got)
				}
			}
			c := content(n, client, "call", id, "ws_open", verify.AppendOpenArg(nil, 2, principalOf(gateway)))
			if r := post(t, n, canisterPath("v2", id, "call"), envelope(t, c, client, nil)); !gone(t, "v2 call", cmp.Or(tt.want["v2 call"], "202"), r) {
				t.Error("v2 call has an outcome")
			}
			for _, endpoint := range []string{"v2 query", "v3 query", "v2 read_state", "v3 read_state"} {
				version, kind, _ := strings.Cut(endpoint, " ")
				c := content(n, gateway, "query", id, "ws_get_messages", verify.AppendPollArg(nil, 0))
				if kind == "read_state" {
					c = readStateContent(n, gateway, [][]byte{[]byte("time")})
				}
				r := post(t, n, canisterPath(version, id, kind), envelope(t, c, gateway, nil))
				if gone(t, endpoint, tt.want[endpoint], r) {
					continue
				}
				answer := r.decode(t)
				cert := answer.Certificate
				if kind == "query" {
					var page verify.Reply
					if err := page.Decode(answer.Reply.Arg); err != nil {
						t.Fatal(err)
					}
					cert = page.Cert
				}
				if err := certification.VerifyCertificate(parseCertificate(t, cert), raw(id), n.RootKey()); err != nil {
					t.Errorf("%s: %v", endpoint, err)
				}
				if got := layouts(t, cert); got != tt.want[endpoint] {
					t.Errorf("%s: %s", endpoint, got)
				}
			}
		})
	}
}

// gone tells whether only a status is wanted of an endpoint, and checks it.
func gone(t *testing.T, endpoint, want string, r response) bool {
	t.Helper()
	status, err := strconv.Atoi(want)
	if err != nil {
		return false
	}
	if r.status != status {
		t.Errorf("%s: %d %s, want %d", endpoint, r.status, r.body, status)
	}
	return true
}

// A delegation does not stretch to canisters of another subnet.
func TestRangesBindTheSubnet(t *testing.T) {
	n := newNetwork(t, Options{})
	here := n.Install(NewCDK(CDKOptions{}))
	there := n.Install(NewCDK(CDKOptions{}), OnSubnet(1))
	if n.subnetOf(here) == n.subnetOf(there) {
		t.Fatal("one subnet")
	}
	for _, version := range []string{"v2", "v3"} {
		c := readStateContent(n, nil, [][]byte{[]byte("time")})
		cert := parseCertificate(t, post(t, n, canisterPath(version, here, "read_state"), envelope(t, c, nil, nil)).decode(t).Certificate)
		if err := certification.VerifyCertificate(cert, raw(here), n.RootKey()); err != nil {
			t.Error(err)
		}
		if err := certification.VerifyCertificate(cert, raw(there), n.RootKey()); err == nil {
			t.Errorf("%s: the certificate of one subnet passes for a canister of the other", version)
		}
	}
}
