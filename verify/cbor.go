package verify

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// Bounds of the CBOR reader.
const (
	// maxCBORDepth bounds the nesting of values that are skipped or passed on whole, such as a certificate's tree.
	maxCBORDepth = MaxTreeDepth
	// maxCBORValues bounds the number of values in one that is skipped or passed on whole. A value takes a byte or more,
	// and a few nanoseconds each time it is passed over; the largest tree that is accepted has 200,000.
	maxCBORValues = 1 << 18
	// maxClientValues bounds the number of values that are skipped or passed on whole in all of one client's frame. The
	// largest that can mean something, twenty delegations of a thousand targets each, has 20,000.
	maxClientValues = 1 << 15
	// maxSignatureValues bounds them in one signature, and in each of the two certificates that it can hold: to the frame
	// these are byte strings. Signatures of Internet Identity have some 60, their certificates 120. Each can be a node of
	// a tree to hash, so a chain of signatures by a canister made for it could otherwise cost a fifth of a second.
	maxSignatureValues = 1 << 12
	// maxCBORKeys bounds the entries of a map with text keys. The largest of our maps, a request's content, has ten.
	maxCBORKeys = 32
)

// CBOR major types.
const (
	cborUint   = 0
	cborNegInt = 1
	cborBytes  = 2
	cborText   = 3
	cborArray  = 4
	cborMap    = 5
	cborTag    = 6
	cborSimple = 7
)

// firstSimple is the first simple value that means something: false.
const firstSimple = 20

// The only tags that this package reads.
const (
	tagBignum       = 2
	tagTypedArray   = 64 // an array of bytes as JavaScript has it (RFC 8746)
	tagSelfDescribe = 55799
)

// The bytes around the entries of a map of indefinite length.
const (
	cborOpenMap = 0xbf
	cborBreak   = 0xff
)

// The reader's errors are made once, so that hostile input costs no allocation.
var (
	errCBORShort      = fmt.Errorf("%w: cbor ends early", ErrMalformed)
	errCBORTrailing   = fmt.Errorf("%w: bytes after the cbor value", ErrMalformed)
	errCBORType       = fmt.Errorf("%w: cbor value of another type than expected", ErrMalformed)
	errCBORIndefinite = fmt.Errorf("%w: cbor of indefinite or reserved length where none is known to be written", ErrMalformed)
	errCBORDepth      = fmt.Errorf("%w: cbor nested deeper than %d levels", ErrMalformed, maxCBORDepth)
	errCBORValues     = fmt.Errorf("%w: cbor of too many parts", ErrMalformed)
	errCBORKeys       = fmt.Errorf("%w: cbor map of more than %d entries", ErrMalformed, maxCBORKeys)
	errCBORDuplicate  = fmt.Errorf("%w: duplicate key in a cbor map", ErrMalformed)
	errCBORUTF8       = fmt.Errorf("%w: cbor text is not utf-8", ErrMalformed)
	errCBORLong       = fmt.Errorf("%w: cbor map over 2 GiB", ErrMalformed)
	errCBORRange      = fmt.Errorf("%w: cbor integer out of range", ErrMalformed)
	errCBORForm       = fmt.Errorf("%w: cbor in a form that decoders in use misread", ErrMalformed)
)

// cborReader is a cursor over one CBOR text. It allocates nothing, does not recurse, and returns slices of its input.
//
// The first error sticks: from then on every read returns a zero value, and err tells what was wrong. Loops over counted
// entries therefore end by themselves, and a parser checks err (or done) once at its end.
//
// Maps may be of definite or of indefinite length, with the same bounds: replicas write answers to queries, and .NET
// clients envelopes, in the second form. Integers and lengths need not be in their shortest form, because agents in use
// write wide integers and replicas accept them. Where parsers could disagree it is strict: no duplicate keys, valid UTF-8,
// no arrays and strings of indefinite length. form makes it stricter for what others will read, too.
type cborReader struct {
	buf     []byte // what is left to read
	err     error  // the first error
	skipped int    // values skipped or passed on whole
	limit   int    // of skipped; 0 means maxCBORValues
	typed   bool   // byte strings may be tagged as typed arrays
	form    cborForm
}

// cborForm is the form in which CBOR has to be written.
type cborForm uint8

const (
	// anyForm is whatever replicas read.
	anyForm cborForm = iota
	// portableForm is what all clients in use read: no lengths of 64 bits, no tags, no floats, no simple values but false, true,
	// null and undefined.
	portableForm
	// shortForm is portableForm with definite lengths only, and numbers and lengths as short as they go, as replicas write
	// certificates.
	shortForm
)

// readClient starts reading what a client wrote, or somebody who signs for it. Some wallets tag their byte strings as typed
// arrays, and replicas overlook that.
func readClient(raw []byte) cborReader {
	return cborReader{buf: raw, limit: maxClientValues, typed: true}
}

// readSignature is readClient for a signature that a client sent.
func readSignature(sig []byte) cborReader {
	return cborReader{buf: sig, limit: maxSignatureValues, typed: true}
}

// fail records err unless there is one already, and drops the rest of the input.
func (c *cborReader) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	c.buf = nil
}

// done ends the reading: it returns the first error, or one that says that bytes are left over.
func (c *cborReader) done() error {
	if c.err == nil && len(c.buf) > 0 {
		c.fail(errCBORTrailing)
	}
	return c.err
}

// more reports whether there is something left to read and nothing was wrong so far.
func (c *cborReader) more() bool { return c.err == nil && len(c.buf) > 0 }

