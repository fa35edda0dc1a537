package localnet

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/icws-gateway/caddy-icws/verify"
)

// The canister reads its arguments with these functions instead of with those
// of package verify, whose writing they meet in every test: a wrong belief
// about Candid would otherwise be on both sides.

// Type codes of the Candid specification, section "Types", as signed LEB128.
const (
	candidNull      = -1
	candidBool      = -2
	candidNat8      = -5
	candidNat64     = -8
	candidText      = -15
	candidReserved  = -16
	candidOpt       = -18
	candidVec       = -19
	candidRecord    = -20
	candidVariant   = -21
	candidPrincipal = -24

	maxCandidDepth  = 64
	maxCandidValues = 10_000 // of one argument, nested ones included; bytes of a blob do not count
)

var errCandid = errors.New("malformed or unexpected candid")

// candidType is an entry of a type table.
type candidType struct {
	kind   int64
	elem   int64 // of an option or a vector
	fields []candidField
}

type candidField struct {
	id   uint32
	kind int64
}

// A decoded value is a uint64, bool, string, []byte (blob), []any (vector),
// nil (null, reserved), verify.Principal, or one of these.
type (
	record  map[uint32]any
	variant struct {
		id    uint32
		value any
	}
	option struct{ value any } // present
)

// fieldID is the number of a field name.
func fieldID(name string) uint32 {
	var h uint32
	for _, c := range []byte(name) {
		h = h*223 + uint32(c)
	}
	return h
}

type candidReader struct {
	buf    []byte
	types  []candidType
	values int
	bad    bool
}

// readCandid decodes the first of the arguments in b. As canisters do, it
// ignores further ones, which newer callers may send.
func readCandid(b []byte) (any, error) {
	r := &candidReader{buf: b}
	if string(r.take(4)) != "DIDL" {
		return nil, errCandid
	}
	for range r.count() {
		r.types = append(r.types, r.readType())
	}
	args := make([]int64, 0, 2)
	for range r.count() {
		args = append(args, r.signed())
	}
	if r.bad || len(args) == 0 {
		return nil, errCandid
	}
	v := r.value(args[0], 0)
	if r.bad || len(args) == 1 && len(r.buf) > 0 {
		return nil, errCandid
	}
	return v, nil
}

func (r *candidReader) fail() { r.bad, r.buf = true, nil }

func (r *candidReader) take(n uint64) []byte {
	if uint64(len(r.buf)) < n {
		r.fail()
		return nil
	}
	b := r.buf[:n]
	r.buf = r.buf[n:]
	return b
}

func (r *candidReader) unsigned() uint64 {
	n, size := binary.Uvarint(r.buf)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.buf = r.buf[size:]
	return n
}

func (r *candidReader) signed() (n int64) {
	for shift := 0; shift < 63; shift += 7 {
		b := r.take(1)
		if r.bad {
			return 0
		}
		n |= int64(b[0]&0x7f) << shift
		if b[0] < 0x80 {
			if b[0]&0x40 != 0 {
				n |= -1 << (shift + 7)
			}
			return n
		}
	}
	r.fail()
	return 0
}

// count reads how many things follow that take a byte each at least.
func (r *candidReader) count() uint64 {
	n := r.unsigned()
	if n > uint64(len(r.buf)) {
		r.fail()
		return 0
	}
	return n
}

func (r *candidReader) readType() (t candidType) {
	switch t.kind = r.signed(); t.kind {
	case candidOpt, candidVec:
		t.elem = r.signed()
	case candidRecord, candidVariant:
		for i := range r.count() {
			id := r.unsigned()
			if r.bad || id > 1<<32-1 || i > 0 && uint32(id) <= t.fields[i-1].id {
				r.fail()
				return t
			}
			t.fields = append(t.fields, candidField{uint32(id), r.signed()})
		}
	default: // functions and services are no data of this canister's
		r.fail()
	}
	return t
}

func (r *candidReader) value(kind int64, depth int) any {
	if r.values++; r.bad || depth > maxCandidDepth || r.values > maxCandidValues {
		r.fail()
		return nil
	}
	if kind >= 0 {
		if kind >= int64(len(r.types)) {
			r.fail()
			return nil
		}
		return r.composite(&r.types[kind], depth)
	}
	switch kind {
	case candidNull, candidReserved:
		return nil
	case candidBool:
		b := r.take(1)
		if r.bad || b[0] > 1 {
			r.fail()
			return nil
		}
		return b[0] == 1
	case candidNat64:
		if b := r.take(8); !r.bad {
			return binary.LittleEndian.Uint64(b)
		}
	case candidText:
		return string(r.take(r.unsigned()))
	case candidPrincipal:
		if b := r.take(1); r.bad || b[0] != 1 {
			break
		}
		if p, err := verify.PrincipalFromBytes(r.take(r.unsigned())); err == nil && !r.bad {
			return p
		}
	}
	r.fail()
	return nil
}

func (r *candidReader) composite(t *candidType, depth int) any {
	switch {
	case t.kind == candidVec && t.elem == candidNat8:
		return r.take(r.unsigned())
	case t.kind == candidVec:
		var list []any
		for n := r.unsigned(); n > 0 && !r.bad; n-- {
			list = append(list, r.value(t.elem, depth+1))
		}
		return list
	case t.kind == candidOpt:
		b := r.take(1)
		switch {
		case r.bad || b[0] > 1:
			r.fail()
			return nil
		case b[0] == 0:
			return nil
		}
		return option{r.value(t.elem, depth+1)}
	case t.kind == candidRecord:
		m := record{}
		for _, f := range t.fields {
			m[f.id] = r.value(f.kind, depth+1)
		}
		return m
	}
	i := r.unsigned()
	if i >= uint64(len(t.fields)) {
		r.fail()
		return nil
	}
	return variant{t.fields[i].id, r.value(t.fields[i].kind, depth+1)}
}

// field finds a field of a record that has the wanted type.
func field[T any](v any, name string) (T, error) {
	m, ok := v.(record)
	if !ok {
		var none T
		return none, errCandid
	}
	value, ok := m[fieldID(name)].(T)
	if !ok {
		return value, fmt.Errorf("%w: field %s", errCandid, name)
	}
	return value, nil
}
