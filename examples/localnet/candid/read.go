package candid

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/icws-gateway/caddy-icws/verify"
)

// Type codes of the Candid specification, section "Types", as signed LEB128.
const (
	codeNull      = -1
	codeBool      = -2
	codeNat8      = -5
	codeNat64     = -8
	codeText      = -15
	codeReserved  = -16
	codeOpt       = -18
	codeVec       = -19
	codeRecord    = -20
	codeVariant   = -21
	codePrincipal = -24

	maxDepth  = 64
	maxValues = 10_000 // of one argument, nested ones included; bytes of a blob do not count
)

// ErrUnexpected says that bytes are no Candid, or not of the wanted type.
var ErrUnexpected = errors.New("malformed or unexpected candid")

// typeEntry is an entry of a type table.
type typeEntry struct {
	kind   int64
	elem   int64 // of an option or a vector
	fields []typeField
}

type typeField struct {
	id   uint32
	kind int64
}

// A value is a uint64 (nat64), bool, string, []byte (blob), []any (vector), nil
// (null, reserved, an absent option), verify.Principal, or one of these.
type (
	// Record holds its values by the numbers of the fields, see ID.
	Record map[uint32]any
	// Variant is one case of a variant.
	Variant struct {
		ID    uint32 // of its name
		Value any
	}
	// Option is one that is present.
	Option struct{ Value any }
)

// ID is the number of a field name.
func ID(name string) uint32 {
	var h uint32
	for _, c := range []byte(name) {
		h = h*223 + uint32(c)
	}
	return h
}

type reader struct {
	buf    []byte
	types  []typeEntry
	values int
	bad    bool
}

// Read decodes the first of the arguments in b. As canisters do, it
// ignores further ones, which newer callers may send. Blobs are parts of b.
func Read(b []byte) (any, error) {
	r := &reader{buf: b}
	if string(r.take(4)) != "DIDL" {
		return nil, ErrUnexpected
	}
	for range r.count() {
		r.types = append(r.types, r.readType())
	}
	args := make([]int64, 0, 2)
	for range r.count() {
		args = append(args, r.signed())
	}
	if r.bad || len(args) == 0 {
		return nil, ErrUnexpected
	}
	v := r.value(args[0], 0)
	if r.bad || len(args) == 1 && len(r.buf) > 0 {
		return nil, ErrUnexpected
	}
	return v, nil
}

func (r *reader) fail() { r.bad, r.buf = true, nil }

func (r *reader) take(n uint64) []byte {
	if uint64(len(r.buf)) < n {
		r.fail()
		return nil
	}
	b := r.buf[:n]
	r.buf = r.buf[n:]
	return b
}

func (r *reader) unsigned() uint64 {
	n, size := binary.Uvarint(r.buf)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.buf = r.buf[size:]
	return n
}

func (r *reader) signed() (n int64) {
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
func (r *reader) count() uint64 {
	n := r.unsigned()
	if n > uint64(len(r.buf)) {
		r.fail()
		return 0
	}
	return n
}

func (r *reader) readType() (t typeEntry) {
	switch t.kind = r.signed(); t.kind {
	case codeOpt, codeVec:
		t.elem = r.signed()
	case codeRecord, codeVariant:
		for i := range r.count() {
			id := r.unsigned()
			if r.bad || id > 1<<32-1 || i > 0 && uint32(id) <= t.fields[i-1].id {
				r.fail()
				return t
			}
			t.fields = append(t.fields, typeField{uint32(id), r.signed()})
		}
	default: // functions and services are no data of this canister's
		r.fail()
	}
	return t
}

func (r *reader) value(kind int64, depth int) any {
	if r.values++; r.bad || depth > maxDepth || r.values > maxValues {
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
	case codeNull, codeReserved:
		return nil
	case codeBool:
		b := r.take(1)
		if r.bad || b[0] > 1 {
			r.fail()
			return nil
		}
		return b[0] == 1
	case codeNat64:
		if b := r.take(8); !r.bad {
			return binary.LittleEndian.Uint64(b)
		}
	case codeText:
		if b := r.take(r.unsigned()); !r.bad && utf8.Valid(b) {
			return string(b)
		}
	case codePrincipal:
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

func (r *reader) composite(t *typeEntry, depth int) any {
	switch {
	case t.kind == codeVec && t.elem == codeNat8:
		return r.take(r.unsigned())
	case t.kind == codeVec:
		var list []any
		for n := r.unsigned(); n > 0 && !r.bad; n-- {
			list = append(list, r.value(t.elem, depth+1))
		}
		return list
	case t.kind == codeOpt:
		b := r.take(1)
		switch {
		case r.bad || b[0] > 1:
			r.fail()
			return nil
		case b[0] == 0:
			return nil
		}
		return Option{r.value(t.elem, depth+1)}
	case t.kind == codeRecord:
		m := Record{}
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
	return Variant{t.fields[i].id, r.value(t.fields[i].kind, depth+1)}
}

// Field finds a field of a record that has the wanted type.
func Field[T any](v any, name string) (T, error) {
	m, ok := v.(Record)
	if !ok {
		var none T
		return none, ErrUnexpected
	}
	value, ok := m[ID(name)].(T)
	if !ok {
		return value, fmt.Errorf("%w: field %s", ErrUnexpected, name)
	}
	return value, nil
}
