//go:build e2e

package opinion

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/certification"
	agentprincipal "github.com/aviate-labs/agent-go/principal"
	"github.com/fxamacker/cbor/v2"

	"github.com/icws-gateway/caddy-icws/verify"
)

// known is a difference that is as it should be, or that costs nobody anything.
type known struct {
	name, reason string
	opinions     []string // who differs
	match        func(c *testCase) bool
	make         func(w *world, r *rand.Rand) *testCase // a case in which all of them do
}

var (
	agents      = []string{"agent3", "core5", "core6"}
	ours        = []string{"client5", "client6"} // the client of this repository
	clients     = append(append([]string{"sdk"}, agents...), ours...)
	everyone    = append([]string{"network", "agent-go"}, clients...)
	onlyNetwork = []string{"network"}
)

func is(s string, of ...string) bool { return slices.Contains(of, s) }

func never(*testCase) bool { return false }

// onPage makes a page in which change has made something odd.
func onPage(change func(p *page)) func(w *world, r *rand.Rand) *testCase {
	return func(w *world, r *rand.Rand) *testCase {
		p := newPage(w, r)
		p.layout = "flat"
		change(p)
		return p.build(1)[0]
	}
}

// onRequest makes an envelope in which change has made something odd.
func onRequest(change func(q *request)) func(w *world, r *rand.Rand) *testCase {
	return func(w *world, r *rand.Rand) *testCase {
		q := newRequest(w, r, func(_ string, it *item) []byte { return it.encode() })
		q.by(w.newSigner("ed25519", 0, q.twist))
		change(q)
		return q.build()
	}
}

// onPart changes how one part is written.
func onPart(part string, change func(it *item) *item) func(string, *item) []byte {
	return func(at string, it *item) []byte {
		if at == part {
			it = change(it)
		}
		return it.encode()
	}
}

// inTree changes one tree.
func inTree(part string, change func(t *node) *node) func(string, *node) *node {
	return func(at string, t *node) *node {
		if at != part {
			return t
		}
		return change(t)
	}
}

// each changes every node of a tree, those below first.
func (t *node) each(change func(t *node) *node) *node {
	c := *t
	if t.left != nil {
		c.left = t.left.each(change)
	}
	if t.right != nil {
		c.right = t.right.each(change)
	}
	return change(&c)
}

// beside puts a tree to the left of every node with one of the labels.
func beside(left *node, labels ...string) func(t *node) *node {
	return func(t *node) *node {
		return t.each(func(t *node) *node {
			if t.kind == nLabeled && is(string(t.b), labels...) {
				return fork(left, t)
			}
			return t
		})
	}
}

