package verify

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/certification"
	"github.com/aviate-labs/agent-go/certification/bls"
	"github.com/aviate-labs/agent-go/certification/hashtree"
	"github.com/aviate-labs/agent-go/principal"
)

func agentPrincipal(p Principal) principal.Principal { return principal.Principal{Raw: p.Bytes()} }

// authorityOf returns an Authority with the given root key.
func authorityOf(t testing.TB, der []byte) *Authority {
	t.Helper()
	a, err := NewAuthority(der)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// wantCause fails the test unless err is an *Error with the given cause.
func wantCause(t testing.TB, err error, cause Cause) {
	t.Helper()
	if _, ok := errors.AsType[*Error](err); !ok || CauseOf(err) != cause {
		t.Errorf("got %v (cause %q), want cause %q", err, CauseOf(err), cause)
	}
}

// knownCertificate is a certificate that others made.
type knownCertificate struct {
	name     string
	root     []byte
	raw      []byte
	canister string
	now      time.Time
}

func knownCertificates(t testing.TB) []knownCertificate {
	return []knownCertificate{
		{"mainnet", MainnetRootKey(), vector(t, "mainnet_certificate"), "ivg37-qiaaa-aaaab-aaaga-cai", mainnetTime},
		{"specification", vector(t, "sample_root"), vector(t, "sample_certificate"), "5v3p4-iyaaa-aaaaa-qaaaa-cai", sampleTime},
		{"no delegation", vector(t, "flat_root"), vector(t, "flat_certificate"), vectorCanister, flatTime},
	}
}

func TestMainnetRootKey(t *testing.T) {
	if got := hex.EncodeToString(MainnetRootKey()); got != certification.RootKey {
		t.Errorf("got %s", got)
	}
	a := authorityOf(t, MainnetRootKey())
	if !bytes.Equal(a.RootKey(), MainnetRootKey()) || !a.IsMainnet() {
		t.Error("root key changes on its way through")
	}
	if authorityOf(t, vector(t, "flat_root")).IsMainnet() {
		t.Error("test network is mainnet")
	}
}

func TestCertificateKnown(t *testing.T) {
	for _, k := range knownCertificates(t) {
		t.Run(k.name, func(t *testing.T) {
			a := authorityOf(t, k.root)
			canister := parsed(t, k.canister)
			for range 3 { // the second and third time from the cache
				c, err := a.Certificate(k.raw, canister, k.now)
				if err != nil {
					t.Fatal(err)
				}
				if d := k.now.Sub(c.Time()).Abs(); d > time.Second {
					t.Errorf("time %v, want about %v", c.Time(), k.now)
				}
				if !c.Flat() {
					t.Error("not flat")
				}
			}
			s := a.Stats()
			if s.RootMisses != 1+s.DelegationMisses || s.RootHits != 2 || s.DelegationMisses > 1 {
				t.Errorf("stats %+v", s)
			}
			for _, edge := range []struct {
				now  time.Duration
				want Cause
			}{
				{MaxCertificateAge - time.Second, ""}, {-MaxClockSkew + time.Second, ""},
				{MaxCertificateAge + time.Second, CauseCertificateOld}, {-MaxClockSkew - time.Second, CauseCertificateFuture},
				{24 * time.Hour, CauseCertificateOld}, {-24 * time.Hour, CauseCertificateFuture},
			} {
				_, err := a.Certificate(k.raw, canister, k.now.Add(edge.now))
				if CauseOf(err) != edge.want {
					t.Errorf("%v later: got %v", edge.now, err)
				}
			}
			_, err := authorityOf(t, newTestNet(t).der(bls.NewSecretKeyByCSPRNG())).Certificate(k.raw, canister, k.now)
			wantCause(t, err, CauseSignature)
		})
	}
}

func TestCertificateContents(t *testing.T) {
	a := authorityOf(t, vector(t, "sample_root"))
	canister := parsed(t, "5v3p4-iyaaa-aaaaa-qaaaa-cai")
	c, err := a.Certificate(vector(t, "sample_certificate"), canister, sampleTime)
	if err != nil {
		t.Fatal(err)
	}
	data, r := c.Lookup([]byte("canister"), canister.Bytes(), []byte("certified_data"))
	if r != Found || hex.EncodeToString(data) != "619d02453b55ba8ea01da1d26df7083644ebe84a97afc8d4ece7f82453548eaa" {
		t.Errorf("certified data: got %x, %v", data, r)
	}
	if s, delegated := c.Subnet(); !delegated || hex.EncodeToString(s.Bytes()) != "cf9d54e35f653fd0fd4ff05e9c020923b719429c9a3139beaaf4871b02" {
		t.Errorf("subnet: got %v, %v", s, delegated)
	}
	// The test vector of the specification bounds the subnet's canisters: 00000000001000000101 to 00000000001fffff0101.
	for text, in := range map[string]bool{
		"00000000001000000101": true, "00000000001fffff0101": true, "00000000001abcde0101": true,
		"00000000000fffff0101": false, "00000000002000000101": false, "0000000000": false, "": false,
		"00000000001fffff010100": false, "0000000000100000010100": true, // byte strings, not numbers
	} {
		p, err := PrincipalFromBytes(unhex(t, text))
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.Certificate(vector(t, "sample_certificate"), p, sampleTime)
		if in && err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if !in {
			wantCause(t, err, CauseRange)
		}
		if theirs := agentVerify(vector(t, "sample_certificate"), p, vector(t, "sample_root")); (theirs == nil) != in {
			t.Errorf("%s: agent-go says %v", text, theirs)
		}
	}
	flat, err := authorityOf(t, vector(t, "flat_root")).Certificate(vector(t, "flat_certificate"), canister, flatTime)
	if err != nil {
		t.Fatal(err)
	}
	if s, delegated := flat.Subnet(); delegated || s != SelfAuthenticating(vector(t, "flat_root")) {
		t.Errorf("root subnet: got %v, %v", s, delegated)
	}
}

// Every byte of a certificate matters, except for what does not change its meaning: nothing is in a certificate that is
// neither checked for its form nor covered by a signature. A sample of bits at every position is flipped.
func TestCertificateEveryByteCounts(t *testing.T) {
	t.Parallel()
	for _, k := range knownCertificates(t) {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			a := authorityOf(t, k.root)
			canister := parsed(t, k.canister)
			if _, err := a.Certificate(k.raw, canister, k.now); err != nil {
				t.Fatal(err)
			}
			step := 1
			if testing.Short() {
				step = 7
			}
			for i := 0; i < len(k.raw); i += step {
				changed := bytes.Clone(k.raw)
				changed[i] ^= 1 << (i % 8)
				if _, err := a.Certificate(changed, canister, k.now); err == nil {
					t.Errorf("byte %d changed from %02x to %02x: accepted", i, k.raw[i], changed[i])
				}
			}
			for i := range k.raw {
				if _, err := a.Certificate(k.raw[:i], canister, k.now); CauseOf(err) != CauseMalformed {
					t.Errorf("cut to %d bytes: %v", i, err)
				}
			}
		})
	}
}

