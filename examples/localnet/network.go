package localnet

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// Options shape a network. The zero value is one application subnet of one
// node whose updates take no time, under a root key that is the same in every
// run.
type Options struct {
	// Latency is the time from the submission of an update to its certified
	// outcome. Updates that are due in the same block run in an order that has
	// nothing to do with the order of submission, as on the IC. Zero runs each
	// update inside the request that brings it. Mainnet takes 1 to 2 s.
	Latency time.Duration
	// Block is the time between blocks, which groups updates when Latency is
	// set. Default: a tenth of Latency, at least 1 ms.
	Block time.Duration
	// SyncWait is how long a synchronous call waits for its outcome before it
	// is answered with 202. Default 10 s, as the replica's.
	SyncWait time.Duration
	// RoundInterval is the largest age of the certified time: an older state is
	// certified anew before it answers. Default 500 ms.
	RoundInterval time.Duration
	// NoDelegation puts the canisters on the root subnet, whose certificates
	// carry no delegation, as a network made by dfx has it.
	NoDelegation bool
	// V2Only makes the network an old one: the v3 and v4 endpoints are not
	// there, and nobody may ask when a canister was installed.
	V2Only bool
	// V3Only makes the network one that has given up the flat layout of
	// canister ranges: the endpoints that certify it are gone, which are v2
	// query, v2 read_state and v3 call, and so is v2 call. /api/v2/status is the
	// only one of its kind and stays.
	V3Only bool
	// GoneStatus is the HTTP status of an endpoint that is not there. Default
	// 404; hosts may also answer 405 or 410.
	GoneStatus int
	// NoInstallTime makes every installation one from before the network
	// recorded them: /canister/<id>/last_install_timestamp is absent.
	NoInstallTime bool
	// ShardedOnly makes v2 queries certify sharded canister ranges, as a
	// network would that has given up the flat layout for queries. A v2
	// read_state still carries the flat one.
	ShardedOnly bool
	// Direct makes the hosts API boundary nodes that are asked themselves: they
	// say in the header x-ic-error-cause what went wrong, or none. By default
	// there is an HTTP gateway in front, as at icp-api.io, that removes it.
	Direct bool
	// Definite makes the network answer queries with maps of definite length,
	// which replicas did before node signatures. Replicas of today write maps of
	// indefinite length. Default: whether the environment variable
	// ICWS_LOCALNET_FORM is "definite".
	Definite bool
	// Seed selects all keys of the network: equal seeds make equal root keys,
	// subnet ids and node keys.
	Seed uint64
	// Now is the clock. Default time.Now, which inside a testing/synctest
	// bubble is the bubble's clock.
	Now func() time.Time
	// Nodes is the number of nodes of each subnet, which take turns in signing
	// query replies. Default 1; application subnets on mainnet have 13.
	Nodes int
	// History is the number of past states kept for faults that answer from an
	// older one. Default 64.
	History int
}

