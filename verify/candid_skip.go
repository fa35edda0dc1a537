package verify

// skipFrame is one level of a value being skipped: the fields of a record from next to end, or, for a vector, left
// elements of the type elem.
type skipFrame struct {
	next, end int32
	elem      int32
	left      uint64
}

// skip passes over one value of any type. It keeps its own stack, at most maxCandidDepth levels deep, and visits at
// most one value per byte of the message, maxCandidSkips, and candidFuel more: a record that contains itself, or a vector
// of a billion bools, is an error within a few milliseconds.
func (r *candidReader) skip(ref int32) error {
	var stack [maxCandidDepth]skipFrame
	depth := 0
	for {
		frame, err := r.skipOne(ref)
		if err != nil {
			return err
		}
		if frame.left > 0 || frame.next < frame.end {
			if depth == len(stack) {
				return candidError("values nested too deep")
			}
			stack[depth] = frame
			depth++
		}
		// The next value to skip is the innermost unfinished one.
		for {
			if depth == 0 {
				return nil
			}
			top := &stack[depth-1]
			if top.left > 0 {
				top.left--
				ref = top.elem
				break
			}
			if top.next < top.end {
				ref = r.fields[top.next].ref
				top.next++
				break
			}
			depth--
		}
	}
}

// skipOne passes over a value without parts, or over the head of one with parts, which it returns as a frame.
func (r *candidReader) skipOne(ref int32) (skipFrame, error) {
	var none skipFrame
	if r.fuel--; r.fuel < 0 {
		return none, candidError("more values than the limit or the input allow")
	}
	if ref < 0 {
		return none, r.skipPrimitive(ref)
	}
	t := r.types[ref]
	switch t.kind {
	case candidRecord:
		return skipFrame{next: t.ref, end: t.ref + t.count}, nil
	case candidVariant:
		index, err := r.leb()
		if err != nil {
			return none, err
		}
		if index >= uint64(t.count) {
			return none, candidError("variant index out of range")
		}
		field := t.ref + int32(index)
		return skipFrame{next: field, end: field + 1}, nil
	case candidOpt:
		some, err := r.boolean()
		if err != nil || !some {
			return none, err
		}
		return skipFrame{elem: t.ref, left: 1}, nil
	case candidVec:
		return r.skipVec(t.ref)
	case candidFunc:
		if len(r.rest) == 0 || r.rest[0] != 1 {
			return none, candidError("opaque function reference")
		}
		r.rest = r.rest[1:]
		if _, err := r.principalBytes(); err != nil {
			return none, err
		}
		_, err := r.blob() // the method's name
		return none, err
	case candidService:
		_, err := r.principalBytes()
		return none, err
	}
	return none, r.skipFuture()
}

// skipVec passes over the length of a vector and, where the element's size is fixed, over the elements too.
func (r *candidReader) skipVec(elem int32) (skipFrame, error) {
	n, err := r.leb()
	if err != nil {
		return skipFrame{}, err
	}
	if size, fixed := candidSize(elem); fixed {
		if size > 0 && n > uint64(len(r.rest)/size) {
			return skipFrame{}, candidError("length above the input")
		}
		r.rest = r.rest[uint64(size)*n:]
		return skipFrame{}, nil
	}
	if n > uint64(r.fuel) {
		return skipFrame{}, candidError("more values than the limit or the input allow")
	}
	return skipFrame{elem: elem, left: n}, nil
}

// candidSize returns the size in bytes of a primitive type whose values are all equally long and all valid. (A bool
// is not: 2 is invalid.)
func candidSize(ref int32) (int, bool) {
	switch ref {
	case candidNull, candidReserved:
		return 0, true
	case candidNat8, candidInt8:
		return 1, true
	case candidNat16, candidInt16:
		return 2, true
	case candidNat32, candidInt32, candidFloat32:
		return 4, true
	case candidNat64, candidInt64, candidFloat64:
		return 8, true
	}
	return 0, false
}

func (r *candidReader) skipPrimitive(ref int32) error {
	if size, fixed := candidSize(ref); fixed {
		if len(r.rest) < size {
			return candidError("number truncated")
		}
		r.rest = r.rest[size:]
		return nil
	}
	switch ref {
	case candidBool:
		_, err := r.boolean()
		return err
	case candidText:
		_, err := r.blob()
		return err
	case candidPrincipal:
		_, err := r.principalBytes()
		return err
	case candidNat, candidInt: // of any length: the last byte is the first below 0x80
		for i, b := range r.rest {
			if b < 0x80 {
				r.rest = r.rest[i+1:]
				return nil
			}
		}
		return candidError("number truncated")
	}
	return candidError("value of the empty type") // there is none
}

// skipFuture passes over a value of a type that the specification may add: its length in bytes, the number of
// references in it (which a first-order message cannot have), the bytes.
func (r *candidReader) skipFuture() error {
	n, err := r.leb()
	if err != nil {
		return err
	}
	refs, err := r.leb()
	if err != nil {
		return err
	}
	if refs != 0 || n > uint64(len(r.rest)) {
		return candidError("value of an unknown type with references or beyond the input")
	}
	r.rest = r.rest[n:]
	return nil
}