// peek returns the major type of the next value, or -1 at the end and after an error.
func (c *cborReader) peek() int {
	if !c.more() {
		return -1
	}
	return int(c.buf[0] >> 5)
}

// head reads the initial byte of a value and its argument.
func (c *cborReader) head() (major int, arg uint64) {
	if len(c.buf) == 0 {
		c.fail(errCBORShort)
		return -1, 0
	}
	first := c.buf[0]
	major, info := int(first>>5), first&0x1f
	if info < 24 {
		if c.form != anyForm && (major == cborTag || major == cborSimple && info < firstSimple) {
			c.fail(errCBORForm)
			return -1, 0
		}
		c.buf = c.buf[1:]
		return major, uint64(info)
	}
	if info > 27 {
		c.fail(errCBORIndefinite)
		return -1, 0
	}
	width := 1 << (info - 24)
	if len(c.buf) <= width {
		c.fail(errCBORShort)
		return -1, 0
	}
	b := c.buf[1 : 1+width]
	switch width {
	case 1:
		arg = uint64(b[0])
	case 2:
		arg = uint64(binary.BigEndian.Uint16(b))
	case 4:
		arg = uint64(binary.BigEndian.Uint32(b))
	default:
		arg = binary.BigEndian.Uint64(b)
	}
	if c.form != anyForm && !c.form.allows(major, arg, 1+width) {
		c.fail(errCBORForm)
		return -1, 0
	}
	c.buf = c.buf[1+width:]
	return major, arg
}

// allows reports whether a head of that size, more than one byte, may be read.
func (f cborForm) allows(major int, arg uint64, size int) bool {
	switch major {
	case cborTag, cborSimple: // of the simple values these are the floats
		return false
	case cborUint, cborNegInt:
		return f == portableForm || size == cborHeadSize(arg)
	}
	return size == cborHeadSize(arg) || f == portableForm && size < 9
}

// openMap skips the head of a map of indefinite length if that is next and may be, and reports whether it did.
func (c *cborReader) openMap() bool {
	if c.form != shortForm && len(c.buf) > 0 && c.buf[0] == cborOpenMap {
		c.buf = c.buf[1:]
		return true
	}
	return false
}

// selfDescribe skips one self-describe tag (d9d9f7) if it is next.
func (c *cborReader) selfDescribe() {
	if len(c.buf) >= 3 && c.buf[0] == 0xd9 && c.buf[1] == 0xd9 && c.buf[2] == 0xf7 {
		c.buf = c.buf[3:]
	}
}

// take returns the next n bytes.
func (c *cborReader) take(n uint64) []byte {
	if n > uint64(len(c.buf)) {
		c.fail(errCBORShort)
		return nil
	}
	b := c.buf[:n:n]
	c.buf = c.buf[n:]
	return b
}

// expect reads the head of a value that must be of the given major type.
func (c *cborReader) expect(major int) uint64 {
	got, arg := c.head()
	if got != major {
		c.fail(errCBORType)
		return 0
	}
	return arg
}

// bytes reads a byte string. The result aliases the input and is not nil unless there was an error.
func (c *cborReader) bytes() []byte {
	if c.typed {
		c.typedArray()
	}
	return c.take(c.expect(cborBytes))
}

// typedArray skips the tag of a typed array of bytes (d840) if it is next, and reports whether it did.
func (c *cborReader) typedArray() bool {
	if len(c.buf) >= 2 && c.buf[0] == cborTag<<5|24 && c.buf[1] == tagTypedArray {
		c.buf = c.buf[2:]
		return true
	}
	return false
}

// text reads a text string as bytes. The result aliases the input and is not nil unless there was an error.
func (c *cborReader) text() []byte {
	b := c.take(c.expect(cborText))
	if !utf8.Valid(b) {
		c.fail(errCBORUTF8)
		return nil
	}
	return b
}

// uint reads an unsigned integer, also one written as a bignum of at most eight significant bytes.
func (c *cborReader) uint() uint64 {
	major, arg := c.head()
	switch {
	case major == cborUint:
		return arg
	case major == cborTag && arg == tagBignum:
		b := bytes.TrimLeft(c.bytes(), "\x00")
		if len(b) > 8 {
			c.fail(errCBORRange)
			return 0
		}
		var v uint64
		for _, x := range b {
			v = v<<8 | uint64(x)
		}
		return v
	}
	c.fail(errCBORType)
	return 0
}

// bool reads a boolean.
func (c *cborReader) bool() bool {
	// Compared as a byte: f9 0015, a float, has the same argument as true.
	if len(c.buf) == 0 || c.buf[0]&^1 != 0xf4 {
		c.fail(errCBORType)
		return false
	}
	v := c.buf[0] == 0xf5
	c.buf = c.buf[1:]
	return v
}

// null skips a null or undefined if it is next, and reports whether it did.
func (c *cborReader) null() bool {
	if len(c.buf) > 0 && (c.buf[0] == 0xf6 || c.buf[0] == 0xf7) {
		c.buf = c.buf[1:]
		return true
	}
	return false
}

// array reads the head of an array and returns its number of elements, which is at most the number of bytes left.
func (c *cborReader) array() int {
	n := c.expect(cborArray)
	if n > uint64(len(c.buf)) {
		c.fail(errCBORShort)
		return 0
	}
	return int(n)
}

// principal reads a byte string that is a principal.
func (c *cborReader) principal() Principal {
	p, err := PrincipalFromBytes(c.bytes())
	if err != nil {
		c.fail(err)
	}
	return p
}
