//go:build e2e

package opinion

import (
	"encoding/binary"
	"math/rand/v2"
)

// item is a CBOR value that can be written in more ways than one.
type item struct {
	major byte
	n     uint64  // of numbers and simple values
	b     []byte  // of byte and text strings
	kids  []*item // of arrays; of maps, keys and values in turn
	raw   []byte  // the whole value, already written
}

// CBOR major types.
const (
	mUint, mNeg, mBytes, mText, mArray, mMap, mSimple = 0, 1, 2, 3, 4, 5, 7
)

func uintItem(n uint64) *item       { return &item{major: mUint, n: n} }
func bytesItem(b []byte) *item      { return &item{major: mBytes, b: b} }
func textItem(s string) *item       { return &item{major: mText, b: []byte(s)} }
func arrayItem(kids ...*item) *item { return &item{major: mArray, kids: kids} }

// mapItem takes keys and values in turn.
func mapItem(kv ...any) *item {
	m := &item{major: mMap}
	for i := 0; i < len(kv); i += 2 {
		m.kids = append(m.kids, textItem(kv[i].(string)), kv[i+1].(*item))
	}
	return m
}

// rawItem is a value that is already written.
func rawItem(b ...byte) *item { return &item{raw: b} }

// with adds an entry to a map.
func (it *item) with(key string, value *item) *item {
	it.kids = append(it.kids, textItem(key), value)
	return it
}

// entry replaces the value of a map at a key.
func (it *item) entry(key string, value *item) *item {
	for i := 0; i < len(it.kids); i += 2 {
		if string(it.kids[i].b) == key {
			it.kids[i+1] = value
		}
	}
	return it
}

func boolItem(v bool) *item {
	if v {
		return &item{major: mSimple, n: 21}
	}
	return &item{major: mSimple, n: 20}
}

// selfDescribed is the tag in front of what replicas and the Rust kit write.
var selfDescribed = []byte{0xd9, 0xd9, 0xf7}

