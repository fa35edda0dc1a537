package candid

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/icws-gateway/caddy-icws/verify"
)

// Fields makes a Record of fields by name.
func Fields(fields map[string]any) Record {
	r := make(Record, len(fields))
	for name, value := range fields {
		r[ID(name)] = value
	}
	return r
}

// Case makes a Variant of the case with a name. Its value is nil if the case
// carries none.
func Case(name string, value any) Variant { return Variant{ID(name), value} }

// Encode returns the Candid encoding of one argument, whose type is that of v:
// a variant has the one case that it is, which readers of more cases take. In
// place of []any, whose element type an empty one does not tell, it writes
// []verify.Principal. It panics on a value of another type: what is written is
// chosen by the program.
func Encode(v any) []byte {
	w := &writer{}
	kind := w.kind(v)
	dst := binary.AppendUvarint([]byte("DIDL"), w.types)
	dst = append(dst, w.table...)
	dst = appendSigned(append(dst, 1), kind)
	return appendValue(dst, v)
}

// writer collects the type table.
type writer struct {
	table []byte
	types uint64
}

// kind is the type of v: a code, or the place in the table where it was put.
func (w *writer) kind(v any) int64 {
	switch v := v.(type) {
	case nil:
		return codeNull
	case bool:
		return codeBool
	case uint64:
		return codeNat64
	case string:
		return codeText
	case verify.Principal:
		return codePrincipal
	case []byte:
		return w.add(appendSigned([]byte{codeVec & 0x7f}, codeNat8))
	case []verify.Principal:
		return w.add(appendSigned([]byte{codeVec & 0x7f}, codePrincipal))
	case Option:
		return w.add(appendSigned([]byte{codeOpt & 0x7f}, w.kind(v.Value)))
	case Record:
		entry := binary.AppendUvarint([]byte{codeRecord & 0x7f}, uint64(len(v)))
		for _, id := range v.order() {
			entry = appendSigned(binary.AppendUvarint(entry, uint64(id)), w.kind(v[id]))
		}
		return w.add(entry)
	case Variant:
		entry := binary.AppendUvarint([]byte{codeVariant & 0x7f, 1}, uint64(v.ID))
		return w.add(appendSigned(entry, w.kind(v.Value)))
	}
	panic(fmt.Sprintf("candid: values of type %T are not written", v))
}

func (w *writer) add(entry []byte) int64 {
	w.table = append(w.table, entry...)
	w.types++
	return int64(w.types) - 1
}

// order is that in which the fields of a record are written.
func (r Record) order() []uint32 { return slices.Sorted(maps.Keys(r)) }

func appendValue(dst []byte, v any) []byte {
	switch v := v.(type) {
	case bool:
		if v {
			return append(dst, 1)
		}
		return append(dst, 0)
	case uint64:
		return binary.LittleEndian.AppendUint64(dst, v)
	case string:
		return append(binary.AppendUvarint(dst, uint64(len(v))), v...)
	case []byte:
		return append(binary.AppendUvarint(dst, uint64(len(v))), v...)
	case verify.Principal:
		raw := v.Bytes()
		return append(append(dst, 1, byte(len(raw))), raw...)
	case []verify.Principal:
		dst = binary.AppendUvarint(dst, uint64(len(v)))
		for _, p := range v {
			dst = appendValue(dst, p)
		}
	case Option:
		return appendValue(append(dst, 1), v.Value)
	case Record:
		for _, id := range v.order() {
			dst = appendValue(dst, v[id])
		}
	case Variant:
		return appendValue(append(dst, 0), v.Value)
	}
	return dst
}

// appendSigned appends n as signed LEB128.
func appendSigned(dst []byte, n int64) []byte {
	for {
		b := byte(n & 0x7f)
		n >>= 7
		if n == 0 && b&0x40 == 0 || n == -1 && b&0x40 != 0 {
			return append(dst, b)
		}
		dst = append(dst, b|0x80)
	}
}
