package verify

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
)

// maxHashDepth bounds the nesting of a value that is hashed. Requests known today nest to a depth of three.
const maxHashDepth = 16

// maxHashValues bounds the values that are hashed for one request. A number costs a byte to send and a hundred nanoseconds
// to hash, so a frame of two megabytes could otherwise keep a processor busy for a fifth of a second. The longest lists
// known are a delegation's 1000 targets and a read_state's 1000 paths.
const maxHashValues = 1 << 14

var (
	errHashDepth = fmt.Errorf("%w: signed value nested deeper than %d levels", ErrMalformed, maxHashDepth)
	errHashCount = fmt.Errorf("%w: signed value of more than %d parts", ErrMalformed, maxHashValues)
	errHashType  = fmt.Errorf("%w: signed value of a type that has no hash", ErrMalformed)
)

// hashCBOR returns the representation-independent hash of one CBOR value: of a request's content it is the request id.
// Whatever keys are there take part, known or not, so fields that are invented later change nothing here.
//
// Source: Internet Computer interface specification, "Hash of map".
func hashCBOR(raw []byte) ([sha256.Size]byte, error) {
	c := cborHasher{cborReader: cborReader{buf: raw}, left: maxHashValues}
	h := c.hash(maxHashDepth)
	return h, c.done()
}

// cborHasher is a reader that hashes what it reads, at most left values more.
type cborHasher struct {
	cborReader
	left int
}

// hash reads one value and returns its hash. It calls itself for nested values, at most depth times.
func (c *cborHasher) hash(depth int) [sha256.Size]byte {
	if depth == 0 {
		c.fail(errHashDepth)
	}
	if c.left--; c.left < 0 {
		c.fail(errHashCount)
	}
	var buf [10]byte
	switch c.peek() {
	case cborBytes:
		return sha256.Sum256(c.bytes())
	case cborText:
		return sha256.Sum256(c.text())
	case cborUint, cborTag: // of the tags only bignums are numbers
		return sha256.Sum256(appendLEB128(buf[:0], c.uint()))
	case cborNegInt:
		_, arg := c.head()
		return sha256.Sum256(appendNegative(buf[:0], arg))
	case cborArray:
		return c.hashArray(depth)
	case cborMap:
		return c.hashMap(depth)
	}
	c.fail(errHashType)
	return [sha256.Size]byte{}
}

func (c *cborHasher) hashArray(depth int) [sha256.Size]byte {
	h := sha256.New()
	for range c.array() {
		if c.err != nil {
			break
		}
		element := c.hash(depth - 1)
		h.Write(element[:])
	}
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return sum
}

func (c *cborHasher) hashMap(depth int) [sha256.Size]byte {
	var rows [maxCBORKeys][2 * sha256.Size]byte
	n := 0
	f := c.fields()
	for f.next() {
		if c.null() { // an optional field that is not there
			continue
		}
		key := sha256.Sum256(f.key)
		value := c.hash(depth - 1)
		copy(rows[n][:sha256.Size], key[:])
		copy(rows[n][sha256.Size:], value[:])
		n++
	}
	slices.SortFunc(rows[:n], func(a, b [2 * sha256.Size]byte) int { return bytes.Compare(a[:], b[:]) })
	var all [maxCBORKeys * 2 * sha256.Size]byte
	flat := all[:0]
	for i := range n {
		flat = append(flat, rows[i][:]...)
	}
	return sha256.Sum256(flat)
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
