package verify

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// unhex decodes hex that a test holds as a literal.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatalf("bad hex in a test: %v", err)
	}
	return b
}

// The values are those of RFC 8949, appendix A.
func TestCBORValues(t *testing.T) {
	for in, want := range map[string]uint64{
		"00": 0, "17": 23, "1818": 24, "18ff": 255, "190100": 256, "1903e8": 1000, "1a000f4240": 1000000,
		"1b000000e8d4a51000": 1000000000000, "1bffffffffffffffff": 1<<64 - 1,
		"c243010203": 0x010203, "c24a00000102030405060708": 0x0102030405060708, "c240": 0, "1800": 0,
	} {
		c := cborReader{buf: unhex(t, in)}
		if got := c.uint(); got != want || c.done() != nil {
			t.Errorf("uint %s: got %d, %v, want %d", in, got, c.err, want)
		}
	}
	c := cborReader{buf: unhex(t, "d9d9f7 83 f4 f5 f6")}
	c.selfDescribe()
	if n := c.array(); n != 3 {
		t.Errorf("array: got %d elements", n)
	}
	if c.bool() || !c.bool() || !c.null() || c.null() || c.done() != nil {
		t.Errorf("false, true, null: %v", c.err)
	}
	c = cborReader{buf: unhex(t, "4401020304 6449455446 40 60 4a80000000001000010101")}
	if b := c.bytes(); !bytes.Equal(b, []byte{1, 2, 3, 4}) {
		t.Errorf("bytes: got %x", b)
	}
	if b := c.text(); string(b) != "IETF" {
		t.Errorf("text: got %q", b)
	}
	if b := c.bytes(); b == nil || len(b) != 0 {
		t.Errorf("empty bytes: got %v", b)
	}
	if b := c.text(); b == nil || len(b) != 0 {
		t.Errorf("empty text: got %v", b)
	}
	if p := c.principal(); p.String() != "bkyz2-fmaaa-aaaaa-qaaaq-cai" || c.done() != nil {
		t.Errorf("principal: got %v, %v", p, c.err)
	}
}

