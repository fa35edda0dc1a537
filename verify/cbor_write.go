package verify

import "encoding/binary"

// appendCBORHead appends the shortest head of the given major type (0 to 7) and argument.
func appendCBORHead(dst []byte, major int, arg uint64) []byte {
	m := byte(major << 5)
	switch {
	case arg < 24:
		return append(dst, m|byte(arg))
	case arg <= 0xff:
		return append(dst, m|24, byte(arg))
	case arg <= 0xffff:
		return binary.BigEndian.AppendUint16(append(dst, m|25), uint16(arg))
	case arg <= 0xffffffff:
		return binary.BigEndian.AppendUint32(append(dst, m|26), uint32(arg))
	}
	return binary.BigEndian.AppendUint64(append(dst, m|27), arg)
}

// cborHeadSize returns the size of the shortest head with the given argument.
func cborHeadSize(arg uint64) int {
	switch {
	case arg < 24:
		return 1
	case arg <= 0xff:
		return 2
	case arg <= 0xffff:
		return 3
	case arg <= 0xffffffff:
		return 5
	}
	return 9
}

// cborSize returns the size of a byte or text string of n bytes with its head.
func cborSize(n int) int { return cborHeadSize(uint64(n)) + n }

// appendCBORBytes appends a byte string.
func appendCBORBytes(dst, b []byte) []byte {
	return append(appendCBORHead(dst, cborBytes, uint64(len(b))), b...)
}

// appendCBORText appends a text string. The caller vouches for its UTF-8.
func appendCBORText[T string | []byte](dst []byte, s T) []byte {
	return append(appendCBORHead(dst, cborText, uint64(len(s))), s...)
}
