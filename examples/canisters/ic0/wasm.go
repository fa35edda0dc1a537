package ic0

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Sections of the binary format that matter here.
const (
	sectionGlobal = 6
	sectionExport = 7
)

var errShort = errors.New("module ends early: it is not a complete WebAssembly file")

// exportGlobals returns the module with its own mutable globals exported, and
// their names. Compilers keep the stack pointer in one, and a trap has to
// restore it with the memory; the runtime gives access to exported globals only.
func exportGlobals(wasm []byte) (out []byte, names []string, err error) {
	const header = 8
	if len(wasm) < header || string(wasm[:4]) != "\x00asm" {
		return nil, nil, errors.New("not a WebAssembly module")
	}
	var exports []byte // entries to add
	out = append(out, wasm[:header]...)
	for rest := wasm[header:]; len(rest) > 0; {
		id := rest[0]
		size, n := binary.Uvarint(rest[1:])
		if n <= 0 || size > uint64(len(rest)-1-n) {
			return nil, nil, errShort
		}
		body := rest[1+n : 1+n+int(size)]
		rest = rest[1+n+int(size):]
		switch id {
		case sectionGlobal:
			mutable, err := mutableGlobals(body)
			if err != nil {
				return nil, nil, err
			}
			for _, index := range mutable {
				name := fmt.Sprintf("ic0 global %d", index)
				names = append(names, name)
				exports = binary.AppendUvarint(exports, uint64(len(name)))
				exports = append(exports, name...)
				exports = append(exports, 3) // kind: global
				exports = binary.AppendUvarint(exports, uint64(index))
			}
		case sectionExport:
			count, n := binary.Uvarint(body)
			if n <= 0 {
				return nil, nil, errShort
			}
			grown := binary.AppendUvarint(nil, count+uint64(len(names)))
			grown = append(grown, body[n:]...)
			body = append(grown, exports...)
		}
		out = append(out, id)
		out = binary.AppendUvarint(out, uint64(len(body)))
		out = append(out, body...)
	}
	return out, names, nil
}

// mutableGlobals lists the indices of the mutable globals of a global section.
// Canisters import no globals, so indices begin at 0.
func mutableGlobals(body []byte) ([]int, error) {
	count, n := binary.Uvarint(body)
	if n <= 0 {
		return nil, errShort
	}
	body = body[n:]
	var mutable []int
	for i := range int(min(count, 1<<16)) {
		if len(body) < 3 {
			return nil, errShort
		}
		if body[1] == 1 {
			mutable = append(mutable, i)
		}
		// type, mutability, then a constant expression: one instruction with its operand, then end (0x0b).
		expr := body[2:]
		var operand int
		switch expr[0] {
		case 0x41, 0x42, 0x23, 0xd2: // i32.const, i64.const, global.get, ref.func
			_, operand = binary.Uvarint(expr[1:])
			if operand <= 0 {
				return nil, errShort
			}
		case 0x43: // f32.const
			operand = 4
		case 0x44: // f64.const
			operand = 8
		case 0xd0: // ref.null
			operand = 1
		default:
			return nil, fmt.Errorf("a global is initialised by instruction %#x, which this reader does not know", expr[0])
		}
		if len(expr) < 2+operand || expr[1+operand] != 0x0b {
			return nil, errShort
		}
		body = expr[2+operand:]
	}
	return mutable, nil
}
