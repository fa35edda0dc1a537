package localnet

// The network writes its CBOR with these few functions instead of a library
// or of package verify: what it sends is what the tests of verify read, and a
// codec checked against its own inverse proves nothing.

// selfDescribe is the CBOR tag 55799 that starts every top-level item (RFC
// 8949 section 3.4.6; the interface specification asks for it).
const selfDescribe = "\xd9\xd9\xf7"

const (
	majorUint  = 0 << 5
	majorBytes = 2 << 5
	majorText  = 3 << 5
	majorArray = 4 << 5
	majorMap   = 5 << 5

	indefinite = 31   // in place of a length: items up to a break follow
	breakCode  = 0xff // RFC 8949 section 3.2.1
)

// appendHead writes a major type with its argument in the shortest form.
func appendHead(dst []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(dst, major|byte(n))
	case n < 1<<8:
		return append(dst, major|24, byte(n))
	case n < 1<<16:
		return append(dst, major|25, byte(n>>8), byte(n))
	case n < 1<<32:
		return append(dst, major|26, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	dst = append(dst, major|27)
	for shift := 56; shift >= 0; shift -= 8 {
		dst = append(dst, byte(n>>shift))
	}
	return dst
}

func appendUint(dst []byte, n uint64) []byte { return appendHead(dst, majorUint, n) }

func appendBytes(dst, b []byte) []byte {
	return append(appendHead(dst, majorBytes, uint64(len(b))), b...)
}

func appendText(dst []byte, s string) []byte {
	return append(appendHead(dst, majorText, uint64(len(s))), s...)
}

func appendMap(dst []byte, n int) []byte { return appendHead(dst, majorMap, uint64(n)) }

func appendArray(dst []byte, n int) []byte { return appendHead(dst, majorArray, uint64(n)) }

// appendLEB writes n as unsigned LEB128, the form of every number in the
// state tree and in Candid.
func appendLEB(dst []byte, n uint64) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}

// moreItems tells whether b holds more than limit CBOR items (RFC 8949 section
// 3), nested ones included. What comes after a malformed head does not count:
// the decoder refuses it.
func moreItems(b []byte, limit int) bool {
	for n := 0; len(b) > 0; {
		if n++; n > limit {
			return true
		}
		major, info := b[0]>>5, b[0]&31
		b = b[1:]
		arg := uint64(info)
		if info >= 24 && info < 28 {
			size := 1 << (info - 24)
			if len(b) < size {
				return false
			}
			arg = 0
			for _, c := range b[:size] {
				arg = arg<<8 | uint64(c)
			}
			b = b[size:]
		}
		if (major<<5 == majorBytes || major<<5 == majorText) && info < 28 {
			if arg > uint64(len(b)) {
				return false
			}
			b = b[arg:]
		}
	}
	return false
}
