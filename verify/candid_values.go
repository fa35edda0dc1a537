package verify

import "unicode/utf8"

// This file reads values whose type the reader knows, after checking that the sender's type table says the same.

// recordArg returns the fields of the first argument, which must be a record, in the order of their values.
func (r *candidReader) recordArg() ([]candidField, error) {
	if r.nargs == 0 {
		return nil, candidError("no arguments")
	}
	t := r.typeOf(r.args[0])
	if t.kind != candidRecord {
		return nil, candidError("argument is not a record")
	}
	return r.fieldsOf(t), nil
}

// onlyField reads a record with read for the value of the field id, which must be there, and skips all other fields. lacks says
// what is wrong without it.
func (r *candidReader) onlyField(ref int32, id uint32, lacks string, read func(ref int32) error) error {
	t := r.typeOf(ref)
	if t.kind != candidRecord {
		return candidError("value is not a record")
	}
	found := false
	for _, f := range r.fieldsOf(t) {
		var err error
		if f.id == id {
			err, found = read(f.ref), true
		} else {
			err = r.skip(f.ref)
		}
		if err != nil {
			return err
		}
	}
	if !found {
		return candidError(lacks)
	}
	return nil
}

// onlyArg reads a message whose first argument is a record as onlyField does, and skips all other arguments.
func onlyArg(arg []byte, id uint32, lacks string, read func(r *candidReader, ref int32) error) error {
	r, err := openCandid(arg)
	if err != nil {
		return err
	}
	defer r.close()
	if r.nargs == 0 {
		return candidError("no arguments")
	}
	err = r.onlyField(r.args[0], id, lacks, func(ref int32) error { return read(r, ref) })
	if err != nil {
		return err
	}
	return r.end(1)
}

// variantArg reads the index of the first argument, which must be a variant, and returns the field it selects.
func (r *candidReader) variantArg() (candidField, error) {
	if r.nargs == 0 {
		return candidField{}, candidError("no arguments")
	}
	return r.variantAs(r.args[0])
}

func (r *candidReader) variantAs(ref int32) (candidField, error) {
	t := r.typeOf(ref)
	if t.kind != candidVariant {
		return candidField{}, candidError("value is not a variant")
	}
	index, err := r.leb()
	if err != nil {
		return candidField{}, err
	}
	if index >= uint64(t.count) {
		return candidField{}, candidError("variant index out of range")
	}
	return r.fieldsOf(t)[index], nil
}

func (r *candidReader) nat64As(ref int32) (uint64, error) {
	if ref != candidNat64 {
		return 0, candidError("number is not a nat64")
	}
	return r.nat64()
}

func (r *candidReader) booleanAs(ref int32) (bool, error) {
	if ref != candidBool {
		return false, candidError("flag is not a bool")
	}
	return r.boolean()
}

// principalAs reads a principal into p: results of that size would be copied at every return.
func (r *candidReader) principalAs(ref int32, p *Principal) error {
	if ref != candidPrincipal {
		return candidError("value is not a principal")
	}
	raw, err := r.principalBytes()
	if err == nil {
		*p, err = PrincipalFromBytes(raw)
	}
	return err
}

func (r *candidReader) blobAs(ref int32) ([]byte, error) {
	if !r.isBlob(ref) {
		return nil, candidError("value is not a blob")
	}
	return r.blob()
}

// textBytesAs reads a text and returns its bytes, which alias the input.
func (r *candidReader) textBytesAs(ref int32) ([]byte, error) {
	if ref != candidText {
		return nil, candidError("value is not a text")
	}
	b, err := r.blob()
	if err == nil && !utf8.Valid(b) {
		return nil, candidError("text is not UTF-8")
	}
	return b, err
}

func (r *candidReader) textAs(ref int32) (string, error) {
	b, err := r.textBytesAs(ref)
	return string(b), err
}

// clientKeyAs reads a record of the type ClientKey into k.
func (r *candidReader) clientKeyAs(ref int32, k *ClientKey) error {
	t := r.typeOf(ref)
	if t.kind != candidRecord {
		return candidError("client_key is not a record")
	}
	var hasPrincipal, hasNonce bool
	var err error
	for _, f := range r.fieldsOf(t) {
		switch f.id {
		case idClientPrincipal:
			err = r.principalAs(f.ref, &k.Principal)
			hasPrincipal = true
		case idClientNonce:
			k.Nonce, err = r.nat64As(f.ref)
			hasNonce = true
		default:
			err = r.skip(f.ref)
		}
		if err != nil {
			return err
		}
	}
	if !hasPrincipal || !hasNonce {
		return candidError("client_key lacks a field")
	}
	return nil
}
