package verify

import (
	"encoding/binary"
	"math"
	"sync"
)

// The Candid reader of this package decodes a handful of fixed types and skips whatever else a canister or a client
// sends along. It exists because agent-go's general decoder follows self-referential types until the stack is gone
// (ten bytes kill the process) and allocates per byte of a blob. This one never recurses, never allocates on behalf
// of a length it has not checked, and returns slices into its input.
//
// Source: the Candid specification, sections "Binary Format" and "Deserialisation".

// Candid opcodes as they appear in a type table and in type references (signed LEB128).
const (
	candidNull      = -1
	candidBool      = -2
	candidNat       = -3
	candidInt       = -4
	candidNat8      = -5
	candidNat16     = -6
	candidNat32     = -7
	candidNat64     = -8
	candidInt8      = -9
	candidInt16     = -10
	candidInt32     = -11
	candidInt64     = -12
	candidFloat32   = -13
	candidFloat64   = -14
	candidText      = -15
	candidReserved  = -16
	candidEmpty     = -17
	candidOpt       = -18
	candidVec       = -19
	candidRecord    = -20
	candidVariant   = -21
	candidFunc      = -22
	candidService   = -23
	candidPrincipal = -24
)

// Bounds of one Candid message. The interface of the canister kit needs 10 types and 30 fields; the rest is room for
// what an application puts into the optional second argument of ws_message.
const (
	maxCandidTypes  = 1024
	maxCandidFields = 8192
	maxCandidArgs   = 32
	maxCandidDepth  = 64
	// candidFuel is the number of values that may be skipped on top of one per input byte: values of some types take
	// no bytes, so a length alone does not bound the work.
	candidFuel = 4096
	// maxCandidSkips bounds the number per input byte. To pass over a value takes some 30 ns, so a reply of 3 MiB full of
	// bools could otherwise keep a processor busy for a tenth of a second. Blobs and numbers of fixed width are passed
	// over as wholes.
	maxCandidSkips = 1 << 16
)

// candidType is one entry of a type table: kind is an opcode; ref is the element type of opt and vec, or the first
// field of a record or variant in the table's field list, of which it has count.
type candidType struct {
	kind  int32
	ref   int32
	count int32
}

// candidField is one field of a record or variant: the hash of its name and its type, which is an opcode of a
// primitive type (negative) or an index into the type table.
type candidField struct {
	id  uint32
	ref int32
}

// candidReader is a cursor over one Candid message with its parsed type table.
type candidReader struct {
	rest   []byte
	types  []candidType
	fields []candidField
	args   [maxCandidArgs]int32
	nargs  int
	fuel   int
}

// candidReaders keeps readers with their tables for reuse: decoding allocates nothing once they are warm.
var candidReaders = sync.Pool{New: func() any { return new(candidReader) }}

// openCandid parses the header and the type table of a message and leaves the reader at the first argument's value.
// The caller must hand the reader back with close.
func openCandid(message []byte) (*candidReader, error) {
	r := candidReaders.Get().(*candidReader)
	if err := r.open(message); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// close returns the reader to the pool. Tables that a stranger made large are not kept.
func (r *candidReader) close() {
	r.rest = nil
	if cap(r.types) > 128 {
		r.types = nil
	}
	if cap(r.fields) > 512 {
		r.fields = nil
	}
	candidReaders.Put(r)
}

func (r *candidReader) open(message []byte) error {
	r.rest, r.types, r.fields, r.nargs = message, r.types[:0], r.fields[:0], 0
	r.fuel = min(len(message), maxCandidSkips) + candidFuel
	if len(message) < 4 || string(message[:4]) != "DIDL" {
		return candidError("no DIDL header")
	}
	r.rest = message[4:]
	count, err := r.count(maxCandidTypes, 2)
	if err != nil {
		return err
	}
	for range count {
		t, err := r.readType(count)
		if err != nil {
			return err
		}
		r.types = append(r.types, t)
	}
	if r.nargs, err = r.count(maxCandidArgs, 1); err != nil {
		return err
	}
	for i := range r.nargs {
		if r.args[i], err = r.typeRef(count); err != nil {
			return err
		}
	}
	return nil
}

// readType reads one entry of a type table that has count entries.
func (r *candidReader) readType(count int) (candidType, error) {
	op, err := r.sleb()
	if err != nil {
		return candidType{}, err
	}
	switch op {
	case candidOpt, candidVec:
		ref, err := r.typeRef(count)
		return candidType{kind: int32(op), ref: ref}, err
	case candidRecord, candidVariant:
		return r.readFields(int32(op), count)
	case candidFunc:
		return candidType{kind: candidFunc}, r.skipFuncType(count)
	case candidService:
		return candidType{kind: candidService}, r.skipServiceType(count)
	}
	if op >= candidPrincipal {
		return candidType{}, candidError("primitive or reference in the type table")
	}
	// A type of the future: its length and bytes. Values of it carry their own length too, see skipFuture.
	_, err = r.blob()
	return candidType{kind: math.MinInt32}, err
}

// readFields reads the fields of a record or variant type. The specification wants their ids strictly increasing,
// which also rules out a field that occurs twice.
func (r *candidReader) readFields(kind int32, count int) (candidType, error) {
	n, err := r.count(maxCandidFields-len(r.fields), 2)
	if err != nil {
		return candidType{}, err
	}
	t := candidType{kind: kind, ref: int32(len(r.fields)), count: int32(n)}
	next := uint64(0)
	for range n {
		id, err := r.leb()
		if err != nil {
			return t, err
		}
		if id < next || id > math.MaxUint32 {
			return t, candidError("field ids out of order")
		}
		next = id + 1
		ref, err := r.typeRef(count)
		if err != nil {
			return t, err
		}
		r.fields = append(r.fields, candidField{uint32(id), ref})
	}
	return t, nil
}

func (r *candidReader) skipFuncType(count int) error {
	for range 2 { // arguments, then results
		n, err := r.count(maxCandidFields, 1)
		if err != nil {
			return err
		}
		for range n {
			if _, err := r.typeRef(count); err != nil {
				return err
			}
		}
	}
	n, err := r.count(maxCandidFields, 1) // annotations, one byte each
	if err != nil {
		return err
	}
	r.rest = r.rest[n:]
	return nil
}

func (r *candidReader) skipServiceType(count int) error {
	n, err := r.count(maxCandidFields, 2)
	if err != nil {
		return err
	}
	for range n {
		if _, err := r.blob(); err != nil { // the method's name
			return err
		}
		if _, err := r.typeRef(count); err != nil {
			return err
		}
	}
	return nil
}

// typeRef reads a reference to a primitive type or to one of the count entries of the type table.
func (r *candidReader) typeRef(count int) (int32, error) {
	ref, err := r.sleb()
	if err != nil {
		return 0, err
	}
	switch {
	case ref >= 0 && ref < int64(count), ref < 0 && ref >= candidEmpty, ref == candidPrincipal:
		return int32(ref), nil
	}
	return 0, candidError("reference to a type that does not exist")
}

// typeOf resolves a reference: for a primitive type the entry has only its kind.
func (r *candidReader) typeOf(ref int32) candidType {
	if ref < 0 {
		return candidType{kind: ref}
	}
	return r.types[ref]
}

// fieldsOf returns the fields of a record or variant type.
func (r *candidReader) fieldsOf(t candidType) []candidField {
	return r.fields[t.ref : t.ref+t.count]
}

// isBlob tells whether a type is vec nat8.
func (r *candidReader) isBlob(ref int32) bool {
	t := r.typeOf(ref)
	return t.kind == candidVec && t.ref == candidNat8
}

// leb reads an unsigned LEB128 number of at most 64 bits.
func (r *candidReader) leb() (uint64, error) {
	if len(r.rest) > 0 && r.rest[0] < 0x80 { // by far the most frequent case
		v := r.rest[0]
		r.rest = r.rest[1:]
		return uint64(v), nil
	}
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		return 0, candidError("number truncated or above 64 bits")
	}
	r.rest = r.rest[n:]
	return v, nil
}

