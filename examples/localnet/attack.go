package localnet

import (
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/icws-gateway/caddy-icws/verify"
)

// Attack is one lie of a canister, a subnet or a boundary node. Attacks are
// values without state: mount them on canisters of a network, as many at once
// as wanted, while others chat. See Attacks.
type Attack struct {
	// Name identifies the attack; it is unique and fit for the name of a test.
	Name string
	// Endpoint is the kind of answer that it changes: query, call or status.
	Endpoint string
	// Causes are what a reader may find wrong with one such answer, any of
	// them. None means that an answer is not wrong by itself: it is too large,
	// too slow, not what it was before, or merely unwelcome.
	Causes []verify.Cause
	// Poison means that the page as such is good and a message in it is not.
	Poison bool
	// Delegated attacks need a network with subnet delegations; on others they
	// change nothing.
	Delegated bool

	page   func(*forgery)                       // changes a page that has messages
	arg    func(*forgery, []byte) []byte        // changes the reply of a query
	reject func(*forgery) *Reject               // rejects a query instead
	answer func(*forgery, *answer, *answerMemo) // changes a finished answer with status 200
}

// Mount starts the attack on a canister: its own code, or the boundary nodes
// in front of it, lie from now on. With boundaries (URLs as Start returns them)
// only these nodes lie and the others stay honest. For attacks on the status
// endpoint the canister does not matter.
func (a Attack) Mount(n *Network, canister verify.Principal, boundaries ...string) *Mounted {
	m := &Mounted{attack: a, net: n, canister: canister, boundaries: boundaries}
	if a.Delegated && !n.opts.NoDelegation && len(n.subnets()) < 2 {
		n.addSubnet() // somebody else's subnet to borrow from
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mountLocked(func(old []*Mounted) []*Mounted { return append(slices.Clip(old), m) })
	return m
}

// Mounted is an attack that goes on.
type Mounted struct {
	attack     Attack
	net        *Network
	canister   verify.Principal
	boundaries []string
	count      atomic.Int64
	memo       answerMemo
}

// answerMemo is what an attack remembers between answers.
type answerMemo struct {
	mu   sync.Mutex
	body []byte
}

// Stop ends the attack. It may be called more than once.
func (m *Mounted) Stop() {
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	m.net.mountLocked(func(old []*Mounted) []*Mounted {
		return slices.DeleteFunc(slices.Clone(old), func(o *Mounted) bool { return o == m })
	})
}

// Count is the number of answers that the attack has changed so far.
func (m *Mounted) Count() int { return int(m.count.Load()) }

func (n *Network) mountLocked(change func([]*Mounted) []*Mounted) {
	var old []*Mounted
	if p := n.mounted.Load(); p != nil {
		old = *p
	}
	fresh := change(old)
	n.mounted.Store(&fresh)
}

// attacks are the mounted ones that apply to a request, in order of mounting.
func (n *Network) attacks(rt *route) []*Mounted {
	p := n.mounted.Load()
	if p == nil {
		return nil
	}
	var out []*Mounted
	for _, m := range *p {
		a := &m.attack
		switch {
		case a.Endpoint != rt.endpoint,
			rt.endpoint != "status" && m.canister != rt.canister,
			len(m.boundaries) > 0 && !slices.Contains(m.boundaries, rt.boundary),
			a.Delegated && n.opts.NoDelegation:
			continue
		}
		out = append(out, m)
	}
	return out
}

// forgery is what an attack has to work with: everything, as the network holds
// all keys.
type forgery struct {
	net      *Network
	subnet   *subnet
	canister verify.Principal
	layout   layout
	req      *request
	round    *round // that the honest answer is from
	page     *page  // of a CDK canister with messages; else nil
	nonce    uint64 // that the page was asked from
	all      []cdkMessage
}

// readPage takes over what an honest CDK canister answers to a poll.
func (f *forgery) readPage() {
	view, ok := f.round.slots[f.canister].canister.(*cdkView)
	if !ok || f.req.method != "ws_get_messages" {
		return
	}
	nonce, err := readPollArg(f.req.arg)
	if err != nil {
		return
	}
	p := view.page(f.subnet.queryEnv(f.round, f.layout, f.req), nonce)
	if len(p.messages) > 0 {
		f.page, f.nonce, f.all = p, nonce, view.queues[f.req.sender]
	}
}

// lieQuery lets the mounted attacks change what a canister replied.
func (f *forgery) lieQuery(attacks []*Mounted, arg []byte, reject *Reject) ([]byte, *Reject) {
	for _, m := range attacks {
		a := &m.attack
		switch {
		case a.page != nil && f.page != nil && reject == nil:
			a.page(f)
			arg = f.page.appendCandid(nil)
		case a.arg != nil && reject == nil:
			arg = a.arg(f, arg)
		case a.reject != nil:
			arg, reject = nil, a.reject(f)
		default:
			continue
		}
		m.count.Add(1)
	}
	return arg, reject
}

// lieAnswer lets the mounted attacks change a finished answer.
func (f *forgery) lieAnswer(attacks []*Mounted, a *answer) {
	for _, m := range attacks {
		if m.attack.answer != nil && a.status == http.StatusOK {
			m.attack.answer(f, a, &m.memo)
			m.count.Add(1)
		}
	}
}

// seal makes messages a page that the canister stands by: a tree of exactly
// these, certified.
func (f *forgery) seal(messages []cdkMessage) {
	var tree witnessTree = rbWitness{}
	var keys []string
	for _, m := range messages {
		leaf := hashOf(m.content)
		tree = tree.with(m.key, leaf[:])
		keys = append(keys, m.key)
	}
	slices.Sort(keys)
	f.page.messages, f.page.tree = messages, tree.witness(keys)
	f.page.cert = f.certify(tree.digest())
}

// certify makes a certificate of certified data that the canister might have
// set itself, signed by its subnet.
func (f *forgery) certify(data [32]byte) []byte {
	info := (*node)(nil).with([]byte("certified_data"), leafOf(data[:]))
	canisters, _ := f.round.root.get([]byte("canister"))
	return f.sign(f.round.root.with([]byte("canister"), mapOf(canisters.kids.with(f.canister.Bytes(), mapOf(info)))))
}

// sign makes the canister's data certificate from any state.
func (f *forgery) sign(root *node) []byte {
	return (&round{key: f.subnet.key, root: root}).dataCertificate(f.subnet.delegation(f.layout, f.canister), f.canister)
}

// delegated makes the honest data certificate with another delegation.
func (f *forgery) delegated(delegation []byte) []byte {
	return f.round.dataCertificate(delegation, f.canister)
}

// stranger is a subnet beside ours; only attacks marked Delegated may ask.
func (f *forgery) stranger() *subnet {
	for _, s := range f.net.subnets() {
		if s != f.subnet {
			return s
		}
	}
	return f.subnet
}

// otherClient is a client key that is not k.
func otherClient(k verify.ClientKey) verify.ClientKey {
	return verify.ClientKey{Principal: verify.SelfAuthenticating(k.Principal.Bytes()), Nonce: k.Nonce}
}
