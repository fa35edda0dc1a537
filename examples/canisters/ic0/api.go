package ic0

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"math/bits"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/tetratelabs/wazero/api"
)

// message is one execution: its input, and what it has asked for so far.
type message struct {
	env   *localnet.Env
	of    *conversation
	arg   []byte
	query bool

	rejectCode uint32 // in callbacks
	rejectText string

	reply     []byte
	replied   bool
	rejected  *string
	trap      string
	certified []byte
	timer     *uint64 // nanoseconds since 1970, 0 to disarm
	call      *outgoing
	calls     []*outgoing
}

// outgoing is a call to another canister or to itself.
type outgoing struct {
	of     *conversation // that the callbacks belong to
	callee []byte
	localnet.Call
	onReply, onReject, onCleanup callback
}

// callback is an index in the function table, and its argument.
type callback struct{ function, argument uint32 }

// errTrap ends an execution that called ic0.trap; the text is in the message.
var errTrap = errors.New("trapped")

// link offers the system API to the module about to be instantiated. The
// names and signatures are those of the interface specification, section
// "System API".
func (c *Canister) link(ctx context.Context) error {
	b := c.runtime.NewHostModuleBuilder("ic0")
	export := func(name string, f any) { b.NewFunctionBuilder().WithFunc(f).Export(name) }

	// Values that come as a size and a copy.
	blob := func(name string, get func(m *message) []byte) {
		export(name+"_size", func() uint32 { return uint32(len(get(c.msg))) })
		export(name+"_copy", func(_ context.Context, mod api.Module, dst, offset, size uint32) {
			write(mod, dst, get(c.msg), offset, size)
		})
	}
	blob("msg_arg_data", func(m *message) []byte { return m.arg })
	blob("msg_caller", func(m *message) []byte {
		if m.of.caller == nil {
			return m.env.Self.Bytes()
		}
		return m.of.caller
	})
	blob("msg_reject_msg", func(m *message) []byte { return []byte(m.rejectText) })
	blob("canister_self", func(m *message) []byte { return m.env.Self.Bytes() })
	blob("data_certificate", func(m *message) []byte { return m.env.DataCertificate() })

	export("data_certificate_present", func() uint32 {
		if c.msg.query && c.msg.env.DataCertificate() != nil {
			return 1
		}
		return 0
	})
	export("msg_reject_code", func() uint32 { return c.msg.rejectCode })
	export("msg_reply_data_append", func(_ context.Context, mod api.Module, src, size uint32) {
		c.msg.reply = append(c.msg.reply, read(mod, src, size)...)
	})
	export("msg_reply", func() { c.msg.replied = true })
	export("msg_reject", func(_ context.Context, mod api.Module, src, size uint32) {
		text := string(read(mod, src, size))
		c.msg.rejected = &text
	})
	export("certified_data_set", func(_ context.Context, mod api.Module, src, size uint32) {
		if size > 32 {
			panic(errors.New("certified data is limited to 32 bytes"))
		}
		c.msg.certified = append([]byte{}, read(mod, src, size)...)
	})
	export("time", func() uint64 { return uint64(c.msg.env.Time.UnixNano()) })
	export("global_timer_set", func(at uint64) uint64 {
		c.msg.timer = &at
		return 0 // the timer before it; the CDK does not ask
	})
	export("debug_print", func(_ context.Context, mod api.Module, src, size uint32) {
		if line := string(read(mod, src, size)); c.Print != nil {
			c.Print(line)
		}
	})
	export("trap", func(_ context.Context, mod api.Module, src, size uint32) {
		c.msg.trap = string(read(mod, src, size))
		panic(errTrap)
	})

	// Without call_new before them, the functions that follow are the canister's mistake.
	call := func() *outgoing {
		if c.msg.call == nil {
			panic(errors.New("there is no call under construction"))
		}
		return c.msg.call
	}
	export("call_new", func(_ context.Context, mod api.Module, callee, calleeSize, name, nameSize, onReply, replyArg, onReject, rejectArg uint32) {
		if c.msg.query {
			panic(errors.New("ic0.call_new cannot be executed in non replicated query mode"))
		}
		c.msg.call = &outgoing{
			of: c.msg.of, callee: append([]byte(nil), read(mod, callee, calleeSize)...),
			onReply: callback{onReply, replyArg}, onReject: callback{onReject, rejectArg},
		}
		c.msg.call.Method = string(read(mod, name, nameSize))
	})
	export("call_data_append", func(_ context.Context, mod api.Module, src, size uint32) {
		call().Arg = append(call().Arg, read(mod, src, size)...)
	})
	export("call_on_cleanup", func(function, argument uint32) { call().onCleanup = callback{function, argument} })
	export("call_with_best_effort_response", func(_ uint32) {}) // every call has an outcome, long before a timeout
	export("call_cycles_add128", func(high, low uint64) {
		sum, carry := bits.Add64(call().Cycles, low, 0)
		if high > 0 || carry > 0 {
			sum = math.MaxUint64 // more than any fee
		}
		call().Cycles = sum
	})
	// Cycles are not counted: a canister has as many as it attaches, and a call costs none beside those.
	export("canister_liquid_cycle_balance128", func(_ context.Context, mod api.Module, dst uint32) {
		write(mod, dst, binary.LittleEndian.AppendUint64(nil, math.MaxUint64), 0, 8)
		write(mod, dst+8, make([]byte, 8), 0, 8)
	})
	export("cost_call", func(_ context.Context, mod api.Module, _, _ uint64, dst uint32) {
		write(mod, dst, make([]byte, 16), 0, 16)
	})
	export("call_perform", func() uint32 { // never refused
		c.msg.calls = append(c.msg.calls, call())
		c.msg.call = nil
		return 0
	})
	_, err := b.Instantiate(ctx)
	return err
}

// read is a view of the canister's memory, valid until it runs again. A range
// outside of it is the canister's mistake and traps.
func read(mod api.Module, src, size uint32) []byte {
	view, ok := mod.Memory().Read(src, size)
	if !ok {
		panic(errors.New("heap out of bounds"))
	}
	return view
}

// write copies value[offset:offset+size] to dst.
func write(mod api.Module, dst uint32, value []byte, offset, size uint32) {
	if uint64(offset)+uint64(size) > uint64(len(value)) {
		panic(errors.New("offset and size exceed the value"))
	}
	if !mod.Memory().Write(dst, value[offset:offset+size]) {
		panic(errors.New("heap out of bounds"))
	}
}