// sleb reads a signed LEB128 number of at most 35 bits: all that type references and opcodes can need.
func (r *candidReader) sleb() (int64, error) {
	var v int64
	for i := range min(len(r.rest), 5) {
		b := r.rest[i]
		v |= int64(b&0x7f) << (7 * i)
		if b < 0x80 {
			if b&0x40 != 0 {
				v |= -1 << (7 * (i + 1))
			}
			r.rest = r.rest[i+1:]
			return v, nil
		}
	}
	return 0, candidError("type reference truncated or too long")
}

// count reads a number of elements, at most limit, of which each takes at least size bytes of the input.
func (r *candidReader) count(limit, size int) (int, error) {
	n, err := r.leb()
	if err != nil {
		return 0, err
	}
	if n > uint64(limit) || n > uint64(len(r.rest)/size) {
		return 0, candidError("count above the limit or the input")
	}
	return int(n), nil
}

// blob reads a length and as many bytes, without copying. It serves text too.
func (r *candidReader) blob() ([]byte, error) {
	n, err := r.leb()
	if err != nil {
		return nil, err
	}
	if n > uint64(len(r.rest)) {
		return nil, candidError("length above the input")
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b, nil
}

// nat64 reads a fixed-width number.
func (r *candidReader) nat64() (uint64, error) {
	if len(r.rest) < 8 {
		return 0, candidError("nat64 truncated")
	}
	v := binary.LittleEndian.Uint64(r.rest)
	r.rest = r.rest[8:]
	return v, nil
}

// boolean reads a bool, which is one byte, 0 or 1.
func (r *candidReader) boolean() (bool, error) {
	if len(r.rest) == 0 || r.rest[0] > 1 {
		return false, candidError("bool is neither 0 nor 1")
	}
	v := r.rest[0] == 1
	r.rest = r.rest[1:]
	return v, nil
}

// principalBytes reads a principal in its transparent form.
func (r *candidReader) principalBytes() ([]byte, error) {
	if len(r.rest) == 0 || r.rest[0] != 1 {
		return nil, candidError("opaque principal reference")
	}
	r.rest = r.rest[1:]
	raw, err := r.blob()
	if err == nil && len(raw) > MaxPrincipalBytes {
		return nil, candidError("principal longer than 29 bytes")
	}
	return raw, err
}

// end checks that nothing follows the last argument. Arguments from first on, which the reader does not know, are
// skipped: a method may grow by arguments.
func (r *candidReader) end(first int) error {
	for i := first; i < r.nargs; i++ {
		if err := r.skip(r.args[i]); err != nil {
			return err
		}
	}
	if len(r.rest) != 0 {
		return candidError("bytes after the last argument")
	}
	return nil
}

// candidError is what every function of the Candid reader returns: a malformed message with the reason. The reasons
// are constants, so nothing of the message gets into a log.
func candidError(reason string) error {
	return &Error{Cause: CauseMalformed, Text: "decoding candid: " + reason, Err: ErrMalformed}
}
