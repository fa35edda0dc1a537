package localnet

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// subnet is a replicated state machine: canisters, ingress messages and the
// certified state over both.
type subnet struct {
	net    *Network
	id     verify.Principal
	key    *blsKey
	nodes  []replicaNode
	ranges []canisterRange // ascending, fixed once the subnet is described

	vouched delegations // what the root subnet says of this one; empty for the root

	mu       sync.Mutex
	slots    map[verify.Principal]*slot
	nextID   uint64
	requests map[[32]byte]*ingress
	expiring []*ingress      // by expiry, to forget old requests
	due      []*ingress      // accepted and not yet executed
	conts    []*continuation // what canisters wait for
	timers   []*canisterTimer
	alarm    *time.Timer
	gone     bool

	// The state tree in parts; put together when a round is certified.
	subnetTree, rangeTree, canisterTree, requestTree *node

	rounds []*round // newest last
	dirty  bool
}

// replicaNode is a machine of a subnet; it signs query replies.
type replicaNode struct {
	id  verify.Principal
	key ed25519.PrivateKey
}

// ed25519Prefix is the DER of an Ed25519 public key up to the key.
var ed25519Prefix, _ = hex.DecodeString("302a300506032b6570032100")

func ed25519DER(key ed25519.PrivateKey) []byte {
	return append(append([]byte{}, ed25519Prefix...), key.Public().(ed25519.PublicKey)...)
}

func newSubnet(n *Network, name string, ranges []canisterRange) *subnet {
	s := &subnet{
		net:      n,
		key:      newBLSKey(seedFor(n.opts.Seed, name)),
		ranges:   ranges,
		slots:    map[verify.Principal]*slot{},
		nextID:   firstCanister(len(n.hosts)),
		requests: map[[32]byte]*ingress{},
		dirty:    true,
	}
	s.id = verify.SelfAuthenticating(s.key.der)
	for i := range n.opts.Nodes {
		seed := seedFor(n.opts.Seed, fmt.Sprintf("%s node %d", name, i))
		key := ed25519.NewKeyFromSeed(seed[:])
		s.nodes = append(s.nodes, replicaNode{verify.SelfAuthenticating(ed25519DER(key)), key})
	}
	return s
}

// holds tells whether id falls into the ranges of the subnet.
func (s *subnet) holds(id verify.Principal) bool {
	i := sort.Search(len(s.ranges), func(i int) bool { return s.ranges[i].to.Compare(id) >= 0 })
	return i < len(s.ranges) && s.ranges[i].from.Compare(id) <= 0
}

// describe enters other into the state tree of s: its key, its ranges in both
// layouts and, for s itself, its nodes.
func (s *subnet) describe(other *subnet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var info *node
	info = info.with([]byte("public_key"), leafOf(other.key.der))
	info = info.with([]byte("type"), leafOf([]byte(other.kind())))
	info = info.with([]byte("canister_ranges"), leafOf(appendRanges(nil, other.ranges)))
	if other == s {
		var nodes *node
		for _, n := range s.nodes {
			key := (*node)(nil).with([]byte("public_key"), leafOf(ed25519DER(n.key)))
			nodes = nodes.with(n.id.Bytes(), mapOf(key))
		}
		info = info.with([]byte("node"), mapOf(nodes))
	}
	s.subnetTree = s.subnetTree.with(other.id.Bytes(), mapOf(info))

	var shards *node
	for i := range other.ranges {
		shard := other.ranges[i : i+1]
		shards = shards.with(shard[0].from.Bytes(), leafOf(appendRanges(nil, shard)))
	}
	s.rangeTree = s.rangeTree.with(other.id.Bytes(), mapOf(shards))
	s.dirty = true
}

func (s *subnet) kind() string {
	if s == s.net.root {
		return "system"
	}
	return "application"
}

// appendRanges writes a tagged CBOR list of [from, to] pairs.
func appendRanges(dst []byte, ranges []canisterRange) []byte {
	dst = appendArray(append(dst, selfDescribe...), len(ranges))
	for _, r := range ranges {
		dst = appendArray(dst, 2)
		dst = appendBytes(dst, r.from.Bytes())
		dst = appendBytes(dst, r.to.Bytes())
	}
	return dst
}

// layout is the form in which a delegation states the ranges of its subnet.
type layout int

const (
	flat    layout = iota // one list at /subnet/<id>/canister_ranges
	sharded               // lists at /canister_ranges/<id>/<first id>
)

// delegations are the encoded values of a certificate's delegation field.
type delegations struct {
	bare   []byte // without ranges
	flat   []byte
	shards map[verify.Principal][]byte // by the first id of the shard
}

// delegate has root vouch for s at root's present state. The caller holds the
// network's lock.
func (s *subnet) delegate(root *subnet) {
	r := root.current()
	subnetID := s.id.Bytes()
	base := [][][]byte{
		{[]byte("time")},
		{[]byte("subnet"), subnetID, []byte("public_key")},
		{[]byte("subnet"), subnetID, []byte("type")}, // since 2026; recorded ones lack it
	}
	encode := func(ranges ...[][]byte) []byte {
		cert := r.certificate(nil, append(slices.Clip(base), ranges...)...)
		dst := appendMap(nil, 2)
		dst = appendBytes(appendText(dst, "subnet_id"), subnetID)
		return appendBytes(appendText(dst, "certificate"), cert)
	}
	d := delegations{
		bare:   encode(),
		flat:   encode([][]byte{[]byte("subnet"), subnetID, []byte("canister_ranges")}),
		shards: map[verify.Principal][]byte{},
	}
	for _, shard := range s.ranges {
		d.shards[shard.from] = encode([][]byte{[]byte("canister_ranges"), subnetID, shard.from.Bytes()})
	}
	s.vouched = d
}

// delegation is the delegation field for a certificate about canister, nil on
// the root subnet. In the sharded layout only the shard that can hold the
// canister is revealed.
func (s *subnet) delegation(l layout, canister verify.Principal) []byte {
	if l == flat || s.vouched.flat == nil {
		return s.vouched.flat
	}
	i := sort.Search(len(s.ranges), func(i int) bool { return s.ranges[i].from.Compare(canister) > 0 })
	return s.vouched.shards[s.ranges[max(i-1, 0)].from]
}
