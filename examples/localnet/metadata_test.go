package localnet

import (
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// plain is a program without custom sections.
type plain struct{}

func (plain) Init(*Env) error                             { return nil }
func (plain) Update(*Env, string, []byte) ([]byte, error) { return nil, ErrNoMethod }
func (plain) Query(*Env, string, []byte) ([]byte, error)  { return nil, ErrNoMethod }

// A canister's sections are certified, follow its module, and are absent where there is none.
func TestMetadata(t *testing.T) {
	n := newNetwork(t, Options{})
	id, who := n.Install(NewCDK(CDKOptions{})), newIdentity(t)
	authority, err := verify.NewAuthority(n.RootKey())
	if err != nil {
		t.Fatal(err)
	}
	section := func(name string) (string, verify.Lookup) {
		t.Helper()
		path := [][]byte{[]byte("canister"), id.Bytes(), []byte("metadata"), []byte(name)}
		r := post(t, n, canisterPath("v2", id, "read_state"), envelope(t, readStateContent(n, who, path), who, nil))
		cert, err := authority.Certificate(r.decode(t).Certificate, id, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		value, found := cert.Lookup(path...)
		return string(value), found
	}
	if got, found := section("candid:service"); found != verify.Found || got != cdkInterface {
		t.Errorf("%v %q", found, got)
	}
	if _, found := section("dfx"); found != verify.Absent {
		t.Errorf("another section: %v", found)
	}
	if err := n.Reinstall(id, plain{}); err != nil {
		t.Fatal(err)
	}
	if _, found := section("candid:service"); found != verify.Absent {
		t.Errorf("after another module came: %v", found)
	}
	if err := n.Reinstall(id, NewCDK(CDKOptions{Motoko: true})); err != nil {
		t.Fatal(err)
	}
	if _, found := section("candid:service"); found != verify.Found {
		t.Errorf("after it came back: %v", found)
	}
	if err := n.Uninstall(id); err != nil {
		t.Fatal(err)
	}
	if _, found := section("candid:service"); found != verify.Absent {
		t.Errorf("without a module: %v", found)
	}
}
