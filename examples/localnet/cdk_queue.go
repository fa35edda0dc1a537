package localnet

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// cdkQueue are the messages for one gateway. The slice is only appended to and
// cut from the front, so that a frozen copy of it stays as it was.
type cdkQueue struct {
	messages   []cdkMessage
	nonce      uint64 // of the next message
	clients    int
	empty      bool // no clients: to be dropped
	emptySince time.Time
}

type cdkMessage struct {
	client  verify.ClientKey
	key     string
	content []byte
	at      time.Time
}

// deleteAtOnce is how many old messages a send deletes at most.
const deleteAtOnce = 5

// messageKey is the certified key of a message.
func messageKey(gateway verify.Principal, nonce uint64) string {
	return fmt.Sprintf("%s_%020d", gateway, nonce)
}

// send queues a message for a client, certified with the end of this message.
func (c *CDK) send(env *Env, cl *cdkClient, service bool, payload []byte) {
	q := c.queues[cl.gateway]
	c.touchQueue(q)
	c.touchClient(cl)
	c.deleteOld(q, env.Time)
	cl.outgoing++
	content := c.appendContent(nil, cl, uint64(env.Time.UnixNano()), service, payload)
	m := cdkMessage{client: cl.key, key: messageKey(cl.gateway, q.nonce), content: content, at: env.Time}
	q.nonce++
	q.messages = append(q.messages, m)
	leaf := sha256.Sum256(content)
	c.setTree(c.tree.with(m.key, leaf[:]))
}

func (c *CDK) deleteOld(q *cdkQueue, now time.Time) {
	n, tree := 0, c.tree
	for n < min(deleteAtOnce, len(q.messages)) && now.Sub(q.messages[n].at) > c.o.AckInterval {
		tree = tree.without(q.messages[n].key)
		n++
	}
	if n > 0 {
		q.messages = q.messages[n:]
		c.setTree(tree)
	}
}

// arm schedules the next tick of the acknowledgement timer. The timer of the
// CDK ticks for ever; here it rests while there is nobody to tick for and
// keeps its beat.
func (c *CDK) arm(env *Env) {
	if c.ticker || c.o.NoAcks {
		return
	}
	c.ticker = true
	t := c.o.AckInterval
	env.After(t-env.Time.Sub(c.start)%t, c.tick)
}

// tick acknowledges every client and schedules the check of their answers.
func (c *CDK) tick(env *Env) {
	c.message(env, func(ctx *AppContext) ([]byte, error) {
		c.ticker = false
		for _, cl := range c.byOrder() {
			c.send(env, cl, true, appendAckMessage(nil, cl.incoming-1))
			c.waiting[cl.key] = true
		}
		if len(c.clients)+len(c.queues) > 0 {
			env.After(c.o.KeepAliveTimeout, c.check)
			c.arm(env)
		}
		return nil, nil
	})
}

// check removes the clients that did not answer and drops the queues of
// gateways that have had none for longer than the acknowledgement interval.
func (c *CDK) check(env *Env) {
	c.message(env, func(ctx *AppContext) ([]byte, error) {
		for _, cl := range c.byOrder() {
			if c.waiting[cl.key] && env.Time.Sub(cl.keepAlive) > c.o.KeepAliveTimeout {
				if err := c.removeClient(ctx, cl, "KeepAliveTimeout"); err != nil {
					return nil, err
				}
			}
		}
		clear(c.waiting)
		tree := c.tree
		for gateway, q := range c.queues {
			if q.empty && env.Time.Sub(q.emptySince) > c.o.AckInterval {
				for _, m := range q.messages {
					tree = tree.without(m.key)
				}
				delete(c.queues, gateway)
			}
		}
		c.setTree(tree)
		return nil, nil
	})
}

// cdkView is a frozen CDK canister: it answers ws_get_messages.
type cdkView struct {
	o      CDKOptions
	queues map[verify.Principal][]cdkMessage
	tree   witnessTree
}

// Snapshot implements Snapshotter.
func (c *CDK) Snapshot() Canister {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := &cdkView{o: c.o, queues: make(map[verify.Principal][]cdkMessage, len(c.queues)), tree: c.tree}
	for gateway, q := range c.queues {
		v.queues[gateway] = q.messages
	}
	return v
}

func (v *cdkView) Init(*Env) error { return ErrNoMethod }

func (v *cdkView) Update(*Env, string, []byte) ([]byte, error) { return nil, ErrNoMethod }

func (v *cdkView) Query(env *Env, method string, arg []byte) ([]byte, error) {
	if method != "ws_get_messages" {
		return nil, ErrNoMethod
	}
	nonce, err := readPollArg(arg)
	if err != nil {
		return nil, decodeTrap(err)
	}
	if !v.o.serves(env.Caller) {
		return appendCandidText(append(slices.Clone(pageTable), 1),
			"principal is not one of the authorized gateways that have been registered during CDK initialization"), nil
	}
	return v.page(env, nonce).appendCandid(nil), nil
}

// page is the reply to ws_get_messages: the messages of the caller's queue from
// nonce on, with the certificate and a witness of their range.
func (v *cdkView) page(env *Env, nonce uint64) *page {
	messages := v.queues[env.Caller]
	from := messageKey(env.Caller, nonce)
	start := sort.Search(len(messages), func(i int) bool { return messages[i].key >= from })
	end := min(start+v.o.MaxMessages, len(messages))
	p := &page{endOfQueue: end == len(messages), noEndOfQueue: v.o.PreEndOfQueue, motoko: v.o.Motoko}
	if p.messages = messages[start:end]; len(p.messages) > 0 {
		keys := make([]string, len(p.messages))
		for i, m := range p.messages {
			keys[i] = m.key
		}
		p.cert, p.tree = env.DataCertificate(), v.tree.witness(keys)
	}
	return p
}

// Client is what a CDK canister knows of a client.
type Client struct {
	Key      verify.ClientKey
	Gateway  verify.Principal
	Incoming uint64 // sequence number expected next from the client
	Outgoing uint64 // sequence number sent last to the client
}

// Clients are the registered clients in the order in which they opened.
func (c *CDK) Clients() []Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Client, 0, len(c.clients))
	for _, cl := range c.byOrder() {
		out = append(out, Client{cl.key, cl.gateway, cl.incoming, cl.outgoing})
	}
	return out
}

// Queue tells of the queue of a gateway: the nonces of its first and its next
// message, equal if it is empty. exists is false if there is no queue.
func (c *CDK) Queue(gateway verify.Principal) (first, next uint64, exists bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.queues[gateway]
	if q == nil {
		return 0, 0, false
	}
	return q.nonce - uint64(len(q.messages)), q.nonce, true
}

// Gateways are the principals that have a queue, in ascending order.
func (c *CDK) Gateways() []verify.Principal {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Keys(c.queues), verify.Principal.Compare)
}