func TestCertificateDelegations(t *testing.T) {
	n := newTestNet(t)
	other := newTestNet(t)
	first, last := n.canisterRangeOf()
	canister := parsed(t, vectorCanister)
	above, _ := PrincipalFromBytes([]byte{0x80, 0, 0, 0, 0, 0x20, 0, 0, 1, 1})
	top, _ := PrincipalFromBytes([]byte{0x80, 0, 0, 0, 0, 0x2f, 0xff, 0xff, 1, 1})
	state := n.stateTree(canister, make([]byte, 32), n.now)
	flat, sharded := n.flatTree(first, last), n.shardedTree(first, last)
	idLabel := string(n.id.Bytes())
	week := n.timeNode(n.now.Add(-7 * 24 * time.Hour))
	key := labeled("public_key", hashtree.Leaf(n.der(n.subnet)))

	for _, tt := range []struct {
		name  string
		key   *bls.SecretKey
		tree  any // of the delegation
		raw   []byte
		want  Cause
		flat  bool
		agent bool // agent-go accepts it too
	}{
		{name: "flat", tree: flat, flat: true, agent: true},
		{name: "sharded", tree: sharded, agent: true},
		{name: "sharded, second shard", tree: n.shardedTree(above, top, first, last), want: CauseMalformed},
		{name: "sharded, first of two shards", tree: n.shardedTree(first, last, above, top), agent: true},
		{name: "flat of several ranges", tree: n.flatTree(Principal{}, Principal{}, first, last), flat: true, agent: true},
		{name: "flat and sharded disagree", tree: testLabels(
			labeled("canister_ranges", labeled(idLabel, labeled("a", n.ranges(first, last)))),
			labeled("subnet", labeled(idLabel, testLabels(
				labeled("canister_ranges", n.ranges(above, top)), key,
			))), week,
		), agent: true},
		{name: "out of range", tree: n.flatTree(above, top), want: CauseRange},
		{name: "out of the shards", tree: n.shardedTree(above, top), want: CauseRange},
		{name: "range turned round", tree: n.flatTree(last, first), want: CauseRange},
		{name: "no ranges", tree: testLabels(labeled("subnet", labeled(idLabel, key)), week), want: CauseRange},
		{name: "pruned shard", tree: testLabels(
			labeled("canister_ranges", labeled(idLabel, labeled("a", hashtree.Pruned{}))),
			labeled("subnet", labeled(idLabel, key)), week,
		), want: CauseRange},
		{name: "no public key", tree: testLabels(
			labeled("subnet", labeled(idLabel, labeled("canister_ranges", n.ranges(first, last)))), week,
		), want: CauseDelegation},
		{name: "key of another subnet", tree: n.flatTree(first, last), key: other.subnet, want: CauseSignature},
		{name: "signed by the root key though delegated", tree: flat, key: n.root, want: CauseSignature},
		{name: "public key that is none", tree: testLabels(labeled("subnet", labeled(idLabel, testLabels(
			labeled("canister_ranges", n.ranges(first, last)), labeled("public_key", leaf("key")),
		))), week), want: CauseMalformed},
		{name: "ranges that are none", tree: testLabels(labeled("subnet", labeled(idLabel, testLabels(
			labeled("canister_ranges", leaf("\x81\x81\x40")), key,
		))), week), want: CauseMalformed},
		// The SDK refuses both, though the signature is as good as before.
		{name: "time pruned away", tree: hashtree.Fork{
			LeftTree: flat.(hashtree.Fork).LeftTree, RightTree: hashtree.Pruned(flat.(hashtree.Fork).RightTree.Reconstruct()),
		}, want: CauseDelegation},
		{name: "no time", tree: flat.(hashtree.Fork).LeftTree, want: CauseDelegation},
		{name: "time of no bytes", tree: hashtree.Fork{LeftTree: flat.(hashtree.Fork).LeftTree, RightTree: labeled("time", leaf(""))}, want: CauseDelegation},
		{name: "time of too many bits", tree: hashtree.Fork{LeftTree: flat.(hashtree.Fork).LeftTree,
			RightTree: labeled("time", leaf("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"))}, want: CauseDelegation},
		{name: "ahead of the clock", tree: hashtree.Fork{LeftTree: flat.(hashtree.Fork).LeftTree,
			RightTree: n.timeNode(n.now.Add(MaxClockSkew + time.Second))}, want: CauseDelegation},
		{name: "as far ahead as may be", tree: hashtree.Fork{LeftTree: flat.(hashtree.Fork).LeftTree,
			RightTree: n.timeNode(n.now.Add(MaxClockSkew))}, flat: true, agent: true},
		{name: "certified by another network", raw: other.sign(other.root, flat, nil), want: CauseSignature},
		{name: "certified by the subnet itself", raw: n.sign(n.subnet, flat, nil), want: CauseSignature},
		{name: "nested", raw: n.sign(n.subnet, flat, n.delegation(flat)), want: CauseDelegation},
		{name: "not a certificate", raw: []byte{0x40}, want: CauseMalformed},
		{name: "empty", raw: []byte{}, want: CauseMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.raw == nil {
				tt.raw = n.sign(n.root, tt.tree.(hashtree.Node), nil)
			}
			if tt.key == nil {
				tt.key = n.subnet
			}
			cert := n.sign(tt.key, state, map[string][]byte{"subnet_id": n.id.Bytes(), "certificate": tt.raw})
			a := n.authority()
			for range 2 {
				c, err := a.Certificate(cert, canister, n.now)
				if tt.want != "" {
					wantCause(t, err, tt.want)
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if c.Flat() != tt.flat {
					t.Errorf("flat: got %v", c.Flat())
				}
			}
			if tt.agent {
				if err := agentVerify(cert, canister, n.der(n.root)); err != nil {
					t.Errorf("agent-go: %v", err)
				}
			}
		})
	}

	t.Run("delegation to another subnet", func(t *testing.T) {
		d := map[string][]byte{"subnet_id": other.id.Bytes(), "certificate": n.sign(n.root, flat, nil)}
		_, err := n.authority().Certificate(n.sign(n.subnet, state, d), canister, n.now)
		wantCause(t, err, CauseDelegation)
	})
}

