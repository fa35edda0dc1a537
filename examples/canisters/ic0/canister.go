// Package ic0 runs a compiled canister on the local network: the WebAssembly
// that would be installed on the Internet Computer, unchanged, with the part of
// the system API that canisters built on ic-websocket-cdk use.
//
// It is for development and for tests that want the published CDK on the other
// end and not this project's own idea of it. Messages run one at a time; a trap
// undoes what its message did, as on the IC. Calls reach the management canister
// as far as the local network has it, and the canister itself, within the same
// message; calls to others are rejected. A canister pays with cycles that it
// need not have, instruction limits do not exist, and stable memory is not
// offered: a canister that imports what is missing here fails to load with
// an error that names it.
package ic0

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/verify"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental/table"
)

// Canister is an installed WebAssembly module. It implements
// localnet.Canister; its methods may be called concurrently.
type Canister struct {
	// Print receives what the canister writes with debug_print; nil drops it.
	Print func(line string)

	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	globals  []string // names under which the mutable globals are exported

	mu        sync.Mutex // everything below, and the module instance itself
	instance  api.Module
	installed bool     // Init has run before: the next one is an upgrade
	msg       *message // being executed
	timer     uint64   // counts global_timer_set, so that an older timer is void
}

// Load compiles a module. Close frees it.
func Load(wasm []byte) (*Canister, error) {
	ctx := context.Background()
	wasm, globals, err := exportGlobals(wasm)
	if err != nil {
		return nil, fmt.Errorf("reading the canister module: %w", err)
	}
	config := wazero.NewRuntimeConfig().WithCustomSections(true)
	c := &Canister{runtime: wazero.NewRuntimeWithConfig(ctx, config), globals: globals}
	if err := c.link(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("offering the system API: %w", err)
	}
	if c.compiled, err = c.runtime.CompileModule(ctx, wasm); err != nil {
		c.Close()
		return nil, fmt.Errorf("compiling the canister module: %w", err)
	}
	return c, nil
}

// Metadata implements localnet.Metadata: the custom sections that the module
// makes public, as ic-wasm and the Motoko compiler put them in.
func (c *Canister) Metadata() map[string][]byte {
	public := map[string][]byte{}
	for _, s := range c.compiled.CustomSections() {
		if name, ok := strings.CutPrefix(s.Name(), "icp:public "); ok {
			public[name] = s.Data()
		}
	}
	return public
}

// Close frees the module. The canister must not be called any more.
func (c *Canister) Close() error { return c.runtime.Close(context.Background()) }

// Init implements localnet.Canister: canister_init the first time and
// canister_post_upgrade from then on, each on fresh memory.
func (c *Canister) Init(env *localnet.Env) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx := context.Background()
	if c.instance != nil {
		c.instance.Close(ctx)
	}
	var err error
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions("_start", "_initialize")
	if c.instance, err = c.runtime.InstantiateModule(ctx, c.compiled, config); err != nil {
		return fmt.Errorf("starting the canister: %w", err)
	}
	entry := "canister_init"
	if c.installed {
		entry = "canister_post_upgrade"
	}
	c.installed = true
	if c.instance.ExportedFunction(entry) == nil {
		return nil
	}
	// Candid for no arguments.
	if failure := c.enter(env, &message{of: &conversation{}, arg: []byte("DIDL\x00\x00")}, entry); failure != nil {
		return failure
	}
	return nil
}

// Update implements localnet.Canister.
func (c *Canister) Update(env *localnet.Env, method string, arg []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	entry := "canister_update " + method
	if c.instance.ExportedFunction(entry) == nil {
		return nil, localnet.ErrNoMethod
	}
	// A reject with words does not undo what was done, so it is not returned as an error.
	talk := &conversation{caller: env.Caller.Bytes(), answer: env.AnswerLater()}
	c.report(c.enter(env, &message{of: talk, arg: arg}, entry))
	return nil, nil
}

// Query implements localnet.Canister.
func (c *Canister) Query(env *localnet.Env, method string, arg []byte) (reply []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	entry := "canister_query " + method
	if c.instance.ExportedFunction(entry) == nil {
		return nil, localnet.ErrNoMethod
	}
	talk := &conversation{caller: env.Caller.Bytes(), answer: func(b []byte, reject *localnet.Reject) {
		if reply = b; reject != nil {
			err = reject
		}
	}}
	c.report(c.enter(env, &message{of: talk, arg: arg, query: true}, entry))
	return reply, err
}

// conversation is what began with one message and goes on with the callbacks of
// its calls: a call context, as the interface specification has it.
type conversation struct {
	caller []byte // nil where the system itself calls
	answer func(reply []byte, reject *localnet.Reject)
	done   bool // answered
	open   int  // calls that are not answered
}

// tell answers the caller, once.
func (t *conversation) tell(reply []byte, reject *localnet.Reject) {
	if t.answer != nil && !t.done {
		t.answer(reply, reject)
	}
	t.done = true
}

// enter executes an exported function as a message, and what follows from it at
// once. What it returns is how the message failed, nil if it did not.
func (c *Canister) enter(env *localnet.Env, m *message, entry string) *localnet.Reject {
	return c.proceed(env, m, func(ctx context.Context) error {
		_, err := c.instance.ExportedFunction(entry).Call(ctx)
		return err
	})
}

