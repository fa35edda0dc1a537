//go:build e2e

package opinion

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// page is a reply of ws_get_messages in the making. Each part starts out good; a case makes one of them odd.
type page struct {
	w *world
	r *rand.Rand

	now         time.Time
	nonce       uint64
	service     bool
	contentTag  bool
	content     *item
	certTag     bool
	at          *node // certified time
	layout      string
	rangeItem   *item
	delegatedAt *node
	delegTag    bool
	rootSigner  *blsKey
	subSigner   *blsKey

	twist func(part string, it *item) []byte // how parts are written
	shape func(part string, t *node) *node   // how trees are shaped
	bytes func(part string, b []byte) []byte // what happens to what was written
}

// newPage is a good page.
func newPage(w *world, r *rand.Rand) *page {
	p := &page{
		w: w, r: r, now: w.now, nonce: pick(r, []uint64{0, 1, 51, 1 << 40, math.MaxUint64 - 12}),
		service: r.IntN(2) == 0, contentTag: r.IntN(2) == 0, certTag: true, delegTag: true,
		at: timeLeaf(w.now.Add(-time.Second)), delegatedAt: timeLeaf(w.now.Add(-11 * time.Minute)),
		layout:    pick(r, []string{"flat", "flat", "flat", "none"}),
		rangeItem: ranges(0x8000000000100000, 0x80000000001fffff), rootSigner: w.root, subSigner: w.subnet,
		twist: func(_ string, it *item) []byte { return it.encode() },
		shape: func(_ string, t *node) *node { return t },
		bytes: func(_ string, b []byte) []byte { return b },
	}
	p.content = w.content(p.service)
	return p
}

// write writes a part, with the self-describe tag if wanted.
func (p *page) write(part string, it *item, tagged bool) []byte {
	raw := p.twist(part, it)
	if tagged {
		raw = append(selfDescribed[:3:3], raw...)
	}
	return p.bytes(part, raw)
}

// build makes the cases: one for each message.
func (p *page) build(messages int) (cases []*testCase) {
	w := p.w
	var contents [][]byte
	for range messages {
		contents = append(contents, p.write("content", p.content, p.contentTag))
	}
	witness := p.shape("witness", w.witness(p.r, p.nonce, contents...))
	certified := witness.digest()
	state := p.shape("state", w.stateTree(p.r, certified[:], p.at))
	reply := &verify.Reply{Tree: p.write("witness", witness.item(), true), EndOfQueue: true}
	for i, c := range contents {
		reply.Messages = append(reply.Messages, verify.Message{
			Client: w.client, Key: []byte(w.messageKey(p.nonce + uint64(i))), Content: c,
		})
	}
	signer := p.subSigner
	var delegation *item
	if p.layout == "none" {
		if signer == w.subnet {
			signer = p.rootSigner
		}
	} else {
		delegation = w.delegationOf(p.write("delegation", p.delegation(), p.delegTag))
	}
	reply.Cert = p.write("certificate", certificate(signer, state, delegation), p.certTag)
	for i := range contents {
		cases = append(cases, &testCase{world: w, now: p.now, nonce: p.nonce, reply: reply, message: i, layout: p.layout})
	}
	return cases
}

// delegation is the certificate in the delegation. Good ones are few, so that nobody checks the same signature too often.
func (p *page) delegation() *item {
	r := rand.New(rand.NewPCG(7, p.r.Uint64N(4)))
	tree := p.w.delegationTree(r, p.layout, p.write("ranges", p.rangeItem, true), p.delegatedAt)
	return certificate(p.rootSigner, p.shape("delegation", tree), nil)
}

// parts of a page that are CBOR, and those that are trees.
var (
	cborParts = []string{"content", "witness", "certificate", "certificate", "delegation", "ranges"}
	treeParts = []string{"witness", "state", "delegation"}
)

// offsets are distances in time around the bounds that somebody has.
var offsets = []time.Duration{
	0, 1, -1, time.Millisecond, -time.Millisecond, 4 * time.Minute, 4*time.Minute - 1, 4*time.Minute + 1, 5 * time.Minute, 5*time.Minute - 1,
	5*time.Minute + 1, 5*time.Minute + time.Millisecond, -5 * time.Minute, -5*time.Minute + 1, -5*time.Minute - 1,
	-5*time.Minute - time.Millisecond, -6 * time.Minute, 6 * time.Minute, time.Hour, -time.Hour, 29 * 24 * time.Hour,
	30 * 24 * time.Hour, 30*24*time.Hour + time.Second, 400 * 24 * time.Hour,
}