func TestCertificateForms(t *testing.T) {
	n := newTestNet(t)
	canister := parsed(t, vectorCanister)
	state := n.stateTree(canister, make([]byte, 32), n.now)
	good := n.sign(n.root, state, nil)
	parts, err := parseCertificate(good)
	if err != nil {
		t.Fatal(err)
	}
	infinity := append([]byte{0xc0}, make([]byte, 47)...)
	form := func(kv ...any) []byte {
		out := appendCBORHead([]byte(selfDescribeTag), cborMap, uint64(len(kv)/2))
		for i := 0; i < len(kv); i += 2 {
			out = append(appendCBORText(out, kv[i].(string)), n.marshal(kv[i+1])...)
		}
		return out
	}
	raw := func(b []byte) any { return rawCBOR(b) }
	// The same tree, written otherwise: the head at i in another form. It starts with a fork, array(3) and the kind 1.
	tree := func(i int, head ...byte) any { return raw(slices.Concat(parts.tree[:i], head, parts.tree[i+1:])) }
	label := bytes.Index(parts.tree, []byte("\x44time"))
	for _, tt := range []struct {
		name string
		in   []byte
		want Cause
	}{
		{"as it is", good, ""},
		{"untagged", good[3:], CauseMalformed}, // replicas tag it, and some clients demand that
		{"other order", form("signature", parts.signature, "tree", raw(parts.tree)), ""},
		{"unknown key", form("signature", parts.signature, "tree", raw(parts.tree), "more", []int{1}), ""},
		{"unknown float", form("signature", parts.signature, "tree", raw(parts.tree), "more", 1e-5), CauseMalformed},
		{"unknown boolean", form("signature", parts.signature, "tree", raw(parts.tree), "more", true), ""},
		{"null delegation", form("signature", parts.signature, "tree", raw(parts.tree), "delegation", nil), ""},
		// These have the same meaning, but the SDK refuses them, or a decoder may.
		{"kind as a bignum", form("signature", parts.signature, "tree", tree(1, 0xc2, 0x41, 1)), CauseMalformed},
		{"kind of 64 bits", form("signature", parts.signature, "tree", tree(1, 0x1b, 0, 0, 0, 0, 0, 0, 0, 1)), CauseMalformed},
		{"kind of 8 bits", form("signature", parts.signature, "tree", tree(1, 0x18, 1)), CauseMalformed},
		{"array length of 32 bits", form("signature", parts.signature, "tree", tree(0, 0x9a, 0, 0, 0, 3)), CauseMalformed},
		{"label length of 64 bits", form("signature", parts.signature, "tree", tree(label, 0x5b, 0, 0, 0, 0, 0, 0, 0, 4)), CauseMalformed},
		{"tag in an unknown key", form("signature", parts.signature, "tree", raw(parts.tree), "more", raw([]byte{0xc1, 0x00})), CauseMalformed},
		{"tagged twice", slices.Concat([]byte(selfDescribeTag), good), CauseMalformed},
		{"prototype", form("signature", parts.signature, "tree", raw(parts.tree), "__proto__", map[string]any{"delegation": 1}), CauseMalformed},
		{"tree missing", form("signature", parts.signature), CauseMalformed},
		{"signature missing", form("tree", raw(parts.tree)), CauseMalformed},
		{"tree as bytes", form("signature", parts.signature, "tree", parts.tree), CauseMalformed},
		{"tree twice", form("tree", raw(parts.tree), "signature", parts.signature, "tree", raw(parts.tree)), CauseMalformed},
		{"delegation as bytes", form("signature", parts.signature, "tree", raw(parts.tree), "delegation", []byte{1}), CauseMalformed},
		{"delegation empty", form("signature", parts.signature, "tree", raw(parts.tree), "delegation", map[string]int{}), CauseMalformed},
		{"signature short", form("signature", parts.signature[:47], "tree", raw(parts.tree)), CauseSignature},
		{"signature long", form("signature", append(bytes.Clone(parts.signature), 0), "tree", raw(parts.tree)), CauseSignature},
		{"signature empty", form("signature", []byte{}, "tree", raw(parts.tree)), CauseSignature},
		{"signature at infinity", form("signature", infinity, "tree", raw(parts.tree)), CauseSignature},
		{"signature zero", form("signature", make([]byte, 48), "tree", raw(parts.tree)), CauseSignature},
		{"bytes after it", append(bytes.Clone(good), 0), CauseMalformed},
		{"no time", n.sign(n.root, labeled("time", hashtree.Empty{}), nil), CauseMalformed},
		{"time pruned", n.sign(n.root, hashtree.Pruned(state.Reconstruct()), nil), CauseMalformed},
		{"time empty", n.sign(n.root, labeled("time", leaf("")), nil), CauseMalformed},
		{"time cut", n.sign(n.root, labeled("time", leaf("\x80\x80")), nil), CauseMalformed},
		{"time over 64 bits", n.sign(n.root, labeled("time", leaf(strings.Repeat("\xff", 9)+"\x02")), nil), CauseMalformed},
		{"time over 63 bits", n.sign(n.root, labeled("time", leaf(strings.Repeat("\xff", 9)+"\x01")), nil), CauseMalformed},
		{"time with more after it", n.sign(n.root, labeled("time", leaf("\x01\x01")), nil), CauseMalformed},
		{"a status page", []byte("<html>"), CauseMalformed},
		{"ten thousand deep", append([]byte("\xa1\x64tree"), bytes.Repeat([]byte{0x81}, 10000)...), CauseMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := n.authority().Certificate(tt.in, canister, n.now)
			if tt.want == "" && err != nil {
				t.Error(err)
			}
			if tt.want != "" {
				wantCause(t, err, tt.want)
			}
			if tt.want == CauseMalformed && !errors.Is(err, ErrMalformed) {
				t.Errorf("%v does not wrap ErrMalformed", err)
			}
		})
	}
}

