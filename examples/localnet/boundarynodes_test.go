package localnet

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go"
	"github.com/aviate-labs/agent-go/certification"
	"github.com/aviate-labs/agent-go/certification/hashtree"
	"github.com/aviate-labs/agent-go/leb128"

	"github.com/icws-gateway/caddy-icws/verify"
)

// installTime reads when a canister was installed, by agent-go; false if the
// certificate proves that nothing says so.
func installTime(t testing.TB, n *Network, version string, id verify.Principal) (time.Time, bool) {
	t.Helper()
	path := [][]byte{[]byte("canister"), id.Bytes(), []byte("last_install_timestamp")}
	r := post(t, n, canisterPath(version, id, "read_state"), envelope(t, readStateContent(n, nil, path), nil, nil))
	cert := parseCertificate(t, r.decode(t).Certificate)
	if err := certification.VerifyCertificate(cert, raw(id), n.RootKey()); err != nil {
		t.Fatal(err)
	}
	b, err := cert.Tree.Lookup(path[0], path[1], path[2])
	var le hashtree.LookupError
	if errors.As(err, &le) && le.Type == hashtree.LookupResultAbsent {
		return time.Time{}, false
	}
	if err != nil {
		t.Fatal(err)
	}
	rest := bytes.NewReader(b)
	ns, err := leb128.DecodeUnsigned(rest)
	if err != nil || rest.Len() > 0 {
		t.Fatalf("%x: %v", b, err)
	}
	return time.Unix(0, ns.Int64()), true
}

// The state says when a program was installed, reinstalled or upgraded, and
// nothing once it is gone.
func TestInstallTime(t *testing.T) {
	n := newNetwork(t, Options{})
	before := n.Now()
	id := n.Install(NewCDK(CDKOptions{}))
	last, ok := installTime(t, n, "v2", id)
	if !ok || last.Before(before) || last.After(n.Now()) {
		t.Errorf("installed at %s, %t", last, ok)
	}
	n.Advance(time.Hour)
	if at, _ := installTime(t, n, "v3", id); !at.Equal(last) {
		t.Error("changed by itself")
	}
	for name, change := range map[string]func() error{
		"upgrade":   func() error { return n.Upgrade(id) },
		"reinstall": func() error { return n.Reinstall(id, NewCDK(CDKOptions{})) },
	} {
		n.Advance(time.Hour)
		if err := change(); err != nil {
			t.Fatal(err)
		}
		at, ok := installTime(t, n, "v3", id)
		if !ok || at.Sub(last) < time.Hour {
			t.Errorf("%s: %s after %s", name, at, last)
		}
		last = at
	}
	if err := n.Reinstall(id, failingInit{}); err == nil {
		t.Fatal("a program that cannot start was installed")
	}
	if at, _ := installTime(t, n, "v3", id); !at.Equal(last) {
		t.Error("changed by an installation that failed")
	}
	if err := n.Uninstall(id); err != nil {
		t.Fatal(err)
	}
	if at, ok := installTime(t, n, "v3", id); ok {
		t.Errorf("nothing is installed since %s", at)
	}
}

type failingInit struct{ Canister }

func (failingInit) Init(*Env) error { return errors.New("no") }

// An installation from before the network recorded its time, and a network
// that does not know of such times at all.
func TestNoInstallTime(t *testing.T) {
	n := newNetwork(t, Options{NoInstallTime: true})
	id := n.Install(NewCDK(CDKOptions{}))
	if at, ok := installTime(t, n, "v3", id); ok {
		t.Errorf("installed at %s", at)
	}
	n = newNetwork(t, Options{V2Only: true})
	id = n.Install(NewCDK(CDKOptions{}))
	c := readStateContent(n, nil, [][]byte{[]byte("canister"), id.Bytes(), []byte("last_install_timestamp")})
	if r := post(t, n, canisterPath("v2", id, "read_state"), envelope(t, c, nil, nil)); r.status != 404 {
		t.Errorf("an old network answers %d", r.status)
	}
}

// Every subnet lists the boundary nodes that were set last, at both endpoints,
// and each of their names reaches the network.
func TestBoundaryNodesInState(t *testing.T) {
	n := newNetwork(t, Options{})
	id := n.Install(NewCDK(CDKOptions{}))
	n.SetBoundaryNodes("one.example", "two.example", "gone.example")
	n.SetBoundaryNodes("one.example", "two.example")
	var asked []string
	n.SetFaults(func(r *Request) Fault {
		asked = append(asked, r.Boundary)
		return Fault{}
	})
	for _, tt := range []struct{ host, path string }{
		{"https://one.example", canisterPath("v2", id, "read_state")},
		{"https://two.example", canisterPath("v3", id, "read_state")},
		{"https://one.example", "/api/v2/subnet/" + n.root.id.String() + "/read_state"},
		{"https://two.example", "/api/v3/subnet/" + n.hosts[0].id.String() + "/read_state"},
	} {
		c := readStateContent(n, nil, [][]byte{[]byte("api_boundary_nodes")})
		r, err := postTo(n, tt.host+tt.path, envelope(t, c, nil, nil))
		if err != nil {
			t.Fatal(err)
		}
		tree := parseCertificate(t, r.decode(t).Certificate).Tree
		nodes, err := tree.LookupSubTree(label("api_boundary_nodes"))
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]agent.APIBoundaryNode{}
		children, err := hashtree.AllChildren(nodes)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range children {
			one := agent.APIBoundaryNode{}
			for label, at := range map[string]*string{"domain": &one.Domain, "ipv4_address": &one.IPv4Address, "ipv6_address": &one.IPv6Address} {
				if v, err := tree.Lookup(hashtree.Label("api_boundary_nodes"), p.Path[0], hashtree.Label(label)); err == nil {
					*at = string(v)
				}
			}
			got[one.Domain] = one
		}
		if len(got) != 2 || got["one.example"].IPv4Address == "" || got["two.example"].IPv4Address != "" {
			t.Errorf("%s: %v", tt.path, got)
		}
		for _, one := range got {
			if a, err := netip.ParseAddr(one.IPv6Address); err != nil || !a.Is6() {
				t.Errorf("%+v", one)
			}
		}
		if last := asked[len(asked)-1]; last != tt.host {
			t.Errorf("asked %s, recorded %s", tt.host, last)
		}
	}
}
