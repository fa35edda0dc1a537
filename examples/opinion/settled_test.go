//go:build e2e

package opinion

import (
	"bytes"
	"crypto/elliptic"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/icws-gateway/caddy-icws/verify"
)

// settled is a question that came up, with a case that answers it.
type settled struct {
	question string
	make     func(w *world, r *rand.Rand) *testCase
	// want are the verdicts: "here" is that of package verify on certificate or envelope, "delivered" whether the message
	// goes to the client. An empty verdict accepts, another one is part of the reason.
	want map[string]string
}

// all is the same verdict by each.
func all(names []string, verdict string) map[string]string {
	m := map[string]string{}
	for _, name := range names {
		m[name] = verdict
	}
	return m
}

// and adds the verdict of one more.
func and(m map[string]string, name, verdict string) map[string]string {
	m[name] = verdict
	return m
}

// here are both verdicts of package verify.
var here = []string{"here", "delivered"}

// signedBy makes an envelope signed by a key of one kind, with sig as the last word on signatures.
func signedBy(kind string, sig func(b []byte) []byte) func(*world, *rand.Rand) *testCase {
	return onRequest(func(q *request) {
		q.by(q.w.newSigner(kind, 0, q.twist))
		q.sig = sig
	})
}

// rsaModulus makes an envelope with an RSA key of that size which signed nothing.
func rsaModulus(bits int) func(*world, *rand.Rand) *testCase {
	return onRequest(func(q *request) {
		n := bytes.Repeat([]byte{0xff}, bits/8)
		s := &signer{kind: "rsa"}
		s.webauthn(q.twist, coseItem(3, -257, -1, bytesItem(n), -2, bytesItem([]byte{1, 0, 1})), func([]byte) []byte { return n[1:] })
		q.by(s)
	})
}

func low(b []byte) []byte { return b }

var questions = []settled{
	{
		// SDK and agents do not either, but the client for .NET does (EdjCase.ICP.Agent, Certificate.FromCbor). Replicas write
		// it, so certificates without it are refused here.
		"does the network demand the self-describe tag of a certificate",
		onPage(func(p *page) { p.certTag, p.delegTag, p.contentTag = false, false, false }),
		and(and(all([]string{"network", "agent-go"}, ""), "here", "without self-describe tag"), "delivered", "without self-describe tag"),
	},
	{
		"does the root subnet's certificate count for every canister",
		onPage(func(p *page) { p.layout = "none" }),
		all(slices.Concat(everyone, here), ""),
	},
	{
		"do clients read messages that are maps of indefinite length",
		onPage(func(p *page) {
			p.twist = func(part string, it *item) []byte {
				if part != "content" {
					return it.encode()
				}
				return append(it.appendKids([]byte{0xbf}, nil), 0xff)
			}
		}),
		all(slices.Concat(clients, here), ""),
	},
	{
		"do clients read wide integers in messages",
		onPage(func(p *page) { p.content.entry("sequence_num", rawItem(0x1b, 0, 0, 0, 0, 0, 0, 0, 1)) }),
		all(slices.Concat(clients, here), ""),
	},
	{
		"do clients read byte strings of messages in the tag of typed arrays",
		onPage(func(p *page) {
			p.content.entry("content", rawItem(append([]byte{0xd8, 64}, p.content.kids[9].encode()...)...))
		}),
		and(and(all(agents, "Unsupported tag: 64"), "delivered", "malformed"), "sdk", "4000"),
	},
	{
		"do clients read bignums in messages",
		onPage(func(p *page) { p.content.entry("sequence_num", rawItem(0xc2, 0x41, 1)) }),
		and(and(all(agents, "Unsupported tag: 2"), "sdk", ""), "delivered", "malformed"),
	},
	{
		"may a request expire now",
		onRequest(func(q *request) { q.content["ingress_expiry"] = uint64(q.w.now.UnixNano()) }),
		all([]string{"network", "here"}, ""),
	},
	{
		"may a delegation expire now",
		onRequest(func(q *request) {
			q.by(q.w.newSigner("ed25519", 0, q.twist), q.w.newSigner("ed25519", 1, q.twist))
			q.links[0]["expiration"] = uint64(q.w.now.UnixNano())
		}),
		all([]string{"network", "here"}, ""),
	},
	{
		"does the network take Ed25519 from authenticators",
		signedBy("webauthn ed25519", low),
		map[string]string{"network": "algorithm not supported", "here": "unknown signature scheme"},
	},
	{
		"does the network take s in the upper half on secp256k1",
		signedBy("secp256k1", func(b []byte) []byte { return upper(b, true) }),
		all([]string{"network", "here"}, ""),
	},
	{
		"does the network take s in the upper half on P-256",
		signedBy("p256", func(b []byte) []byte { return upper(b, false) }),
		all([]string{"network", "here"}, ""),
	},
	{
		"does the network read RSA keys of 4096 bits",
		rsaModulus(4096),
		map[string]string{"network": "verification error"},
	},
	{
		"does the network read RSA keys of more bits",
		rsaModulus(4104),
		map[string]string{"network": "modulus too large", "here": "RSA modulus"},
	},
	{
		"does the network hash sender_info as a map",
		onRequest(func(q *request) {
			q.content["sender_info"] = map[string]any{"info": []byte{1}, "signer": q.w.canister.Bytes(), "sig": []byte{2}}
		}),
		all([]string{"network", "here"}, ""),
	},
}

// upper puts s into the upper half of the group's order.
func upper(sig []byte, onSecp256k1 bool) []byte {
	n := elliptic.P256().Params().N
	if onSecp256k1 {
		n = secp256k1.S256().N
	}
	other := slices.Clone(sig)
	highS(other, n)
	if bytes.Compare(other[32:], sig[32:]) < 0 {
		return sig
	}
	return other
}

// TestSettled holds the answers to questions that are not to come up again.
func TestSettled(t *testing.T) {
	prepare(t)
	w := newWorld()
	a, err := verify.NewAuthority(w.root.der)
	must(err)
	var makers []func(*world, *rand.Rand) *testCase
	for _, q := range questions {
		makers = append(makers, q.make)
	}
	cases := directedCases(w, a, makers)
	verdicts := ask(t, cases)
	for i, q := range questions {
		t.Run(q.question, func(t *testing.T) {
			c, got := cases[i], verdicts[i]
			for name, err := range map[string]error{"here": c.accepted, "delivered": c.undelivered} {
				if got[name] = ""; err != nil {
					got[name] = err.Error()
				}
			}
			for name, want := range q.want {
				verdict, asked := got[name]
				if !asked || (want == "") != (verdict == "") || !strings.Contains(verdict, want) {
					t.Errorf("%s says %q, want %q\nall: %q\n%s", name, verdict, want, got, c.line())
				}
			}
		})
	}
}
