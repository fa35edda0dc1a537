//go:build e2e

package opinion

import (
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/aviate-labs/agent-go/certification"

	"github.com/icws-gateway/caddy-icws/verify"
)

// request is an envelope in the making.
type request struct {
	w       *world
	r       *rand.Rand
	content map[string]any
	chain   []*signer // from the sender's key to the one that signs
	links   []map[string]any
	sender  *signer

	twist func(part string, it *item) []byte
	sig   func(b []byte) []byte // what happens to signatures
}

// newRequest is a good call, signed in one of the ways that users have.
func newRequest(w *world, r *rand.Rand, twist func(part string, it *item) []byte) *request {
	q := &request{w: w, r: r, twist: twist, sig: func(b []byte) []byte { return b }}
	kinds := []string{"ed25519", "secp256k1", "p256", "webauthn p256", "canister", "webauthn rsa"}
	var chain []*signer
	for i := range 1 + r.IntN(3) {
		chain = append(chain, w.newSigner(pick(r, kinds), i, twist))
		kinds = kinds[:5] // there is one RSA key, and no key may come twice
	}
	return q.by(chain...)
}

// by makes the request one of the first signer, signed by the last with delegations between them.
func (q *request) by(chain ...*signer) *request {
	w, r := q.w, q.r
	q.chain, q.links, q.sender = chain, nil, chain[0]
	q.content = map[string]any{
		"request_type": "call", "canister_id": w.canister.Bytes(), "method_name": "ws_message", "arg": unhex("4449444c0000"),
		"sender":         verify.SelfAuthenticating(q.sender.der).Bytes(),
		"ingress_expiry": uint64(w.now.Add(4 * time.Minute).UnixNano()),
	}
	if r.IntN(2) == 0 {
		q.content["nonce"] = unhex("00112233445566778899aabbccddeeff")
	}
	if r.IntN(8) == 0 {
		q.content["sender_info"] = map[string]any{"info": []byte{1}, "signer": w.canister.Bytes(), "sig": []byte{2, 3}}
	}
	for i := range len(q.chain) - 1 {
		d := map[string]any{"pubkey": q.chain[i+1].der, "expiration": uint64(w.now.Add(time.Hour).UnixNano())}
		switch r.IntN(4) {
		case 0:
			d["targets"] = []any{w.canister.Bytes(), []byte{1, 2, 3}}
		case 1:
			d["permissions"] = "all"
		}
		q.links = append(q.links, d)
	}
	return q
}

// itemOf is a value as CBOR, with sorted keys.
func itemOf(v any) *item {
	switch v := v.(type) {
	case string:
		return textItem(v)
	case []byte:
		return bytesItem(v)
	case uint64:
		return uintItem(v)
	case []any:
		list := arrayItem()
		for _, x := range v {
			list.kids = append(list.kids, itemOf(x))
		}
		return list
	}
	m := &item{major: mMap}
	for _, k := range slices.Sorted(maps.Keys(v.(map[string]any))) {
		m.kids = append(m.kids, textItem(k), itemOf(v.(map[string]any)[k]))
	}
	return m
}

// message is what is signed of a map.
func message(domain string, m map[string]any) []byte {
	hash, err := certification.HashAny(m)
	must(err)
	return append([]byte(domain), hash[:]...)
}

// build signs the request.
func (q *request) build() *testCase {
	last := q.chain[len(q.chain)-1]
	envelope := mapItem("content", itemOf(q.content), "sender_pubkey", bytesItem(q.sender.der),
		"sender_sig", bytesItem(q.sig(last.sign(q.r, message("\x0aic-request", q.content)))))
	if len(q.links) > 0 {
		list := arrayItem()
		for i, d := range q.links {
			by := q.chain[min(i, len(q.chain)-1)]
			list.kids = append(list.kids, mapItem("delegation", itemOf(d),
				"signature", bytesItem(q.sig(by.sign(q.r, message("\x1aic-request-auth-delegation", d))))))
		}
		envelope.kids = append(envelope.kids, textItem("sender_delegation"), list)
	}
	raw := q.twist("envelope", envelope)
	if q.r.IntN(2) == 0 {
		raw = append(selfDescribed[:3:3], raw...)
	}
	c := &testCase{world: q.w, now: q.w.now, envelope: raw}
	for i, s := range q.chain {
		if i > 0 {
			c.layout += " "
		}
		c.layout += s.kind
	}
	return c
}