// oddTimes are values at "time" that are no plain number of nanoseconds.
var oddTimes = [][]byte{
	{}, {0}, {0x80}, {0x80, 0}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
	{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
}

// randomPage makes the cases of a page, mostly with one thing odd; if that is in the messages, in each another.
func randomPage(w *world, r *rand.Rand) []*testCase {
	p := newPage(w, r)
	messages := 1
	kind := pick(r, []string{"good", "cbor", "cbor", "cbor", "cbor", "tree", "tree", "tree", "time", "time", "ranges", "tags", "damage", "keys", "layout"})
	part, how := "", ""
	var hows []string // of each message
	switch kind {
	case "cbor":
		part, how = pick(r, cborParts), pick(r, twistKinds)
		p.twist = func(at string, it *item) []byte {
			if at != part {
				return it.encode()
			}
			if part == "content" {
				how = pick(r, twistKinds)
				hows = append(hows, how)
			}
			raw, _ := it.twisted(r, how)
			return raw
		}
	case "tree":
		part, how = pick(r, treeParts), pick(r, treeTwists)
		p.shape = func(at string, t *node) *node {
			if at != part {
				return t
			}
			return t.twist(r, how)
		}
	case "time":
		part = pick(r, []string{"certificate", "certificate", "delegation", "odd", "odd delegation"})
		offset := pick(r, offsets)
		how = offset.String()
		switch part {
		case "certificate":
			p.at = timeLeaf(p.now.Add(-offset))
		case "delegation":
			p.delegatedAt = timeLeaf(p.now.Add(-offset))
		case "odd", "odd delegation":
			odd := leaf(pick(r, oddTimes))
			if r.IntN(8) == 0 {
				odd = nil
			} else if r.IntN(8) == 0 {
				odd = labeled("x", odd)
			}
			if part == "odd" {
				p.at = odd
			} else {
				p.delegatedAt = odd
			}
			how = "odd"
		}
	case "ranges":
		id := uint64(0x8000000000100001)
		bounds := [][]uint64{
			{id, id}, {id, id + 5}, {id - 5, id}, {id + 1, id + 5}, {id - 5, id - 1}, {}, {id + 1, id - 1}, {1, 2, id, id}, {1, 2, 3, 4},
			{0, math.MaxUint64},
		}
		p.rangeItem, how = ranges(pick(r, bounds)...), "bounds"
		if r.IntN(4) == 0 { // ids of another length than canisters have
			short := pick(r, [][]byte{{}, {0x80}, {0xff}, w.canister.Bytes()[:9], append(w.canister.Bytes(), 0)})
			p.rangeItem, how = arrayItem(arrayItem(bytesItem(short), bytesItem([]byte{0xff}))), "short ids"
		}
	case "tags":
		p.certTag, p.delegTag, p.contentTag = r.IntN(2) == 0, r.IntN(2) == 0, r.IntN(2) == 0
	case "damage":
		part, how = pick(r, cborParts), pick(r, damageKinds)
		p.bytes = func(at string, b []byte) []byte {
			if at != part {
				return b
			}
			if part == "content" {
				how = pick(r, damageKinds)
				hows = append(hows, how)
			}
			return damage(r, b, how)
		}
	case "keys":
		how = pick(r, []string{"stranger signs", "stranger delegates", "root signs for subnet"})
		switch how {
		case "stranger signs":
			p.subSigner = w.stranger
		case "stranger delegates":
			p.rootSigner = w.stranger
		default:
			p.subSigner = w.root
		}
	case "layout":
		p.layout = pick(r, []string{"sharded", "both", "neither"})
		how = p.layout
	}
	if part == "content" {
		messages = 12
	}
	cases := p.build(messages)
	for i, c := range cases {
		c.kind, c.part, c.how = kind, part, how
		if hows != nil {
			c.how = hows[i]
		}
	}
	return cases
}
