package verify

import (
	"bytes"
	"math"
)

// cborEntries counts the entries of a map.
type cborEntries struct {
	left int  // entries still to come, at most that many if open
	open bool // of indefinite length
}

// entries reads the head of a map of at most limit entries, of definite or of indefinite length.
func (c *cborReader) entries(limit int) cborEntries {
	if c.openMap() {
		return cborEntries{left: limit, open: true}
	}
	n := c.expect(cborMap)
	switch {
	case n > uint64(limit):
		c.fail(errCBORKeys)
	case 2*n > uint64(len(c.buf)):
		c.fail(errCBORShort)
	default:
		return cborEntries{left: int(n)}
	}
	return cborEntries{}
}

// next reports whether another entry follows. It returns false at the end of the map and after an error of the reader.
func (e *cborEntries) next(c *cborReader) bool {
	if e.open && len(c.buf) > 0 && c.buf[0] == cborBreak {
		c.buf = c.buf[1:]
		*e = cborEntries{}
	}
	if e.left == 0 {
		if e.open {
			c.fail(errCBORKeys)
		}
		return false
	}
	e.left--
	return c.err == nil
}

// fields starts reading a map with text keys. Use it like this:
//
//	m := c.fields()
//	for m.next() {
//		switch string(m.key) {
//		case "tree":
//			tree = c.bytes()
//		default:
//			c.skip()
//		}
//	}
//
// Each round must read exactly one value. The loop ends at the end of the map or at the first error.
func (c *cborReader) fields() cborFields {
	entries := c.entries(maxCBORKeys)
	if len(c.buf) > math.MaxInt32 { // keys are remembered by 32-bit positions
		c.fail(errCBORLong)
	}
	return cborFields{c: c, entries: entries, base: c.buf}
}

// cborFields iterates over the entries of a map, refusing keys that are not text and keys seen before.
type cborFields struct {
	c       *cborReader
	key     []byte // the current key, valid after next returned true
	entries cborEntries
	n       int
	base    []byte                                // where the entries begin
	seen    [maxCBORKeys]struct{ from, to int32 } // keys so far, in base: pointers would cost write barriers
}

// next reads the next key. It returns false at the end of the map and after an error of the reader.
func (m *cborFields) next() bool {
	if !m.entries.next(m.c) {
		return false
	}
	m.key = m.c.text()
	if m.c.err != nil {
		return false
	}
	for _, k := range m.seen[:m.n] {
		if bytes.Equal(m.base[k.from:k.to], m.key) {
			m.c.fail(errCBORDuplicate)
			return false
		}
	}
	end := len(m.base) - len(m.c.buf)
	m.seen[m.n].from, m.seen[m.n].to = int32(end-len(m.key)), int32(end)
	m.n++
	return true
}