// rawCBOR is encoded as what it holds.
type rawCBOR []byte

func (r rawCBOR) MarshalCBOR() ([]byte, error) { return r, nil }

func TestRootKeyRefused(t *testing.T) {
	good := MainnetRootKey()
	infinity := append(bytes.Clone(good[:37]), 0xc0)
	infinity = append(infinity, make([]byte, 95)...)
	for name, der := range map[string][]byte{
		"empty": nil, "short": good[:132], "long": append(bytes.Clone(good), 0), "infinity": infinity,
		"not on the curve": append(bytes.Clone(good[:132]), good[132]^1),
		"another type":     append([]byte{0x30, 0x81, 0x83}, good[3:]...),
		"uncompressed":     append(append(bytes.Clone(good[:37]), good[37]&0x1f), good[38:]...),
	} {
		if _, err := NewAuthority(der); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReplaceDelegation(t *testing.T) {
	n := newTestNet(t)
	canister := parsed(t, vectorCanister)
	state := n.stateTree(canister, make([]byte, 32), n.now)
	first, last := n.canisterRangeOf()
	sharded := n.sign(n.subnet, state, n.delegation(n.shardedTree(first, last)))
	donor := n.sign(n.subnet, n.timeNode(n.now.Add(-time.Hour)), n.delegation(n.flatTree(first, last)))
	a := n.authority()
	if c, err := a.Certificate(sharded, canister, n.now); err != nil || c.Flat() {
		t.Fatalf("sharded: %v", err)
	}
	out, err := ReplaceDelegation(sharded, donor)
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.Certificate(out, canister, n.now)
	if err != nil || !c.Flat() {
		t.Fatalf("replaced: %v", err)
	}
	if err := agentVerify(out, canister, n.der(n.root)); err != nil {
		t.Errorf("agent-go: %v", err)
	}
	// A delegation in the middle of the map, and the way back.
	back, err := ReplaceDelegation(out, sharded)
	if err != nil || !bytes.Equal(back, sharded) {
		t.Errorf("there and back: %v", err)
	}

	other := newTestNet(t)
	for name, tt := range map[string]struct {
		cert, donor []byte
		want        Cause
	}{
		"no delegation":    {n.sign(n.root, state, nil), donor, CauseDelegation},
		"donor has none":   {sharded, n.sign(n.root, state, nil), CauseDelegation},
		"another subnet":   {sharded, other.certificate(canister, nil), CauseDelegation},
		"no certificate":   {sharded[:100], donor, CauseMalformed},
		"donor is nothing": {sharded, nil, CauseMalformed},
	} {
		_, err := ReplaceDelegation(tt.cert, tt.donor)
		if CauseOf(err) != tt.want {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
