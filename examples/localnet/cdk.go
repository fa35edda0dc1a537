package localnet

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// CDKOptions shape a CDK canister. The zero value behaves as a Rust canister
// made with version 0.4 of the IC WebSocket CDK in its default settings.
type CDKOptions struct {
	// App is the application. Default Echo.
	App App
	// AckInterval is the time between acknowledgements and the least time that
	// a message is kept in its queue. Default 300 s.
	AckInterval time.Duration
	// KeepAliveTimeout is the time from an acknowledgement to the check whether
	// its client answered. Default 60 s. Must be below AckInterval.
	KeepAliveTimeout time.Duration
	// MaxMessages is the size of a page. Default 50.
	MaxMessages int
	// Motoko selects the ways of the Motoko CDK: untagged content, callbacks
	// that are awaited, a trie instead of a red-black tree.
	Motoko bool
	// NoAcks leaves out the timer, as a canister does whose author forgot to
	// call init after an upgrade: no acknowledgements, no removal of clients
	// that fell silent, no end of a queue.
	NoAcks bool
	// PreEndOfQueue selects the interface before CDK 0.3.1, whose replies lack
	// is_end_of_queue.
	PreEndOfQueue bool
	// Gateways, if not nil, are the only gateways that the canister serves, as
	// CDK 0.3.0 had it. Others get an Err.
	Gateways []verify.Principal
}

// CDK is a canister that keeps the rules of the IC WebSocket CDK 0.4: one queue
// per gateway principal, contiguous nonces, pages, certified messages,
// acknowledgements and keep-alives, and the texts of its errors. It is made
// with NewCDK and installed on one network. Its methods may be called
// concurrently, but not by its App: an App has its AppContext.
type CDK struct {
	o CDKOptions

	mu     sync.Mutex
	home   *subnet
	slot   *slot
	start  time.Time // of the acknowledgement timer
	ticker bool      // a tick is scheduled
	opened uint64    // clients ever opened; orders them

	clients map[verify.ClientKey]*cdkClient // those that are registered
	current map[verify.Principal]*cdkClient // of each principal the one that messages are from and for
	queues  map[verify.Principal]*cdkQueue  // by gateway principal
	waiting map[verify.ClientKey]bool       // acknowledged and not checked yet
	tree    witnessTree
	dirty   bool // the certified data is behind the tree

	undo []func() // of the message that runs
}

type cdkClient struct {
	key       verify.ClientKey
	gateway   verify.Principal
	order     uint64
	keepAlive time.Time
	incoming  uint64 // sequence number expected next
	outgoing  uint64 // sequence number sent last
}

// NewCDK makes a canister; Install it on a network.
func NewCDK(o CDKOptions) *CDK {
	if o.App == nil {
		o.App = Echo{}
	}
	if o.AckInterval == 0 {
		o.AckInterval = 300 * time.Second
	}
	if o.KeepAliveTimeout == 0 {
		o.KeepAliveTimeout = 60 * time.Second
	}
	if o.MaxMessages <= 0 {
		o.MaxMessages = 50
	}
	return &CDK{o: o}
}

