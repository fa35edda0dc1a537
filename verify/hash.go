package verify

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"slices"
	"sync"
)

// maxHashDepth bounds the nesting of a value that is hashed. Requests known today nest to a depth of three.
const maxHashDepth = 16

// maxHashValues bounds the values that are hashed for one request. A number costs a byte to send and a hundred nanoseconds
// to hash, so a frame of two megabytes could otherwise keep a processor busy for a fifth of a second. The longest lists
// known are a delegation's 1000 targets and a read_state's 1000 paths.
const maxHashValues = 1 << 14

// maxDelegationValues bounds them for one delegation, of which a request may have twenty.
const maxDelegationValues = 1 << 11

var (
	errHashDepth = fmt.Errorf("%w: signed value nested deeper than %d levels", ErrMalformed, maxHashDepth)
	errHashCount = fmt.Errorf("%w: signed value of too many parts", ErrMalformed)
	errHashType  = fmt.Errorf("%w: signed value of a type that has no hash", ErrMalformed)
)

// hashCBOR returns the representation-independent hash of one CBOR value of at most limit parts: of a request's content it
// is the request id. Whatever keys are there take part, known or not, so fields that are invented later change nothing
// here.
//
// Source: Internet Computer interface specification, "Hash of map".
func hashCBOR(raw []byte, limit int) ([sha256.Size]byte, error) {
	c := cborHashers.Get().(*cborHasher)
	defer c.release()
	c.cborReader, c.left = readClient(raw), limit
	c.hash()
	return c.digest, c.done()
}

// cborHashers keeps hashers for reuse.
var cborHashers = sync.Pool{New: func() any { return new(cborHasher) }}

// cborHasher is a reader that hashes what it reads, at most left values more. Of values in values it keeps a stack of its
// own.
type cborHasher struct {
	cborReader
	left   int
	digest [sha256.Size]byte       // of the value read last
	rows   [][2 * sha256.Size]byte // key and value of the entries of all open maps
	open   [maxHashDepth]hashFrame
}

// hashFrame is a list or a map whose elements are being hashed.
type hashFrame struct {
	sum    hash.Hash // of the list's elements, or of the map's sorted rows
	isMap  bool
	left   int        // elements of a list still to come
	fields cborFields // entries of a map
	rows   int        // number of rows of the maps around this one
}

// release lets go of the input, and of memory that a stranger made large.
func (c *cborHasher) release() {
	c.cborReader = cborReader{}
	for i := range c.open {
		f := &c.open[i].fields
		f.c, f.key, f.base = nil, nil, nil
	}
	if c.rows = c.rows[:0]; cap(c.rows) > 1024 {
		c.rows = nil
	}
	cborHashers.Put(c)
}

// hash reads one value and leaves its hash in digest.
func (c *cborHasher) hash() {
	for depth := 0; ; {
		complete := c.value(depth)
		if !complete {
			depth++
		}
		// A value that is complete belongs to the innermost open list or map, and may complete that.
		for {
			if c.err != nil || complete && depth == 0 {
				return
			}
			f := &c.open[depth-1]
			if complete {
				f.add(c)
			}
			if f.next(c) {
				break
			}
			f.close(c)
			depth--
			complete = true
		}
	}
}

// value reads a value and reports whether it is complete; if not, it is an open list or map at the given depth.
func (c *cborHasher) value(depth int) bool {
	if depth == maxHashDepth {
		c.fail(errHashDepth)
	}
	if c.left--; c.left < 0 {
		c.fail(errHashCount)
	}
	var buf [10]byte
	switch c.peek() {
	case cborBytes:
		c.digest = sha256.Sum256(c.bytes())
	case cborText:
		c.digest = sha256.Sum256(c.text())
	case cborUint, cborTag:
		if c.typedArray() {
			c.digest = sha256.Sum256(c.bytes())
		} else { // of the other tags only bignums are numbers
			c.digest = sha256.Sum256(appendLEB128(buf[:0], c.uint()))
		}
	case cborNegInt:
		_, arg := c.head()
		c.digest = sha256.Sum256(appendNegative(buf[:0], arg))
	case cborArray, cborMap:
		f := &c.open[depth]
		if f.sum == nil {
			f.sum = sha256.New()
		}
		f.sum.Reset()
		if f.isMap = c.peek() == cborMap; f.isMap {
			f.fields, f.rows = c.fields(), len(c.rows)
		} else {
			f.left = c.array()
		}
		return false
	default:
		c.fail(errHashType)
	}
	return true
}

// next reports whether the list or map has another value, and for a map reads its key.
func (f *hashFrame) next(c *cborHasher) bool {
	if !f.isMap {
		f.left--
		return f.left >= 0
	}
	for f.fields.next() {
		if c.null() { // an optional field that is not there
			continue
		}
		key := sha256.Sum256(f.fields.key)
		var row [2 * sha256.Size]byte
		copy(row[:], key[:])
		c.rows = append(c.rows, row)
		return true
	}
	return false
}

// add takes the value that has just been read.
func (f *hashFrame) add(c *cborHasher) {
	if f.isMap {
		copy(c.rows[len(c.rows)-1][sha256.Size:], c.digest[:])
	} else {
		f.sum.Write(c.digest[:])
	}
}

// close hashes the whole list or map.
func (f *hashFrame) close(c *cborHasher) {
	if f.isMap {
		rows := c.rows[f.rows:]
		slices.SortFunc(rows, func(a, b [2 * sha256.Size]byte) int { return bytes.Compare(a[:], b[:]) })
		for i := range rows {
			f.sum.Write(rows[i][:])
		}
		c.rows = c.rows[:f.rows]
	}
	f.sum.Sum(c.digest[:0])
}

// appendNegative appends the number -1-arg as signed LEB128. (CBOR encodes negative numbers by their complement.)
func appendNegative(dst []byte, arg uint64) []byte {
	for {
		b := byte(arg&0x7f) ^ 0x7f
		arg >>= 7
		if arg == 0 && b&0x40 != 0 {
			return append(dst, b)
		}
		dst = append(dst, b|0x80)
	}
}
