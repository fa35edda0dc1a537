//go:build e2e

package ic0_test

import (
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/chat/room"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/verify"
)

// TestAckRound holds what the gateway concludes from acks against the published CDKs, and the canister of examples/localnet: every
// client gets an ack in each round, although it has never sent anything, all acks of a round have one time, and a client that was
// replaced through another gateway gets none. A gateway with no client left gets no acks at all.
func TestAckRound(t *testing.T) {
	for cdk := range chats {
		t.Run(cdk, func(t *testing.T) { testAckRound(t, cdk) })
	}
}

func testAckRound(t *testing.T, cdk string) {
	began := time.Now().Truncate(time.Millisecond)
	n, err := localnet.New(localnet.Options{Now: func() time.Time { return began }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	p := &pair{t: t, net: n, http: n.RoundTripper(), start: began}
	if p.authority, err = verify.NewAuthority(n.RootKey()); err != nil {
		t.Fatal(err)
	}
	p.canisters[0] = n.Install(localnet.NewCDK(localnet.CDKOptions{App: room.Room{}}))
	p.canisters[1] = n.Install(loadChat(t, cdk))
	first, second := newSigner(t), newSigner(t)
	moves, stays, silent := newSigner(t), newSigner(t), newSigner(t)
	open := func(who, gateway verify.Signer, nonce uint64) {
		t.Helper()
		p.update(0, who, "ws_open", verify.AppendOpenArg(nil, nonce, principalOf(gateway)))
	}
	open(moves, first, 1)
	open(stays, first, 1)
	open(stays, second, 2) // leaves the first gateway
	open(stays, first, 3)  // and comes back
	open(silent, second, 1)
	n.Advance(time.Minute)
	open(moves, second, 2)
	n.Advance(5 * time.Minute)

	for i := range p.canisters {
		times := make(map[uint64]bool)
		for _, tc := range []struct {
			gateway verify.Signer
			want    []verify.ClientKey
		}{
			{first, []verify.ClientKey{{Principal: principalOf(stays), Nonce: 3}}},
			{second, []verify.ClientKey{{Principal: principalOf(moves), Nonce: 2}, {Principal: principalOf(silent), Nonce: 1}}},
		} {
			acked := make(map[verify.ClientKey]bool)
			for _, m := range p.all(i, tc.gateway) {
				if s, err := verify.DecodeServiceMessage(m.Payload); m.Service && err == nil && s.Kind == verify.ServiceAck {
					acked[m.Client], times[m.Timestamp] = true, true
				}
			}
			if len(acked) != len(tc.want) {
				t.Errorf("canister %d acks %d clients, want %d", i, len(acked), len(tc.want))
			}
			for _, key := range tc.want {
				if !acked[key] {
					t.Errorf("canister %d does not ack %s", i, key)
				}
			}
		}
		if len(times) != 1 {
			t.Errorf("the acks of canister %d have %d times, want one", i, len(times))
		}
	}

	// The last client of the first gateway leaves it as well.
	open(stays, second, 4)
	before := [2]int{len(p.all(0, first)), len(p.all(1, first))}
	n.Advance(5 * time.Minute)
	for i := range p.canisters {
		if got := len(p.all(i, first)); got != before[i] {
			t.Errorf("canister %d sent %d messages to a gateway without clients", i, got-before[i])
		}
	}
}

// all returns everything that canister i has for a gateway.
func (p *pair) all(i int, gateway verify.Signer) []verify.PageMessage {
	p.t.Helper()
	body, _ := p.post(i, gateway, verify.RequestQuery, "v2", "query", "ws_get_messages", verify.AppendPollArg(nil, 0))
	q, err := verify.ParseQueryReply(body)
	if err != nil {
		p.t.Fatal(err)
	}
	var reply verify.Reply
	if err := reply.Decode(q.Arg); err != nil || len(reply.Messages) == 0 || !reply.EndOfQueue {
		p.t.Fatalf("canister %d has no page for the gateway, or more than one: %v", i, err)
	}
	page, err := p.authority.Page(&reply, verify.Want{Canister: p.canisters[i], Gateway: principalOf(gateway)}, p.now())
	if err != nil {
		p.t.Fatal(err)
	}
	return page.Messages
}
