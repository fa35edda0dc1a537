package upstream

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/verify"
)

// Options are what a [Network] needs. All fields are required, except where noted.
type Options struct {
	// Hosts are the boundary nodes, or the replica of a network of one's own. A path is kept as a prefix.
	Hosts []*url.URL
	// RootKey is the DER public key that all certificates must lead to. Empty: the network is asked for it.
	RootKey []byte
	// Identity signs the gateway's own requests. It must be safe for concurrent use.
	Identity verify.Signer
	// Rate bounds the queries and other readings per second, of all canisters together, and CallRate the calls.
	Rate, CallRate float64
	// Timeout bounds one request; a call may take longer by the time that a replica waits for its outcome.
	Timeout time.Duration
	// Transport carries the requests; nil means one of its own.
	Transport http.RoundTripper
	// Recorder receives the counts.
	Recorder Recorder
	// Log returns the present logger.
	Log func() *zap.Logger
	// Spawn runs f in a goroutine of the caller's, which recovers from panics and then runs recovered, if that is not nil.
	Spawn func(what string, f, recovered func())
}

// Network is the way to one network. All methods are safe for concurrent use. It makes no request by itself.
type Network struct {
	ctx       context.Context // of what nobody waits for
	identity  verify.Signer
	principal verify.Principal
	pool      hostPool
	transport http.RoundTripper
	reads     *budget
	calls     *budget
	hedges    *hedgeCredit
	timeout   time.Duration
	recorder  Recorder
	log       func() *zap.Logger
	spawn     func(what string, f, recovered func())
	root      *rootKey
	nodes     *nodeKeys
	discovery discovery

	flattened sync.Once // see Delegation.Fit
}

// New returns the way to a network. ctx ends what it does in the background. An error names the setting that is wrong.
func New(ctx context.Context, o Options) (*Network, error) {
	principal, err := verify.PrincipalFromBytes(o.Identity.Sender().Raw)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	n := &Network{
		ctx:       ctx,
		identity:  &keptKey{o.Identity, o.Identity.PublicKey()},
		principal: principal,
		reads:     newBudget(o.Rate),
		calls:     newBudget(o.CallRate),
		hedges:    newHedgeCredit(),
		timeout:   o.Timeout,
		recorder:  o.Recorder,
		log:       o.Log,
		spawn:     o.Spawn,
	}
	if n.root, err = newRootKey(n, o.RootKey); err != nil {
		return nil, fmt.Errorf("root_key: %w", err)
	}
	n.nodes = newNodeKeys(n)
	n.discovery.n = n
	for _, base := range o.Hosts {
		n.pool.configured = append(n.pool.configured, newHost(base))
	}
	n.pool.discover(nil)
	if n.transport = o.Transport; n.transport == nil {
		n.transport = newTransport(o.Timeout)
	}
	return n, nil
}

// newTransport makes a transport for many requests to few hosts. HTTP/1.1 costs two thirds of the CPU time of HTTP/2
// here, and its requests do not share one connection's fate.
func newTransport(timeout time.Duration) *http.Transport {
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: min(5*time.Second, timeout), KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:    min(5*time.Second, timeout),
		MaxIdleConnsPerHost:    64,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	return t
}

// Principal returns the gateway principal, that of the identity.
func (n *Network) Principal() verify.Principal { return n.principal }

// Close closes idle connections.
func (n *Network) Close() {
	if t, ok := n.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// Capacity is how many canisters can be polled as often as their clients need it.
func (n *Network) Capacity() int { return capacity(n.reads.rate) }

// budget returns the one that requests of a class take their tokens from.
func (n *Network) budget(cl Class) *budget {
	if cl == ClassCall {
		return n.calls
	}
	return n.reads
}
