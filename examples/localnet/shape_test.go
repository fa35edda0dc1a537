package localnet

import (
	"net/http"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/aviate-labs/agent-go/certification/hashtree"
	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/examples/recorded"
	"github.com/icws-gateway/caddy-icws/verify"
)

// shaping is a network with answers of every kind.
type shaping struct {
	*testing.T
	net              *Network
	running, stopped verify.Principal
	who              identity.Identity
}

func newShaping(t *testing.T, o Options) *shaping {
	t.Setenv("ICWS_LOCALNET_FORM", "") // the form of replicas, whatever the rest of the run wants
	s := &shaping{T: t, net: newNetwork(t, o), who: newIdentity(t)}
	s.running, s.stopped = s.net.Install(echoCanister{}), s.net.Install(echoCanister{})
	if err := s.net.Stop(s.stopped); err != nil {
		t.Fatal(err)
	}
	return s
}

// echoCanister replies with its argument, and rejects in its own words if that
// is text.
type echoCanister struct{}

func (echoCanister) Init(*Env) error { return nil }

func (c echoCanister) Update(env *Env, method string, arg []byte) ([]byte, error) {
	return c.Query(env, method, arg)
}

func (echoCanister) Query(env *Env, method string, arg []byte) ([]byte, error) {
	switch method {
	case "echo":
		return append([]byte{}, arg...), nil
	case "certificate":
		return env.DataCertificate(), nil
	case "reject":
		return nil, &Reject{Code: CanisterReject, Message: string(arg)}
	}
	return nil, ErrNoMethod
}

func (s *shaping) ask(version, kind string, id verify.Principal, method, arg string) response {
	return post(s, s.net, canisterPath(version, id, kind), envelope(s, content(s.net, s.who, kind, id, method, []byte(arg)), s.who, nil))
}

func (s *shaping) read(path string, labels ...[][]byte) response {
	return post(s, s.net, path, envelope(s, readStateContent(s.net, nil, labels...), nil, nil))
}

// artefact returns a derived or a recorded file, nil if it is a recorded one
// that is not at hand.
func (s *shaping) artefact(file string) []byte {
	s.Helper()
	b := recorded.Named(s, "../..", file)
	if b == nil && strings.HasPrefix(file, "derived-") {
		s.Fatalf("%s is not there", file)
	}
	return b
}