func (o *Options) setDefaults() {
	if o.Block <= 0 {
		o.Block = max(o.Latency/10, time.Millisecond)
	}
	if o.SyncWait <= 0 {
		o.SyncWait = 10 * time.Second
	}
	if o.RoundInterval <= 0 {
		o.RoundInterval = 500 * time.Millisecond
	}
	o.Definite = o.Definite || os.Getenv("ICWS_LOCALNET_FORM") == "definite"
	if o.GoneStatus == 0 {
		o.GoneStatus = http.StatusNotFound
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Nodes <= 0 {
		o.Nodes = 1
	}
	if o.History <= 0 {
		o.History = 64
	}
}

// Network is a single-process Internet Computer. All its methods may be called
// concurrently.
type Network struct {
	opts   Options
	root   *subnet   // holds the key that everything is verified with
	hosts  []*subnet // where canisters live; the root subnet itself without delegation
	offset atomic.Int64
	served atomic.Uint64
	closed context.Context
	stop   context.CancelFunc

	faults     atomic.Pointer[Faults]
	mounted    atomic.Pointer[[]*Mounted]
	boundaries atomic.Pointer[node] // /api_boundary_nodes
	vetKeys    map[string]*vetKey   // by name

	mu      sync.Mutex // hosts, servers
	servers []*http.Server
	serving sync.WaitGroup
}

// New makes a network. It starts no goroutine and opens no socket.
func New(o Options) (*Network, error) {
	if o.Latency < 0 {
		return nil, errors.New("latency is negative: use zero or more")
	}
	o.setDefaults()
	n := &Network{opts: o}
	n.closed, n.stop = context.WithCancel(context.Background())
	n.vetKeys = newVetKeys(o.Seed)
	n.root = newSubnet(n, "root", nil)
	if o.NoDelegation {
		n.root.ranges = hostRanges(0)
		n.hosts = []*subnet{n.root}
		n.root.describe(n.root)
	} else {
		n.root.ranges = []canisterRange{{canisterID(0), canisterID(0xfffff)}}
		n.root.describe(n.root)
		n.addSubnet()
	}
	return n, nil
}

// Close ends all servers and timers. Requests still waiting are answered as
// the network goes away under them.
func (n *Network) Close() error {
	n.stop()
	n.mu.Lock()
	servers, hosts := n.servers, n.hosts
	n.servers = nil
	n.mu.Unlock()
	var errs []error
	for _, s := range servers {
		errs = append(errs, s.Close())
	}
	for _, s := range hosts {
		s.close()
	}
	n.serving.Wait()
	return errors.Join(errs...)
}

// RootKey is the DER form of the public key that certificates verify with.
func (n *Network) RootKey() []byte { return append([]byte(nil), n.root.key.der...) }

// Now is the network's time: the clock of the options plus what Advance added.
func (n *Network) Now() time.Time {
	return n.opts.Now().Add(time.Duration(n.offset.Load()))
}

// Advance moves the network's clock forward by d. Everything that falls due on
// the way, such as acknowledgement ticks of canisters and updates in flight,
// happens at its own time before Advance returns.
func (n *Network) Advance(d time.Duration) {
	end := n.Now().Add(d)
	for {
		due, sn := time.Time{}, (*subnet)(nil)
		for _, s := range n.subnets() {
			if at, ok := s.nextDue(); ok && !at.After(end) && (sn == nil || at.Before(due)) {
				due, sn = at, s
			}
		}
		if sn == nil {
			break
		}
		if ahead := due.Sub(n.Now()); ahead > 0 {
			n.offset.Add(int64(ahead))
		}
		sn.wake()
	}
	if ahead := end.Sub(n.Now()); ahead > 0 {
		n.offset.Add(int64(ahead))
	}
	for _, s := range n.subnets() {
		s.wake() // the remaining timers count from the new time
	}
}

func (n *Network) subnets() []*subnet {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hosts
}

// everySubnet is all of them, the root subnet included.
func (n *Network) everySubnet() []*subnet { return append(slices.Clip(n.subnets()), n.root) }

// addSubnet makes the next application subnet and has the root subnet vouch
// for it.
func (n *Network) addSubnet() *subnet {
	n.mu.Lock()
	defer n.mu.Unlock()
	index := len(n.hosts)
	s := newSubnet(n, fmt.Sprintf("host %d", index), hostRanges(index))
	s.describe(s)
	for _, other := range append(slices.Clip(n.hosts), n.root) { // all know of all
		s.describe(other)
		other.describe(s)
	}
	n.hosts = append(n.hosts[:index:index], s)
	s.delegate(n.root)
	return s
}

// subnetOf is the subnet whose ranges hold id, nil if there is none.
func (n *Network) subnetOf(id verify.Principal) *subnet {
	for _, s := range n.subnets() {
		if s.holds(id) {
			return s
		}
	}
	if n.root.holds(id) {
		return n.root
	}
	return nil
}

func (n *Network) slot(id verify.Principal) (*subnet, error) {
	if s := n.subnetOf(id); s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("canister %s belongs to no subnet: use an id that Install returned", id)
}

// canisterRange is an inclusive range of canister ids.
type canisterRange struct{ from, to verify.Principal }

// canisterID is the canister id made from a number, as the IC makes them.
func canisterID(n uint64) verify.Principal {
	id, err := verify.PrincipalFromBytes(append(binary.BigEndian.AppendUint64(nil, n), 1, 1))
	if err != nil { // ten bytes always fit
		panic(err)
	}
	return id
}

// firstCanister is the number of the first id that a host subnet gives out;
// the one of the first subnet is bkyz2-fmaaa-aaaaa-qaaaq-cai.
func firstCanister(index int) uint64 { return 0x8000000000100001 + uint64(index)<<20 }

// hostRanges are two ranges, so that the sharded layout has two shards.
func hostRanges(index int) []canisterRange {
	low := uint64(0x200000) + uint64(index)<<21
	high := firstCanister(index) - 1
	return []canisterRange{
		{canisterID(low), canisterID(low + 0xfffff)},
		{canisterID(high), canisterID(high + 0xfffff)},
	}
}

// hashOf is shorthand for the hash of a text.
func hashOf(parts ...[]byte) [32]byte {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	var out [32]byte
	h.Sum(out[:0])
	return out
}