// randomEnvelope makes an envelope, mostly with one thing odd.
func randomEnvelope(w *world, r *rand.Rand) *testCase {
	kind := pick(r, []string{"good", "cbor", "cbor", "cbor", "expiry", "delegations", "delegations", "damage", "signature", "signature", "sender"})
	part, how := "", ""
	twist := func(_ string, it *item) []byte { return it.encode() }
	switch kind {
	case "cbor":
		part, how = pick(r, []string{"envelope", "envelope", "envelope", "cose", "assertion", "canister signature", "certificate", "delegation"}), pick(r, twistKinds)
		twist = func(at string, it *item) []byte {
			if at != part {
				return it.encode()
			}
			raw, _ := it.twisted(r, how)
			return raw
		}
	case "damage":
		part, how = "envelope", pick(r, damageKinds)
		twist = func(at string, it *item) []byte {
			if at != part {
				return it.encode()
			}
			return damage(r, it.encode(), how)
		}
	}
	q := newRequest(w, r, twist)
	switch kind {
	case "expiry":
		offset := pick(r, []time.Duration{0, 1, -1, time.Second, 5 * time.Minute, 330 * time.Second, 330*time.Second + 1, 330*time.Second - 1, time.Hour, -time.Hour})
		q.content["ingress_expiry"], how = uint64(w.now.Add(offset).UnixNano()), offset.String()
	case "delegations":
		how = q.oddDelegations(r)
	case "signature":
		how = pick(r, []string{"cut", "longer", "zero", "flip", "zero s", "empty"})
		q.sig = func(b []byte) []byte {
			b = slices.Clone(b)
			switch {
			case how == "empty":
				return nil
			case how == "cut":
				return b[:len(b)-1]
			case how == "longer":
				return append(b, 0)
			case how == "zero":
				clear(b)
			case how == "zero s":
				clear(b[len(b)/2:])
			default:
				b[r.IntN(len(b))] ^= 1 << r.IntN(8)
			}
			return b
		}
	case "sender":
		how = pick(r, []string{"anonymous", "another", "long", "empty"})
		q.content["sender"] = map[string][]byte{"anonymous": {4}, "another": w.gateway.Bytes(), "long": make([]byte, 30), "empty": {}}[how]
	}
	c := q.build()
	c.kind, c.part, c.how = kind, part, how
	return c
}

// oddDelegations makes something of the delegations odd and says what.
func (q *request) oddDelegations(r *rand.Rand) string {
	how := pick(r, []string{"expires now", "expired", "other target", "no targets", "many", "too many", "circle", "queries", "no such permission", "far", "thousand targets", "more targets"})
	if len(q.links) == 0 {
		q.chain = append(q.chain, q.w.newSigner("ed25519", 9, q.twist))
		q.links = []map[string]any{{"pubkey": q.chain[1].der, "expiration": uint64(q.w.now.Add(time.Hour).UnixNano())}}
	}
	d := pick(r, q.links)
	targets := func(n int) []any {
		list := []any{q.w.canister.Bytes()}
		for len(list) < n {
			list = append(list, canisterBytes(uint64(len(list))))
		}
		return list
	}
	grow := func(n int) {
		for len(q.links) < n {
			next := q.w.newSigner("ed25519", 100+len(q.links), q.twist)
			q.links = append(q.links, map[string]any{"pubkey": next.der, "expiration": uint64(q.w.now.Add(time.Hour).UnixNano())})
			q.chain = append(q.chain, next)
		}
	}
	switch how {
	case "expires now":
		d["expiration"] = uint64(q.w.now.UnixNano())
	case "expired":
		d["expiration"] = uint64(q.w.now.UnixNano() - 1)
	case "far":
		d["expiration"] = uint64(1<<64 - 1)
	case "other target":
		d["targets"] = []any{[]byte{1, 2, 3}}
	case "no targets":
		d["targets"] = []any{}
	case "thousand targets":
		d["targets"] = targets(1000)
	case "more targets":
		d["targets"] = targets(1001)
	case "many":
		grow(20)
	case "too many":
		grow(21)
	case "circle":
		q.links = append(q.links, map[string]any{"pubkey": q.chain[0].der, "expiration": uint64(q.w.now.Add(time.Hour).UnixNano())})
		q.chain = append(q.chain, q.chain[0])
	case "queries":
		d["permissions"] = "queries"
	default:
		d["permissions"] = "nothing"
	}
	return how
}

// judgeEnvelope is our opinion of an envelope.
func (c *testCase) judgeEnvelope(a *verify.Authority) error {
	e, err := verify.ParseEnvelope(c.envelope)
	if err != nil {
		return err
	}
	if e.RequestType != verify.RequestCall || e.Canister != c.world.canister {
		return errAnother
	}
	if err := e.CheckExpiry(c.now); err != nil {
		return err
	}
	_, err = verify.VerifySender(e, c.now, a, nil)
	return err
}