// appendHead writes a head of at least the given width: 0 in the first byte, else 1, 2, 4 or 8 bytes.
func appendHead(dst []byte, major byte, n uint64, width int) []byte {
	switch {
	case width <= 0 && n < 24:
		return append(dst, major<<5|byte(n))
	case width <= 1 && n <= 0xff:
		return append(dst, major<<5|24, byte(n))
	case width <= 2 && n <= 0xffff:
		return binary.BigEndian.AppendUint16(append(dst, major<<5|25), uint16(n))
	case width <= 4 && n <= 0xffffffff:
		return binary.BigEndian.AppendUint32(append(dst, major<<5|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, major<<5|27), n)
}

// encode writes the value as everybody does.
func (it *item) encode() []byte { return it.append(nil, nil) }

// count is the number of values in it.
func (it *item) count() int {
	n := 1
	for _, k := range it.kids {
		n += k.count()
	}
	return n
}

// append writes the value, with the twist where it applies.
func (it *item) append(dst []byte, t *twist) []byte {
	if t != nil && t.here() {
		if out, ok := t.write(dst, it); ok {
			return out
		}
	}
	switch {
	case it.raw != nil:
		return append(dst, it.raw...)
	case it.major == mBytes || it.major == mText:
		return append(appendHead(dst, it.major, uint64(len(it.b)), 0), it.b...)
	case it.major == mArray || it.major == mMap:
		n := uint64(len(it.kids))
		if it.major == mMap {
			n /= 2
		}
		return it.appendKids(appendHead(dst, it.major, n, 0), t)
	}
	return appendHead(dst, it.major, it.n, 0)
}

func (it *item) appendKids(dst []byte, t *twist) []byte {
	for _, k := range it.kids {
		dst = k.append(dst, t)
	}
	return dst
}

// twist writes one value in another way than everybody does. at counts values in the order in which they are written.
type twist struct {
	kind string
	at   int
	r    *rand.Rand
	did  bool
}

func (t *twist) here() bool {
	t.at--
	return t.at == -1
}

// twistKinds are the ways in which a value can be odd.
var twistKinds = []string{
	"wide", "indefinite", "tag 64", "tag 55799", "tag 24", "bignum", "bignum padded", "duplicate", "duplicate other",
	"unknown", "unknown float", "__proto__", "object name", "reorder", "drop", "empty", "other string", "float",
	"negative", "null", "undefined", "bytes key", "simple", "longer",
}

// odds are values that no known encoder puts under a key of its own.
var odds = [][]byte{
	{0xf6}, {0xf7}, {0xf4}, {0xa0}, {0x80}, {0x40}, {0x60}, {0x20}, {0xc2, 0x41, 7}, {0x18, 0x18}, {0x81, 0x81, 0x81, 0}, {0xe0},
	{0xa1, 0x61, 'a', 0xa1, 0x61, 'b', 0x42, 1, 2}, {0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {0xd8, 0x40, 0x41, 1},
	{0xc1, 0x1a, 0x5f, 0, 0, 0}, {0xc0, 0x61, 'x'}, {0xd8, 0x20, 0x61, ':'}, {0xd8, 0x23, 0x61, '('}, {0xc4, 0x82, 0x21, 0x19, 0x6a, 0xb3},
}

var floats = [][]byte{
	{0xf9, 0x3c, 0}, {0xfa, 0x3f, 0x80, 0, 0}, {0xfb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0}, {0xf9, 0x7e, 0}, {0xf9, 0x7c, 0}, {0xf9, 0xfc, 0},
}

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// write writes it twisted; ok is false if the twist does not fit the value.
func (t *twist) write(dst []byte, it *item) (out []byte, ok bool) {
	t.did = true
	isString := it.major == mBytes || it.major == mText
	whole := func(m *item) ([]byte, bool) { return m.append(dst, nil), true }
	switch t.kind {
	case "wide":
		width := pick(t.r, []int{1, 2, 4, 8})
		switch {
		case isString:
			return append(appendHead(dst, it.major, uint64(len(it.b)), width), it.b...), true
		case it.major == mArray:
			return it.appendKids(appendHead(dst, mArray, uint64(len(it.kids)), width), nil), true
		case it.major == mMap:
			return it.appendKids(appendHead(dst, mMap, uint64(len(it.kids)/2), width), nil), true
		case it.major == mUint:
			return appendHead(dst, mUint, it.n, width), true
		}
	case "indefinite":
		switch {
		case isString:
			dst = append(dst, it.major<<5|31)
			half := len(it.b) / 2
			for _, part := range [][]byte{it.b[:half], it.b[half:]} {
				dst = append(appendHead(dst, it.major, uint64(len(part)), 0), part...)
			}
			return append(dst, 0xff), true
		case it.major == mArray || it.major == mMap:
			return append(it.appendKids(append(dst, it.major<<5|31), nil), 0xff), true
		}
	case "tag 64":
		return it.append(append(dst, 0xd8, 64), nil), true
	case "tag 55799":
		return it.append(append(dst, selfDescribed...), nil), true
	case "tag 24":
		return it.append(append(dst, 0xd8, 24), nil), true
	case "bignum", "bignum padded":
		if it.major == mUint {
			b := binary.BigEndian.AppendUint64(nil, it.n)
			for t.kind == "bignum" && len(b) > 0 && b[0] == 0 {
				b = b[1:]
			}
			return bytesItem(b).append(append(dst, 0xc2), nil), true
		}
	case "float":
		if it.major == mUint {
			return append(dst, pick(t.r, floats)...), true
		}
	case "negative":
		if it.major == mUint {
			return appendHead(dst, mNeg, it.n, 0), true
		}
	case "null":
		return append(dst, 0xf6), true
	case "undefined":
		return append(dst, 0xf7), true
	case "simple":
		return append(dst, pick(t.r, [][]byte{{0xe0}, {0xf8, 0x20}, {0xf8, 0xff}, {0xf4}, {0xf5}})...), true
	case "empty":
		if isString {
			return append(dst, it.major<<5), true
		}
	case "longer":
		if isString {
			return whole(&item{major: it.major, b: append(it.b[:len(it.b):len(it.b)], 'x')})
		}
	case "other string":
		if isString {
			return whole(&item{major: mBytes + mText - it.major, b: it.b})
		}
	}
	if it.major == mMap && len(it.kids) > 0 {
		return t.writeMap(dst, it)
	}
	t.did = false
	return dst, false
}

// writeMap writes a map with other keys than it has.
func (t *twist) writeMap(dst []byte, it *item) ([]byte, bool) {
	n := len(it.kids) / 2
	i := 2 * t.r.IntN(n)
	m := &item{major: mMap, kids: append([]*item(nil), it.kids...)}
	add := func(key string, value []byte) ([]byte, bool) {
		// The new entry goes to a place of its own: some decoders keep the first of two values, some the last.
		at := t.r.IntN(n + 1)
		dst = appendHead(dst, mMap, uint64(n+1), 0)
		for j := range n + 1 {
			if j == at {
				dst = append(textItem(key).append(dst, nil), value...)
			}
			if j < n {
				dst = it.kids[2*j+1].append(it.kids[2*j].append(dst, nil), nil)
			}
		}
		return dst, true
	}
	switch t.kind {
	case "duplicate":
		return add(string(it.kids[i].b), it.kids[i+1].encode())
	case "duplicate other":
		return add(string(it.kids[i].b), pick(t.r, odds))
	case "unknown":
		return add(pick(t.r, []string{"x", "", "Tree", "zz", "\u00e9"}), pick(t.r, odds))
	case "unknown float":
		return add("x", pick(t.r, floats))
	case "__proto__":
		return add("__proto__", pick(t.r, append(odds, it.kids[i+1].encode())))
	case "object name":
		return add(pick(t.r, []string{"constructor", "toString", "hasOwnProperty", "length", "valueOf", "then", "toJSON"}), pick(t.r, odds))
	case "reorder":
		t.r.Shuffle(n, func(a, b int) {
			m.kids[2*a], m.kids[2*b] = m.kids[2*b], m.kids[2*a]
			m.kids[2*a+1], m.kids[2*b+1] = m.kids[2*b+1], m.kids[2*a+1]
		})
	case "drop":
		m.kids = append(m.kids[:i:i], m.kids[i+2:]...)
	case "bytes key":
		m.kids[i] = bytesItem(m.kids[i].b)
	default:
		t.did = false
		return dst, false
	}
	return m.append(dst, nil), true
}

// twisted writes the value with one random twist and tells which; kind "" writes it plainly.
func (it *item) twisted(r *rand.Rand, kind string) (raw []byte, did bool) {
	if kind == "" {
		return it.encode(), false
	}
	// Not every twist fits every value, so a few places are tried.
	for range 40 {
		t := &twist{kind: kind, at: r.IntN(it.count()), r: r}
		if raw = it.append(nil, t); t.did {
			return raw, true
		}
	}
	return it.encode(), false
}

// damage changes bytes without knowing what they mean.
func damage(r *rand.Rand, b []byte, kind string) []byte {
	b = append([]byte(nil), b...)
	if len(b) == 0 {
		return b
	}
	i := r.IntN(len(b))
	switch kind {
	case "flip":
		b[i] ^= 1 << r.IntN(8)
	case "cut":
		b = b[:i]
	case "trail":
		b = append(b, byte(r.Uint32()))
	case "insert":
		b = append(b[:i:i], append([]byte{byte(r.Uint32())}, b[i:]...)...)
	case "remove":
		b = append(b[:i:i], b[i+1:]...)
	case "swap":
		j := r.IntN(len(b))
		b[i], b[j] = b[j], b[i]
	}
	return b
}

var damageKinds = []string{"flip", "flip", "cut", "trail", "insert", "remove", "swap"}
