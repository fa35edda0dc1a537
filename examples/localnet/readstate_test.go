package localnet

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/certification"
	"github.com/aviate-labs/agent-go/certification/hashtree"
	"github.com/aviate-labs/agent-go/identity"
	"github.com/aviate-labs/agent-go/leb128"

	"github.com/icws-gateway/caddy-icws/verify"
)

// Replicas look at the expiry of what is signed, and of calls. Whoever has a wrong clock can ask for the time.
func TestExpiryOfReadings(t *testing.T) {
	n := newNetwork(t, Options{})
	id, who := n.Install(NewCDK(CDKOptions{})), newIdentity(t)
	for _, off := range []time.Duration{-time.Hour, time.Hour} {
		for _, tt := range []struct {
			name, version, endpoint string
			by                      identity.Identity
			content                 map[string]any
			want                    int
		}{
			{"anonymous read_state", "v3", "read_state", nil, readStateContent(n, nil, [][]byte{[]byte("time")}), 200},
			{"signed read_state", "v3", "read_state", who, readStateContent(n, who, [][]byte{[]byte("time")}), 400},
			{"anonymous query", "v3", "query", nil, content(n, nil, "query", id, "ws_get_messages", []byte("DIDL\x00\x00")), 200},
			{"signed query", "v3", "query", who, content(n, who, "query", id, "ws_get_messages", []byte("DIDL\x00\x00")), 400},
			{"anonymous call", "v4", "call", nil, content(n, nil, "call", id, "ws_open", []byte("DIDL\x00\x00")), 400},
		} {
			tt.content["ingress_expiry"] = uint64(n.Now().Add(off).UnixNano())
			if r := post(t, n, canisterPath(tt.version, id, tt.endpoint), envelope(t, tt.content, tt.by, nil)); r.status != tt.want {
				t.Errorf("%s, %s: %d %s, want %d", tt.name, off, r.status, r.body, tt.want)
			}
		}
	}
}