func TestCBORRefuses(t *testing.T) {
	read := map[string]func(*cborReader){
		"uint":      func(c *cborReader) { c.uint() },
		"bytes":     func(c *cborReader) { c.bytes() },
		"text":      func(c *cborReader) { c.text() },
		"bool":      func(c *cborReader) { c.bool() },
		"array":     func(c *cborReader) { c.array() },
		"principal": func(c *cborReader) { c.principal() },
		"skip":      func(c *cborReader) { c.skip() },
		"map": func(c *cborReader) {
			for m := c.fields(); m.next(); {
				c.skip()
			}
		},
	}
	tests := []struct {
		name, how, in string
		want          error
	}{
		{"nothing", "uint", "", errCBORShort},
		{"half a head", "uint", "19ff", errCBORShort},
		{"negative", "uint", "20", errCBORType},
		{"wide bignum", "uint", "c249010203040506070809", errCBORRange},
		{"bignum of text", "uint", "c26101", errCBORType},
		{"reserved length", "uint", "1c", errCBORIndefinite},
		{"bytes cut", "bytes", "420a", errCBORShort},
		{"a huge length", "bytes", "5bffffffffffffffff", errCBORShort},
		{"indefinite bytes", "bytes", "5f4101ff", errCBORIndefinite},
		{"text for bytes", "bytes", "6161", errCBORType},
		{"bytes for text", "text", "4161", errCBORType},
		{"bad utf-8", "text", "61ff", errCBORUTF8},
		{"half-float true", "bool", "f90015", errCBORType},
		{"long-form true", "bool", "f815", errCBORType},
		{"array longer than the input", "array", "9affffffff00", errCBORShort},
		{"indefinite array", "array", "9f00ff", errCBORIndefinite},
		{"long principal", "principal", "581e" + strings.Repeat("00", 30), errPrincipalLong},
		{"skip: cut map", "skip", "a16161", errCBORShort},
		{"skip: huge map", "skip", "bbffffffffffffffff00", errCBORShort},
		{"skip: half the range as map", "skip", "bb800000000000000100", errCBORShort},
		{"skip: too deep", "skip", strings.Repeat("81", maxCBORDepth+1) + "00", errCBORDepth},
		{"skip: tags too deep", "skip", strings.Repeat("c1", maxCBORDepth+1) + "00", errCBORDepth},
		{"skip: ten thousand deep", "skip", strings.Repeat("81", 10000) + "00", errCBORDepth},
		{"skip: break", "skip", "ff", errCBORIndefinite},
		{"map: duplicate", "map", "a2616100616101", errCBORDuplicate},
		{"map: number as key", "map", "a10000", errCBORType},
		{"map: too many", "map", "b821" + strings.Repeat("00", 80), errCBORKeys},
		{"map: shorter than it says", "map", "a2616100", errCBORShort},
		{"trailing", "uint", "0000", errCBORTrailing},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := cborReader{buf: unhex(t, tt.in)}
			read[tt.how](&c)
			if err := c.done(); err != tt.want || !errors.Is(err, ErrMalformed) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestCBORSkipDepth(t *testing.T) {
	c := cborReader{buf: unhex(t, strings.Repeat("81", maxCBORDepth)+"00")}
	if c.skip(); c.done() != nil {
		t.Errorf("nesting of exactly %d: %v", maxCBORDepth, c.err)
	}
	c = cborReader{buf: unhex(t, "a2 6161 83 01 20 fb3ff199999999999a 6162 a1 6163 c1 1a514b67b0 05")}
	if raw := c.raw(); len(raw) != 26 || c.uint() != 5 || c.done() != nil {
		t.Errorf("raw: got %d bytes, %v", len(raw), c.err)
	}
}

func TestCBORSkipValues(t *testing.T) {
	list := func(n int) []byte { return append(appendCBORHead(nil, cborArray, uint64(n)), make([]byte, n)...) }
	for _, tc := range []struct {
		in   []byte
		want error
	}{
		{list(maxCBORValues - 1), nil},
		{list(maxCBORValues), errCBORValues},
		{append([]byte{0x82}, append(list(maxCBORValues/2), list(maxCBORValues/2)...)...), errCBORValues},
		{appendCBORBytes(nil, make([]byte, 2*maxCBORValues)), nil},
	} {
		c := cborReader{buf: tc.in}
		c.skip()
		if err := c.done(); err != tc.want {
			t.Errorf("%d bytes: got %v, want %v", len(tc.in), err, tc.want)
		}
		c = cborReader{buf: tc.in}
		if c.checkPlain(); c.err != tc.want {
			t.Errorf("%d bytes, plain: got %v, want %v", len(tc.in), c.err, tc.want)
		}
	}
	// The largest tree that is parsed can be passed on in a certificate.
	var tree []byte
	var full func(n int)
	full = func(n int) {
		if n == 1 {
			tree = append(tree, 0x81, treeEmpty)
			return
		}
		tree = append(tree, 0x83, treeFork)
		full(n / 2)
		full(n / 2)
	}
	full(MaxTreeNodes / 2)
	c := cborReader{buf: tree}
	c.skip()
	if err := c.done(); err != nil {
		t.Error(err)
	}
}

func TestCBORAppend(t *testing.T) {
	enc, err := cbor.CanonicalEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []uint64{0, 23, 24, 255, 256, 65535, 65536, 1<<32 - 1, 1 << 32, 1<<64 - 1} {
		want, _ := enc.Marshal(n)
		if got := appendCBORHead(nil, cborUint, n); !bytes.Equal(got, want) {
			t.Errorf("%d: got %x, want %x", n, got, want)
		}
	}
	for _, n := range []int{0, 1, 23, 24, 255, 256, 65536} {
		b := bytes.Repeat([]byte("x"), n)
		want, _ := enc.Marshal(b)
		if got := appendCBORBytes(nil, b); !bytes.Equal(got, want) || cborSize(n) != len(want) {
			t.Errorf("%d bytes differ", n)
		}
		want, _ = enc.Marshal(string(b))
		if got := appendCBORText(nil, string(b)); !bytes.Equal(got, want) {
			t.Errorf("text of %d differs", n)
		}
	}
}

// FuzzCBORSkip holds the skipper against fxamacker's reader: what we accept must be well-formed there too, and the other
// way round within our bounds.
func FuzzCBORSkip(f *testing.F) {
	for _, s := range []string{"00", "d9d9f7a1616183010203", "a2616100616101", "9f00ff", "81818181f6", "f90015", "5bffffffffffffffff"} {
		f.Add(unhex(f, s))
	}
	strict, err := cbor.DecOptions{
		MaxNestedLevels: 256, IndefLength: cbor.IndefLengthForbidden,
		MaxArrayElements: 1<<31 - 1, MaxMapPairs: 1<<31 - 1,
	}.DecMode()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		c := cborReader{buf: in}
		c.skip()
		ours, theirs := c.done(), strict.Wellformed(in)
		if theirs == nil && ours != nil && ours != errCBORDepth {
			t.Errorf("%x: we refuse (%v) what fxamacker accepts", in, ours)
		}
		// Simple values below 32 in two bytes are the one thing fxamacker refuses that a skipper need not.
		if ours == nil && theirs != nil && !bytes.Contains(in, []byte{0xf8}) {
			t.Errorf("%x: we accept what fxamacker refuses (%v)", in, theirs)
		}
	})
}