// proceed executes f as a message, makes the calls that it asked for, and tells
// the caller what is to be told. Calls of the canister to itself happen at once.
func (c *Canister) proceed(env *localnet.Env, m *message, f func(context.Context) error) *localnet.Reject {
	talk := m.of
	failure := c.execute(env, m, f)
	if failure == nil {
		switch {
		case m.rejected != nil:
			talk.tell(nil, &localnet.Reject{Code: localnet.CanisterReject, ErrorCode: "IC0406", Message: *m.rejected})
		case m.replied:
			talk.tell(m.reply, nil)
		}
		talk.open += len(m.calls)
		for _, call := range m.calls {
			c.make(env, call)
		}
	}
	if talk.open == 0 {
		if failure == nil {
			talk.tell(nil, &localnet.Reject{Code: localnet.CanisterError, ErrorCode: "IC0506", Message: "Canister did not produce a response"})
		} else {
			talk.tell(nil, failure)
		}
	}
	return failure
}

// make makes a call.
func (c *Canister) make(env *localnet.Env, call *outgoing) {
	var err error
	if call.Canister, err = verify.PrincipalFromBytes(call.callee); err != nil {
		c.back(env, call, nil, &localnet.Reject{Code: localnet.DestinationInvalid, Message: err.Error()})
		return
	}
	if call.Canister != env.Self {
		env.Call(call.Call, func(env *localnet.Env, reply []byte, reject *localnet.Reject) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.back(env, call, reply, reject)
			return nil
		})
		return
	}
	entry := "canister_update " + call.Method
	talk := &conversation{caller: env.Self.Bytes(), answer: func(reply []byte, reject *localnet.Reject) { c.back(env, call, reply, reject) }}
	if c.instance.ExportedFunction(entry) == nil {
		talk.tell(nil, localnet.ErrNoMethod)
		return
	}
	c.report(c.enter(env, &message{of: talk, arg: call.Arg}, entry))
}

// back executes the callback that the outcome of a call selects, and the one
// for cleaning up if that traps.
func (c *Canister) back(env *localnet.Env, call *outgoing, reply []byte, reject *localnet.Reject) {
	m, to := &message{of: call.of, arg: reply}, call.onReply
	if reject != nil {
		m.rejectCode, m.rejectText, to = uint32(reject.Code), reject.Message, call.onReject
	}
	call.of.open--
	failure := c.proceed(env, m, c.calling(to))
	if failure != nil && call.onCleanup != (callback{}) {
		c.report(c.execute(env, &message{of: &conversation{caller: call.of.caller, done: true}}, c.calling(call.onCleanup)))
	}
	c.report(failure)
}

// report prints how a message failed, as replicas put it into the canister's
// log. failure may be nil.
func (c *Canister) report(failure *localnet.Reject) {
	if failure != nil && c.Print != nil {
		c.Print(failure.Message)
	}
}

// calling is an execution of a callback.
func (c *Canister) calling(to callback) func(context.Context) error {
	return func(ctx context.Context) error {
		f := table.LookupFunction(c.instance, 0, to.function, []api.ValueType{api.ValueTypeI32}, nil)
		_, err := f.Call(ctx, uint64(to.argument))
		return err
	}
}

// execute runs f as one message execution: what it did stays if it succeeded
// and is undone if it trapped or was a query.
func (c *Canister) execute(env *localnet.Env, m *message, f func(context.Context) error) *localnet.Reject {
	before, msg := c.save(), c.msg
	m.env, c.msg = env, m
	err := f(context.Background())
	c.msg = msg
	if err != nil || m.query {
		c.restore(before)
	}
	switch {
	case err != nil && m.trap != "":
		return &localnet.Reject{Code: localnet.CanisterError, ErrorCode: "IC0503", Message: "Canister called `ic0.trap` with message: '" + m.trap + "'"}
	case err != nil:
		return &localnet.Reject{Code: localnet.CanisterError, ErrorCode: "IC0502", Message: "Canister trapped: " + err.Error()}
	case m.certified != nil && !m.query:
		env.SetCertifiedData(m.certified)
	}
	if m.timer != nil && !m.query {
		c.timer++
		if *m.timer > 0 {
			c.arm(env, time.Unix(0, int64(*m.timer)), c.timer)
		}
	}
	return nil
}

// arm has the global timer run at the given time unless it is set anew before.
func (c *Canister) arm(env *localnet.Env, at time.Time, number uint64) {
	env.After(max(0, at.Sub(env.Time)), func(env *localnet.Env) {
		c.mu.Lock()
		defer c.mu.Unlock()
		const entry = "canister_global_timer"
		if c.timer != number || c.instance.ExportedFunction(entry) == nil {
			return
		}
		c.report(c.enter(env, &message{of: &conversation{}}, entry))
	})
}

// saved is what a trap returns to.
type saved struct {
	memory  []byte
	globals []uint64
}

func (c *Canister) save() saved {
	memory := c.instance.Memory()
	view, _ := memory.Read(0, memory.Size())
	s := saved{memory: append([]byte(nil), view...)}
	for _, name := range c.globals {
		s.globals = append(s.globals, c.instance.ExportedGlobal(name).Get())
	}
	return s
}

// restore undoes everything but the growth of memory, whose new pages it
// clears: no instruction of the canister can tell, as the allocator's own
// record of them is undone.
func (c *Canister) restore(s saved) {
	memory := c.instance.Memory()
	view, _ := memory.Read(0, memory.Size())
	clear(view[copy(view, s.memory):])
	for i, name := range c.globals {
		c.instance.ExportedGlobal(name).(api.MutableGlobal).Set(s.globals[i])
	}
}