func TestReadState(t *testing.T) {
	n := newNetwork(t, Options{Nodes: 3, Latency: time.Millisecond})
	id := n.Install(NewCDK(CDKOptions{}))
	who, other := newIdentity(t), newIdentity(t)
	c := content(n, who, "call", id, "ws_open", verify.AppendOpenArg(nil, 1, canisterID(1)))
	h := requestID(t, c)
	post(t, n, canisterPath("v4", id, "call"), envelope(t, c, who, nil))
	read := func(by identity.Identity, paths ...[][]byte) response {
		return post(t, n, canisterPath("v3", id, "read_state"), envelope(t, readStateContent(n, by, paths...), by, nil))
	}
	path := func(labels ...string) [][]byte {
		var out [][]byte
		for _, l := range labels {
			out = append(out, []byte(l))
		}
		return out
	}
	status := path("request_status", string(h[:]))
	for _, tt := range []struct {
		name string
		by   identity.Identity
		path [][]byte
		want int
	}{
		{"time", other, path("time"), 200},
		{"time and more", other, path("time", "x"), 404},
		{"nothing", other, path(), 404},
		{"own request", who, status, 200},
		{"another's request", other, status, 403},
		{"nobody's request", other, path("request_status", strings.Repeat("x", 32)), 200},
		{"short request id", other, path("request_status", "x"), 400},
		{"all requests", who, path("request_status"), 404},
		{"own outcome", who, append(status[:2:2], []byte("status")), 200},
		{"own outcome in a part that is none", who, append(status[:2:2], []byte("secrets")), 404},
		{"own outcome too deep", who, append(status[:2:2], []byte("status"), []byte("x")), 404},
		{"subnet", other, path("subnet"), 200},
		{"subnet, empty label", other, path("subnet", ""), 200},
		{"type of a subnet", other, path("subnet", "x", "type"), 200},
		{"type of a subnet too deep", other, path("subnet", "x", "type", "x"), 404},
		{"nodes", other, path("subnet", "x", "node"), 200},
		{"key of a node", other, path("subnet", "x", "node", "x", "public_key"), 200},
		{"another thing of a node", other, path("subnet", "x", "node", "x", "secrets"), 404},
		{"something else of a subnet", other, path("subnet", "x", "secrets"), 404},
		{"flat ranges", other, path("subnet", "x", "canister_ranges"), 404},
		{"flat ranges of the root subnet", other, path("subnet", string(n.root.id.Bytes()), "canister_ranges"), 200},
		{"ranges", other, path("canister_ranges"), 404},
		{"ranges of a subnet", other, path("canister_ranges", "x"), 404},
		{"controllers", other, path("canister", string(id.Bytes()), "controllers"), 200},
		{"metadata", other, path("canister", string(id.Bytes()), "metadata", "candid:service"), 200},
		{"all metadata", other, path("canister", string(id.Bytes()), "metadata"), 404},
		{"module hash", other, path("canister", string(id.Bytes()), "module_hash"), 200},
		{"certified data", other, path("canister", string(id.Bytes()), "certified_data"), 404},
		{"time of installation", other, path("canister", string(id.Bytes()), "last_install_timestamp"), 200},
		{"time of installation too deep", other, path("canister", string(id.Bytes()), "last_install_timestamp", "x"), 404},
		{"boundary nodes", other, path("api_boundary_nodes"), 200},
		{"boundary node", other, path("api_boundary_nodes", "x"), 200},
		{"domain of a boundary node", other, path("api_boundary_nodes", "x", "domain"), 200},
		{"other things of a boundary node", other, path("api_boundary_nodes", "x", "secrets"), 404},
		{"domain too deep", other, path("api_boundary_nodes", "x", "domain", "x"), 404},
		{"another canister", other, path("canister", "x", "module_hash"), 400},
		{"unknown", other, path("secrets"), 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := read(tt.by, tt.path)
			if r.status != tt.want {
				t.Fatalf("%d %s, want %d", r.status, r.body, tt.want)
			}
			if r.status != 200 {
				return
			}
			cert := parseCertificate(t, r.decode(t).Certificate)
			if err := certification.VerifyCertificate(cert, raw(id), n.RootKey()); err != nil {
				t.Fatal(err)
			}
			stamp, err := cert.Tree.Lookup(label("time"))
			if err != nil {
				t.Fatal(err)
			}
			ns, err := leb128.DecodeUnsigned(bytes.NewReader(stamp))
			if err != nil || n.Now().Sub(time.Unix(0, ns.Int64())) > time.Second {
				t.Errorf("time %v, %v", ns, err)
			}
			if tt.name == "nobody's request" {
				var le hashtree.LookupError
				if _, err := cert.Tree.Lookup(label("request_status"), hashtree.Label(tt.path[1]), label("status")); !errors.As(err, &le) || le.Type != hashtree.LookupResultAbsent {
					t.Errorf("absence: %v", err)
				}
			}
			if tt.name == "subnet" {
				for _, node := range n.hosts[0].nodes {
					if _, err := cert.Tree.Lookup(label("subnet"), cert.Delegation.SubnetId.Raw, label("node"), node.id.Bytes(), label("public_key")); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	// By agent-go: the subnets of the network and the metadata it asks for.
	a := newAgent(t, n, who)
	if _, err := a.GetTime(raw(id)); err != nil {
		t.Error(err)
	}
	if _, err := a.GetCanisterModuleHash(raw(id)); err != nil {
		t.Error(err)
	}
	// Two requests in one question, and what only other endpoints tell.
	x := path("request_status", strings.Repeat("x", 32))
	if r := read(who, status, x); r.status != 400 {
		t.Errorf("two requests: %d %s", r.status, r.body)
	}
	s := raw(n.hosts[0].id)
	for _, tt := range []struct {
		path   string
		labels [][]byte
		want   int
	}{
		{canisterPath("v2", id, "read_state"), path("subnet", "x", "canister_ranges"), 200},
		{"/api/v3/subnet/" + s.Encode() + "/read_state", path("canister_ranges", string(s.Raw)), 200},
		{"/api/v3/subnet/" + s.Encode() + "/read_state", path("canister_ranges"), 404},
		{"/api/v3/subnet/" + s.Encode() + "/read_state", path("canister", string(id.Bytes()), "module_hash"), 404},
		{"/api/v3/subnet/" + s.Encode() + "/read_state", path("canister", string(id.Bytes()), "last_install_timestamp"), 404},
		{"/api/v3/subnet/" + s.Encode() + "/read_state", path("api_boundary_nodes"), 200},
		{"/api/v2/subnet/" + s.Encode() + "/read_state", path("api_boundary_nodes", "x", "ipv6_address"), 200},
		{"/api/v3/subnet/" + s.Encode() + "/read_state", status, 404},
	} {
		if r := post(t, n, tt.path, envelope(t, readStateContent(n, who, tt.labels), who, nil)); r.status != tt.want {
			t.Errorf("%s %q: %d %s, want %d", tt.path, tt.labels, r.status, r.body, tt.want)
		}
	}
	r := post(t, n, "/api/v2/subnet/"+s.Encode()+"/read_state", envelope(t, readStateContent(n, nil, [][]byte{[]byte("subnet")}), nil, nil))
	if err := certification.VerifySubnetCertificate(parseCertificate(t, r.decode(t).Certificate), s, n.RootKey()); err != nil {
		t.Error(err)
	}
}

// A delegation that is for some canisters reads the requests to these alone.
func TestReadStateTargets(t *testing.T) {
	n := newNetwork(t, Options{})
	here, elsewhere := n.Install(NewCDK(CDKOptions{})), n.Install(NewCDK(CDKOptions{}))
	root, session := newIdentity(t), newIdentity(t)
	delegate := func(targets ...verify.Principal) verify.SignedDelegation {
		d := map[string]any{"pubkey": session.PublicKey(), "expiration": uint64(n.Now().Add(time.Hour).UnixNano())}
		var list []any
		for _, p := range targets {
			list = append(list, p.Bytes())
		}
		if list != nil {
			d["targets"] = list
		}
		h := requestID(t, d)
		sig, err := root.Sign(append([]byte("\x1aic-request-auth-delegation"), h[:]...))
		if err != nil {
			t.Fatal(err)
		}
		return verify.SignedDelegation{PublicKey: session.PublicKey(), Expiration: time.Unix(0, int64(d["expiration"].(uint64))), Targets: targets, Signature: sig}
	}
	send := func(r verify.Request, d verify.SignedDelegation, endpoint string) (response, [32]byte) {
		r.IngressExpiry, r.Delegations, r.RootKey = n.Now().Add(time.Minute), []verify.SignedDelegation{d}, root.PublicKey()
		body, id, err := r.Sign(session)
		if err != nil {
			t.Fatal(err)
		}
		return post(t, n, canisterPath("v3", here, endpoint), body), id
	}
	r, id := send(verify.Request{Type: verify.RequestCall, Canister: here, Method: "ws_open", Arg: verify.AppendOpenArg(nil, 1, canisterID(1))}, delegate(here), "call")
	if r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	for name, tt := range map[string]struct {
		d    verify.SignedDelegation
		want int
	}{
		"all":              {delegate(), 200},
		"this one":         {delegate(here), 200},
		"this and another": {delegate(elsewhere, here), 200},
		"another":          {delegate(elsewhere), 403},
	} {
		r, _ := send(verify.Request{Type: "read_state", Canister: here, Paths: [][][]byte{{[]byte("request_status"), id[:]}}}, tt.d, "read_state")
		if r.status != tt.want {
			t.Errorf("%s: %d %s, want %d", name, r.status, r.body, tt.want)
		}
	}
}
