package relay

import (
	"bytes"
	"net/http"
	"net/url"
	"runtime"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/verify"
)

// relaying makes a session whose client sends a message of 1 KiB again and again: the function relays one, from its frame to its
// certified outcome. The network's part is a copy of one answer.
func relaying(b testing.TB) (relay func()) {
	b.Helper()
	network, err := localnet.New(localnet.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { network.Close() })
	id := network.Install(localnet.NewCDK(localnet.CDKOptions{}))
	operator, err := identity.NewRandomEd25519Identity()
	if err != nil {
		b.Fatal(err)
	}
	person, err := identity.NewRandomEd25519Identity()
	if err != nil {
		b.Fatal(err)
	}
	transport := &replay{network: network.RoundTripper()}
	g, err := New(Config{Hosts: []*url.URL{{Scheme: "http", Host: "network.test"}}, RootKey: network.RootKey(), Identity: operator,
		UpstreamRate: 1e9, UpstreamCallRate: 1e9, ClientRate: 1e9, Transport: transport})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { g.Close() })
	s := benchSession(b, g)
	s.canister, s.state = newCanister(g, id), stateOpen
	s.key.Principal, _ = verify.PrincipalFromBytes(person.Sender().Raw)
	s.key.Nonce = 1
	sign := func(method string, arg []byte) []byte {
		r := verify.Request{Type: verify.RequestCall, Canister: id, Method: method, Arg: arg, Nonce: []byte("nonce"),
			IngressExpiry: time.Now().Add(4 * time.Minute)}
		envelope, _, err := r.Sign(person)
		if err != nil {
			b.Fatal(err)
		}
		return envelope
	}
	open := sign(methodOpen, verify.AppendOpenArg(nil, 1, g.Principal()))
	req, _ := http.NewRequest(http.MethodPost, "http://network.test/api/v4/canister/"+id.String()+"/call", bytes.NewReader(open))
	req.Header.Set("Content-Type", "application/cbor")
	if res, err := network.RoundTripper().RoundTrip(req); err != nil || res.StatusCode != http.StatusOK {
		b.Fatal("opening a client at the canister: ", err, res)
	}
	m := verify.WebsocketMessage{Client: s.key, Sequence: 1, Timestamp: uint64(time.Now().UnixNano()), Content: bytes.Repeat([]byte("x"), 1024)}
	frame := verify.AppendClientFrame(nil, sign(methodMessage, verify.AppendMessageArg(nil, &m)))
	return func() {
		if c := s.handleFrame(frame, lease{}); c != nil {
			b.Fatal(c.text)
		}
		for {
			s.mu.Lock()
			idle, ended := s.in.idle(), s.closing
			s.mu.Unlock()
			if ended != nil {
				b.Fatal(ended.text)
			}
			if idle {
				break
			}
			runtime.Gosched()
		}
	}
}

// BenchmarkRelayedMessage is one ws_message of a client.
func BenchmarkRelayedMessage(b *testing.B) {
	relay := relaying(b)
	b.ReportAllocs()
	for b.Loop() {
		relay()
	}
}