// TestShapes holds the form of the network's answers against those of the real
// one, so that the two cannot drift apart.
func TestShapes(t *testing.T) {
	t.Run("CBOR", testCBORShapes)
	t.Run("certificates", testCertificateShapes)
	t.Run("texts", testTextShapes)
	t.Run("definite", func(t *testing.T) {
		s := newShaping(t, Options{Definite: true})
		want := strings.NewReplacer("map*", "map3").Replace(shapeOf(s.artefact("derived-query-replied.bin")))
		if got := shapeOf(s.ask("v2", "query", s.running, "echo", "DIDL").body); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

func testCBORShapes(t *testing.T) {
	s := newShaping(t, Options{})
	time := [][]byte{[]byte("time")}
	for _, tt := range []struct {
		name     string
		got      response
		recorded []string
	}{
		{"query v2", s.ask("v2", "query", s.running, "echo", "DIDL"), []string{"derived-query-replied.bin", "query-v2-mainnet-replied-http_request.bin"}},
		{"query v3", s.ask("v3", "query", s.running, "echo", "DIDL"), []string{"derived-query-replied.bin"}},
		{"query, empty", s.ask("v2", "query", s.running, "echo", ""), []string{"derived-query-replied-empty-arg.bin"}},
		{"query, no such method", s.ask("v2", "query", s.running, "none", ""), []string{"derived-query-rejected.bin", "query-v2-mainnet-rejected-IC0302.bin"}},
		{"query, rejected by the canister", s.ask("v3", "query", s.running, "reject", "no"), []string{"derived-query-rejected.bin"}},
		{"query, stopped", s.ask("v2", "query", s.stopped, "echo", ""), []string{"derived-query-rejected.bin"}},
		{"call v3", s.ask("v3", "call", s.running, "echo", "DIDL"), []string{"derived-call-v4-replied.bin"}},
		{"call v4", s.ask("v4", "call", s.running, "echo", "DIDL4"), []string{"derived-call-v4-replied.bin"}},
		{"call, rejected in consensus", s.ask("v3", "call", s.running, "none", ""), []string{"derived-call-v4-replied.bin"}},
		{"call v3, refused", s.ask("v3", "call", s.stopped, "echo", ""), []string{"derived-call-v4-non-replicated-rejection.bin", "call-v3-dfx-non_replicated_rejection-IC0512.bin"}},
		{"call v4, refused", s.ask("v4", "call", s.stopped, "echo", ""), []string{"derived-call-v4-non-replicated-rejection.bin"}},
		{"call v2, refused", s.ask("v2", "call", s.stopped, "echo", ""), []string{"derived-call-v2-rejection.bin"}},
		{"read_state v2", s.read(canisterPath("v2", s.running, "read_state"), time), []string{"derived-read-state.bin", "readstate-v2-mainnet-2023-subnet-flat.bin"}},
		{"read_state v3", s.read(canisterPath("v3", s.running, "read_state"), time), []string{"derived-read-state.bin", "readstate-v3-mainnet-time-ivg37-sharded.bin", "readstate-v3-mainnet-time-224od-sharded.bin"}},
		{"read_state v3 of a subnet", s.read("/api/v3/subnet/"+s.net.hosts[0].id.String()+"/read_state", time), []string{"readstate-v3-subnet-endpoint-uzr34-node-keys.bin"}},
		{"status", statusOf(t, s.net), []string{"derived-status-boundary-node.bin"}},
	} {
		got := shapeOf(tt.got.body)
		for _, file := range tt.recorded {
			if b := s.artefact(file); b != nil && shapeOf(b) != got {
				t.Errorf("%s: %s\nis not of the shape of %s: %s", tt.name, got, file, shapeOf(b))
			}
		}
		if tt.got.status != 200 || tt.got.header.Get("Content-Type") != "application/cbor" {
			t.Errorf("%s: %d %v", tt.name, tt.got.status, tt.got.header)
		}
	}
	// Who tells a stopped canister or a missing method by the text.
	for file, r := range map[string]response{
		"derived-query-rejected.bin":                   s.ask("v2", "query", s.running, "nope", ""),
		"derived-call-v4-non-replicated-rejection.bin": s.ask("v4", "call", s.stopped, "nope", ""),
	} {
		want := response{status: 200, body: s.artefact(file)}.decode(t)
		if got := r.decode(t); plainText(got.RejectMessage) != plainText(want.RejectMessage) || got.RejectCode != want.RejectCode || got.ErrorCode != want.ErrorCode {
			t.Errorf("%+v, %s has %+v", got, file, want)
		}
	}
	// Without delegation, as the root subnet and local networks answer.
	root := newShaping(t, Options{NoDelegation: true})
	if b := s.artefact("call-v3-dfx-replied-canister_status.bin"); b != nil && shapeOf(root.ask("v3", "call", root.running, "echo", "").body) != shapeOf(b) {
		t.Errorf("%s, recorded %s", shapeOf(root.ask("v3", "call", root.running, "echo", "1").body), shapeOf(b))
	}
}

func statusOf(t testing.TB, n *Network) response {
	t.Helper()
	r, err := get(&http.Client{Transport: n.RoundTripper()}, "http://boundary.example/api/v2/status")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// labelsOf lists the labels of a tree, a star for those that are no text, by
// agent-go's reading.
func labelsOf(t testing.TB, tree hashtree.HashTree) []string {
	t.Helper()
	seen := map[string]bool{}
	var walk func(n hashtree.Node, path string)
	walk = func(n hashtree.Node, path string) {
		switch n := n.(type) {
		case hashtree.Fork:
			walk(n.LeftTree, path)
			walk(n.RightTree, path)
		case hashtree.Labeled:
			label := "*"
			if regexp.MustCompile(`^[a-z_0-9]+$`).Match(n.Label) {
				label = string(n.Label)
			}
			walk(n.Tree, path+"/"+label)
		case hashtree.Leaf:
			seen[path] = true
		}
	}
	walk(tree.Root, "")
	var out []string
	for label := range seen {
		out = append(out, label)
	}
	sort.Strings(out)
	return out
}

// What certificates reveal, by endpoint, and how delegations state ranges.
func testCertificateShapes(t *testing.T) {
	s := newShaping(t, Options{Nodes: 2})
	subnet := [][]byte{[]byte("subnet")}
	host := "/api/v3/subnet/" + s.net.hosts[0].id.String() + "/read_state"
	for _, tt := range []struct {
		name, file string
		got        response
	}{
		{"time, sharded", "readstate-v3-mainnet-time-ivg37-sharded.bin", s.read(canisterPath("v3", s.running, "read_state"))},
		{"subnets, flat", "readstate-v2-mainnet-2023-subnet-flat.bin", s.read(canisterPath("v2", s.running, "read_state"), subnet)},
		{"subnets, sharded", "readstate-v3-mainnet-subnet-224od-sharded-nodes.bin", s.read(canisterPath("v3", s.running, "read_state"), subnet)},
		{"subnet endpoint", "readstate-v3-subnet-endpoint-uzr34-node-keys.bin", s.read(host,
			[][]byte{subnet[0], s.net.hosts[0].id.Bytes()}, [][]byte{[]byte("canister_ranges"), s.net.hosts[0].id.Bytes()})},
		{"replied", "derived-call-v4-replied.bin", s.ask("v3", "call", s.running, "echo", "x")},
		{"rejected", "call-v3-rejected-ledger-IC0503.bin", s.ask("v3", "call", s.running, "none", "y")},
	} {
		recorded := s.artefact(tt.file)
		if recorded == nil {
			continue
		}
		got, want := parseCertificate(t, tt.got.decode(t).Certificate), parseCertificate(t, response{status: 200, body: recorded}.decode(t).Certificate)
		compare := func(what string, got, want []string) {
			// The type of a subnet is certified, and in delegations, since 2026.
			// This network counts nothing that its metrics could tell.
			got = slices.DeleteFunc(got, func(l string) bool { return strings.HasSuffix(l, "/type") })
			want = slices.DeleteFunc(want, func(l string) bool { return strings.HasSuffix(l, "/metrics") })
			if !slices.Equal(got, want) {
				t.Errorf("%s: %s reveals %q, recorded %q", tt.name, what, got, want)
			}
		}
		compare("the certificate", labelsOf(t, got.Tree), labelsOf(t, want.Tree))
		if d, w := got.Delegation, want.Delegation; d != nil && w != nil {
			compare("the delegation", labelsOf(t, d.Certificate.Tree), labelsOf(t, w.Certificate.Tree))
		}
	}
	// The certificate that a query is given has the layout of its endpoint.
	for version, want := range map[string]string{"v2": "/subnet/*/canister_ranges", "v3": "/canister_ranges/*/*"} {
		c := parseCertificate(t, s.ask(version, "query", s.running, "certificate", "").decode(t).Reply.Arg)
		if got := labelsOf(t, c.Delegation.Certificate.Tree); !slices.Contains(got, want) || slices.Contains(got, "/subnet/*/canister_ranges") != (version == "v2") {
			t.Errorf("%s query: %q", version, got)
		}
	}
}