// Init implements Canister.
func (c *CDK) Init(env *Env) error {
	if c.o.AckInterval <= c.o.KeepAliveTimeout {
		return errors.New("send_ack_interval_ms must be greater than CLIENT_KEEP_ALIVE_TIMEOUT_MS")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.home, c.slot, c.start, c.ticker = env.subnet, env.slot, env.Time, false
	c.clients = map[verify.ClientKey]*cdkClient{}
	c.current = map[verify.Principal]*cdkClient{}
	c.queues = map[verify.Principal]*cdkQueue{}
	c.waiting = map[verify.ClientKey]bool{}
	c.tree = newWitnessTree(c.o.Motoko)
	c.dirty = true
	c.certify(env)
	return nil
}

// Update implements Canister.
func (c *CDK) Update(env *Env, method string, arg []byte) ([]byte, error) {
	switch method {
	case "ws_open":
		return c.message(env, func(ctx *AppContext) ([]byte, error) { return c.wsOpen(ctx, arg) })
	case "ws_message":
		return c.message(env, func(ctx *AppContext) ([]byte, error) { return c.wsMessage(ctx, arg) })
	case "ws_close":
		return c.message(env, func(ctx *AppContext) ([]byte, error) { return c.wsClose(ctx, arg) })
	}
	return nil, ErrNoMethod
}

// Query implements Canister on the living state.
func (c *CDK) Query(env *Env, method string, arg []byte) ([]byte, error) {
	return c.Snapshot().Query(env, method, arg)
}

// message runs f as one message: all of it takes effect, or none.
func (c *CDK) message(env *Env, f func(*AppContext) ([]byte, error)) (reply []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.undo = c.undo[:0]
	done := false
	defer func() {
		if !done || err != nil {
			for _, u := range slices.Backward(c.undo) {
				u()
			}
		}
		c.undo = c.undo[:0]
		c.certify(env)
	}()
	reply, err = f(&AppContext{cdk: c, env: env})
	done = true
	return reply, err
}

// certify makes the root of the tree the certified data.
func (c *CDK) certify(env *Env) {
	if c.dirty {
		root := c.tree.digest()
		env.SetCertifiedData(root[:])
		c.dirty = false
	}
}

// Do runs f as a message of the canister's own, as a timer or a heartbeat
// would, and certifies what it did.
func (c *CDK) Do(f func(*AppContext)) {
	c.mu.Lock()
	home, slot := c.home, c.slot
	c.mu.Unlock()
	home.message(slot, func(env *Env) ([]byte, error) {
		return c.message(env, func(ctx *AppContext) ([]byte, error) { f(ctx); return nil, nil })
	})
}

// setClient, setQueue and setTree are the only ways to change the state; they
// record how to undo the change.

func (c *CDK) touchClient(cl *cdkClient) {
	old := *cl
	c.undo = append(c.undo, func() { *cl = old })
}

func (c *CDK) touchQueue(q *cdkQueue) {
	old := *q
	c.undo = append(c.undo, func() { *q = old })
}

func (c *CDK) setTree(t witnessTree) {
	old := c.tree
	c.undo = append(c.undo, func() { c.tree, c.dirty = old, true })
	c.tree, c.dirty = t, true
}

func (c *CDK) addClient(key verify.ClientKey, gateway verify.Principal, now time.Time) *cdkClient {
	c.opened++
	cl := &cdkClient{key: key, gateway: gateway, order: c.opened, keepAlive: now, incoming: 1}
	c.clients[key] = cl
	c.undo = append(c.undo, func() { delete(c.clients, key) })
	c.setCurrent(key.Principal, cl)
	q := c.queues[gateway]
	if q == nil {
		q = &cdkQueue{}
		c.queues[gateway] = q
		c.undo = append(c.undo, func() { delete(c.queues, gateway) })
	} else {
		c.touchQueue(q)
	}
	q.clients++
	q.empty = false // an end that was near is called off
	return cl
}

// setCurrent makes cl the client of principal; nil means that it has none.
func (c *CDK) setCurrent(principal verify.Principal, cl *cdkClient) {
	set := func(cl *cdkClient) {
		if cl == nil {
			delete(c.current, principal)
		} else {
			c.current[principal] = cl
		}
	}
	old := c.current[principal]
	c.undo = append(c.undo, func() { set(old) })
	set(cl)
}

// removeClient ends the connection of a client, with a CloseMessage if reason
// is not empty. As in the CDK, its principal has no client after that, whichever
// it had.
func (c *CDK) removeClient(ctx *AppContext, cl *cdkClient, reason string) error {
	c.setCurrent(cl.key.Principal, nil)
	if c.clients[cl.key] != cl {
		return nil // removed meanwhile
	}
	if reason != "" {
		c.send(ctx.env, cl, true, appendCloseMessage(nil, reason))
	}
	delete(c.clients, cl.key)
	waited := c.waiting[cl.key]
	delete(c.waiting, cl.key)
	c.undo = append(c.undo, func() {
		c.clients[cl.key] = cl
		if waited {
			c.waiting[cl.key] = true
		}
	})
	if q := c.queues[cl.gateway]; q != nil {
		c.touchQueue(q)
		if q.clients--; q.clients == 0 {
			q.empty, q.emptySince = true, ctx.env.Time
		}
	}
	return c.o.App.OnClose(ctx, cl.key.Principal)
}

// serves tells whether a gateway may use the canister.
func (o *CDKOptions) serves(gateway verify.Principal) bool {
	return o.Gateways == nil || slices.Contains(o.Gateways, gateway)
}

// byOrder are the clients in the order in which they opened.
func (c *CDK) byOrder() []*cdkClient {
	return slices.SortedFunc(maps.Values(c.clients), func(a, b *cdkClient) int {
		return int(a.order) - int(b.order)
	})
}

func noConnection(p verify.Principal) string {
	return fmt.Sprintf("Client with principal %s doesn't have an open connection", p)
}