// differences are all that are known. Each is shown by a case of its own: one that is gone is to be struck out.
var differences = []known{
	{
		"prefix of a label", "JavaScript takes a label that begins with another for the smaller one; on the way to what is looked up, no state tree has such labels unpruned",
		clients,
		func(c *testCase) bool {
			return is(c.part, "state", "delegation") && is(c.how, "prefix label", "empty label")
		},
		onPage(func(p *page) {
			p.shape = inTree("state", beside(labeled("can", leaf(nil)), "canister"))
		}),
	},
	{
		"empty half", "nobody looks beside an empty half of a fork; state trees have none, and what is signed cannot be given one",
		everyone,
		func(c *testCase) bool {
			return is(c.part, "state", "delegation") && is(c.how, "empty left", "empty right")
		},
		onPage(func(p *page) {
			p.shape = inTree("delegation", beside(emptyNode(), "canister_ranges", "subnet", "public_key"))
		}),
	},
	{
		"delegation older than 30 days", "newer agents have that bound, the SDK has none; replicas renew theirs every quarter of an hour",
		agents,
		func(c *testCase) bool { return c.kind == "time" && is(c.part, "delegation", "odd delegation") },
		onPage(func(p *page) { p.delegatedAt = timeLeaf(p.now.Add(-30*24*time.Hour - time.Second)) }),
	},
	{
		"ranges of ids of another length", "Rust orders principals by length first, everybody else by bytes; all canisters have ids of ten bytes",
		onlyNetwork,
		func(c *testCase) bool { return c.kind == "ranges" || c.part == "ranges" },
		onPage(func(p *page) { p.rangeItem = arrayItem(arrayItem(bytesItem([]byte{0x80}), bytesItem([]byte{0xff}))) }),
	},
	{
		"payload", "what it means is between the canister and its clients",
		append([]string{"sdk"}, ours...),
		func(c *testCase) bool {
			return !bytes.Equal(c.payload, c.world.payload(true)) && !bytes.Equal(c.payload, c.world.payload(false)) ||
				c.part == "content" && is(c.how, "simple", "flip", "swap")
		},
		onPage(func(p *page) { p.content.entry("content", bytesItem([]byte("DIDL"))) }),
	},
	{
		"agent-go's decoder", "it stops at 32 levels and takes names for those of Go's fields, whatever their case",
		[]string{"agent-go"},
		func(c *testCase) bool {
			return c.how == "deep" || is(c.part, "certificate", "delegation") && is(c.how, "unknown", "unknown float", "__proto__", "object name", "wide") || c.kind == "time" || c.kind == "ranges" || c.part == "ranges"
		},
		onPage(func(p *page) {
			p.shape = inTree("state", func(t *node) *node {
				for range 40 {
					t = fork(t, pruned(labeled("\xff", leaf(nil))))
				}
				return t
			})
		}),
	},

	// What the network takes from clients and the gateway does not.
	{
		"shapes of serde_cbor", "Rust overlooks tags, takes text for bytes and bytes for names, and joins strings written in parts; no client is known to write any of it",
		onlyNetwork,
		func(c *testCase) bool {
			return errors.Is(c.accepted, verify.ErrMalformed) &&
				is(c.how, "indefinite", "tag 64", "tag 55799", "tag 24", "bytes key", "other string", "wide", "flip", "insert", "swap")
		},
		onRequest(func(q *request) {
			q.twist = onPart("envelope", func(it *item) *item {
				signature := it.kids[5].b
				half := append(appendHead([]byte{0x5f}, mBytes, 32, 0), signature[:32]...)
				half = append(append(appendHead(half, mBytes, 32, 0), signature[32:]...), 0xff)
				return it.entry("sender_sig", rawItem(half...))
			})
		}),
	},
	{
		"unsigned fields", "the network does not look at fields it does not know, nor hash them; here they count as signed, because a newer network may know them",
		onlyNetwork,
		func(c *testCase) bool {
			return c.kind == "cbor" && is(c.how, "unknown", "unknown float", "__proto__", "object name", "duplicate", "duplicate other")
		},
		onRequest(func(q *request) {
			q.twist = onPart("envelope", func(it *item) *item {
				it.kids[1].with("x", uintItem(1))
				return it
			})
		}),
	},
	{
		"ed25519 of small order", "the network verifies by ZIP 215, Go by RFC 8032; they differ for points that no signer makes",
		onlyNetwork, never,
		onRequest(func(q *request) {
			key := append(unhex("302a300506032b6570032100"), 1)
			key = append(key, make([]byte, 31)...)
			r := append([]byte{0xec}, bytes.Repeat([]byte{0xff}, 30)...) // a point of order two
			sig := append(append(r, 0x7f), make([]byte, 32)...)
			q.by(&signer{kind: "identity point", der: key, sign: func(*rand.Rand, []byte) []byte { return sig }})
		}),
	},
}

// difference finds the listed one that explains a violation.
func difference(c *testCase, v violation) *known {
	for i := range differences {
		if d := &differences[i]; is(v.opinion, d.opinions...) && d.match(c) {
			return d
		}
	}
	return nil
}

// directedCases makes one case from each of the functions.
func directedCases(w *world, a *verify.Authority, makers []func(*world, *rand.Rand) *testCase) []*testCase {
	var cases []*testCase
	for i, f := range makers {
		c := f(w, rand.New(rand.NewPCG(uint64(i), 0)))
		c.kind, c.number, c.directed = "directed", i, true
		c.judge(a)
		cases = append(cases, c)
	}
	return cases
}

// TestDifferences shows that the listed differences are there.
func TestDifferences(t *testing.T) {
	prepare(t)
	w := newWorld()
	a, err := verify.NewAuthority(w.root.der)
	must(err)
	var makers []func(*world, *rand.Rand) *testCase
	for _, d := range differences {
		makers = append(makers, d.make)
	}
	cases := directedCases(w, a, makers)
	verdicts := ask(t, cases)
	for i, d := range differences {
		t.Run(d.name, func(t *testing.T) {
			var who []string
			for _, v := range cases[i].broken(verdicts[i]) {
				who = append(who, v.opinion)
			}
			for _, name := range d.opinions {
				if !slices.Contains(who, name) {
					t.Errorf("%s does not differ any more: strike the difference out or correct it (here: %v, %v; others %q)\nlisted because %s\n%s",
						name, cases[i].accepted, cases[i].undelivered, verdicts[i], d.reason, cases[i].line())
				}
			}
			for _, name := range who {
				if !slices.Contains(d.opinions, name) {
					t.Errorf("%s differs too: %q", name, verdicts[i][name])
				}
			}
		})
	}
}

// agentGo is the opinion of agent-go about a certificate. It panics on some bytes.
func agentGo(c *testCase) (verdict string) {
	defer func() {
		if p := recover(); p != nil {
			verdict = fmt.Sprintf("panic: %v", p)
		}
	}()
	var cert certification.Certificate
	if err := cbor.NewDecoder(bytes.NewReader(c.reply.Cert)).Decode(&cert); err != nil {
		return err.Error()
	}
	if err := certification.VerifyCertificate(cert, agentprincipal.Principal{Raw: c.world.canister.Bytes()}, c.world.root.der); err != nil {
		return err.Error()
	}
	return ""
}
