// Package ic0 runs a compiled canister on the local network: the WebAssembly
// that would be installed on the Internet Computer, unchanged, with the part of
// the system API that canisters built on ic-websocket-cdk use.
//
// It is for development and for tests that want the published CDK on the other
// end and not this project's own idea of it. Messages run one at a time; a trap
// undoes what its message did, as on the IC. Calls to other canisters are
// rejected, cycles and instruction limits do not exist, and stable memory is
// not offered: a canister that imports what is missing here fails to load with
// an error that names it.
package ic0

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
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
	_, err = c.run(env, &message{arg: []byte("DIDL\x00\x00")}, entry)
	return err
}

// Update implements localnet.Canister.
func (c *Canister) Update(env *localnet.Env, method string, arg []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.call(env, &message{caller: env.Caller.Bytes(), arg: arg}, "canister_update "+method)
}

// Query implements localnet.Canister.
func (c *Canister) Query(env *localnet.Env, method string, arg []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.call(env, &message{caller: env.Caller.Bytes(), arg: arg, query: true}, "canister_query "+method)
}

// call runs a method and demands an answer.
func (c *Canister) call(env *localnet.Env, m *message, entry string) ([]byte, error) {
	if c.instance.ExportedFunction(entry) == nil {
		return nil, localnet.ErrNoMethod
	}
	return c.run(env, m, entry)
}

// run executes one exported function as a message, and then the calls that it
// made to the canister itself, each with its callback.
func (c *Canister) run(env *localnet.Env, m *message, entry string) ([]byte, error) {
	if err := c.execute(env, m, func(ctx context.Context) error {
		_, err := c.instance.ExportedFunction(entry).Call(ctx)
		return err
	}); err != nil {
		return nil, err
	}
	for len(m.calls) > 0 {
		next := m.calls[0]
		m.calls = m.calls[1:]
		back, err := c.deliver(env, next)
		if err != nil {
			return nil, err
		}
		m.calls = append(m.calls, back...)
	}
	switch {
	case m.rejected != nil:
		return nil, &localnet.Reject{Code: localnet.CanisterReject, ErrorCode: "IC0406", Message: *m.rejected}
	case m.replied || m.caller == nil:
		return m.reply, nil
	}
	return nil, &localnet.Reject{Code: localnet.CanisterError, ErrorCode: "IC0506", Message: "Canister did not produce a response"}
}

// deliver executes a call of the canister to itself and the callback that its
// outcome selects. It returns the calls that the callback made.
func (c *Canister) deliver(env *localnet.Env, call *outgoing) ([]*outgoing, error) {
	answer := &message{}
	callback, closure := call.onReply, call.replyEnv
	reply, err := func() ([]byte, error) {
		if string(call.callee) != string(env.Self.Bytes()) {
			return nil, &localnet.Reject{Code: localnet.DestinationInvalid, Message: "this network runs no other canisters for this one"}
		}
		return c.call(env, &message{caller: env.Self.Bytes(), arg: call.arg}, "canister_update "+call.method)
	}()
	answer.arg = reply
	if err != nil {
		answer.rejectCode, answer.rejectText = localnet.CanisterError, err.Error()
		if r, ok := err.(*localnet.Reject); ok {
			answer.rejectCode, answer.rejectText = uint32(r.Code), r.Message
		}
		callback, closure = call.onReject, call.rejectEnv
	}
	err = c.execute(env, answer, func(ctx context.Context) error {
		f := table.LookupFunction(c.instance, 0, callback, []api.ValueType{api.ValueTypeI32}, nil)
		_, err := f.Call(ctx, uint64(closure))
		return err
	})
	return answer.calls, err
}

// execute runs f as one message execution: what it did stays if it succeeded
// and is undone if it trapped or was a query.
func (c *Canister) execute(env *localnet.Env, m *message, f func(context.Context) error) (err error) {
	before, msg := c.save(), c.msg
	m.env, c.msg = env, m
	err = f(context.Background())
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
		if _, err := c.run(env, &message{}, entry); err != nil && c.Print != nil {
			c.Print("timer: " + err.Error())
		}
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
