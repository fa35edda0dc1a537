package localnet

import (
	"bytes"
	"crypto/sha256"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/certification"
	"github.com/aviate-labs/agent-go/certification/hashtree"
	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/verify"
)

// desk is a network with one CDK canister, one gateway and helpers that speak
// for clients.
type desk struct {
	*testing.T
	net      *Network
	cdk      *CDK
	canister verify.Principal
	gateway  *identity.Ed25519Identity
}

func newDesk(t *testing.T, o CDKOptions) *desk {
	// A clock that Advance moves and a busy machine does not, or a slow run would pass a tick by itself. It stands still but
	// for a microsecond each time it is read, which keeps equal requests apart.
	began, reads := time.Now(), new(atomic.Int64)
	now := func() time.Time { return began.Add(time.Duration(reads.Add(1)) * time.Microsecond) }
	d := &desk{T: t, net: newNetwork(t, Options{Now: now}), cdk: NewCDK(o), gateway: newIdentity(t)}
	d.canister = d.net.Install(d.cdk)
	return d
}

func (d *desk) open(who identity.Identity, nonce uint64) string {
	d.Helper()
	return ws(d, d.net, who, d.canister, "ws_open", verify.AppendOpenArg(nil, nonce, principalOf(d.gateway)))
}

func (d *desk) send(who identity.Identity, nonce, sequence uint64, service bool, payload []byte) string {
	d.Helper()
	return ws(d, d.net, who, d.canister, "ws_message", verify.AppendMessageArg(nil, &verify.WebsocketMessage{
		Client: key(who, nonce), Sequence: sequence, Timestamp: 1, Service: service, Content: payload,
	}))
}

func (d *desk) close(gateway identity.Identity, k verify.ClientKey) string {
	d.Helper()
	return ws(d, d.net, gateway, d.canister, "ws_close", verify.AppendCloseArg(nil, k))
}

func (d *desk) poll(nonce uint64) *verify.Reply {
	d.Helper()
	return poll(d, d.net, d.gateway, d.canister, nonce)
}

func key(who identity.Identity, nonce uint64) verify.ClientKey {
	return verify.ClientKey{Principal: principalOf(who), Nonce: nonce}
}

// proven checks a page the way a client does, with agent-go: certificate,
// certified data, witness, leaves, keys in order from the nonce first.
func (d *desk) proven(r *verify.Reply, first uint64) {
	d.Helper()
	tree := decodeTree(d, r.Tree)
	root := tree.Reconstruct()
	if err := certification.VerifyCertifiedData(parseCertificate(d, r.Cert), raw(d.canister), d.net.RootKey(), root[:]); err != nil {
		d.Fatal(err)
	}
	for i, m := range r.Messages {
		if want := messageKey(principalOf(d.gateway), first+uint64(i)); string(m.Key) != want {
			d.Fatalf("key %s, want %s", m.Key, want)
		}
		leaf, err := hashtree.Lookup(tree, label("websocket"), hashtree.Label(m.Key))
		if want := sha256.Sum256(m.Content); err != nil || !bytes.Equal(leaf, want[:]) {
			d.Fatalf("leaf %x, %v", leaf, err)
		}
	}
}

func (d *desk) wantText(got, want string) {
	d.Helper()
	if got != want {
		d.Errorf("answer %q, want %q", got, want)
	}
}
