package verify

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
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
	for _, s := range []string{"00", "d9d9f7a1616183010203", "a2616100616101", "9f00ff", "bf616100ff", "81818181f6", "f90015", "5bffffffffffffffff"} {
		f.Add(unhex(f, s))
	}
	options := cbor.DecOptions{MaxNestedLevels: 256, MaxArrayElements: 1<<31 - 1, MaxMapPairs: 1<<31 - 1}
	lenient := must(options.DecMode()) // takes indefinite lengths, of which we take those of maps
	options.IndefLength = cbor.IndefLengthForbidden
	strict := must(options.DecMode())
	for _, raw := range recordedSeeds(f) {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		c := cborReader{buf: in}
		c.skip()
		ours := c.done()
		if strict.Wellformed(in) == nil && ours != nil && ours != errCBORDepth {
			t.Errorf("%x: we refuse (%v) what fxamacker accepts", in, ours)
		}
		theirs := lenient.Wellformed(in)
		// Simple values below 32 in two bytes are the one thing fxamacker refuses that a skipper need not.
		if ours == nil && theirs != nil && !bytes.Contains(in, []byte{0xf8}) {
			t.Errorf("%x: we accept what fxamacker refuses (%v)", in, theirs)
		}
	})
}

// indefinite writes a map of indefinite length around entries, in hex.
func indefinite(entries string) string { return "bf" + entries + "ff" }

// Every reader of maps takes both forms, within the same bounds.
func TestCBORMapForms(t *testing.T) {
	many := func(n int) (entries string) {
		for i := range n {
			entries += fmt.Sprintf("62%02x%02x%02x", 'a'+i/16, 'a'+i%16, i%24)
		}
		return entries
	}
	tests := []struct {
		name, definite, open string
		keys                 int
		want                 error
	}{
		{"empty", "a0", indefinite(""), 0, nil},
		{"two entries", "a2 616100 616201", indefinite("616100 616201"), 2, nil},
		{"map in a map", "a1 6161 a1 616200", indefinite("6161" + indefinite("616200")), 1, nil},
		{"map in an array", "a1 6161 82 a1 616200 00", indefinite("6161 82" + indefinite("616200") + "00"), 1, nil},
		{"as many keys as may be", fmt.Sprintf("b8%02x", maxCBORKeys) + many(maxCBORKeys), indefinite(many(maxCBORKeys)), maxCBORKeys, nil},
		{"one key more", fmt.Sprintf("b8%02x", maxCBORKeys+1) + many(maxCBORKeys+1), indefinite(many(maxCBORKeys + 1)), maxCBORKeys, errCBORKeys},
		{"a key twice", "a2 616100 616101", indefinite("616100 616101"), 1, errCBORDuplicate},
		{"a key that is a number", "a1 0000", indefinite("0000"), 0, errCBORType},
		{"ends early", "a2 616100", "bf 616100", 1, errCBORShort},
	}
	for _, tt := range tests {
		for form, in := range map[string]string{"definite": tt.definite, "indefinite": tt.open} {
			t.Run(tt.name+", "+form, func(t *testing.T) {
				c := cborReader{buf: unhex(t, in)}
				keys := 0
				m := c.fields()
				for ; m.next(); keys++ {
					c.skip()
				}
				if tt.want == nil && m.next() {
					t.Error("the map goes on after its end")
				}
				wantKeys := tt.keys
				if tt.want == errCBORKeys && form == "definite" {
					wantKeys = 0 // told before the first one
				}
				if tt.want == errCBORShort && form == "definite" {
					wantKeys = 0
				}
				if err := c.done(); err != tt.want || keys != wantKeys {
					t.Errorf("%d keys, %v, want %d, %v", keys, err, wantKeys, tt.want)
				}
			})
		}
	}
	for name, tt := range map[string]struct {
		in   string
		want error
	}{
		"break for a value":         {"bf 6161 ff", errCBORIndefinite},
		"break in a definite map":   {"a1 ff", errCBORShort},
		"break in an array":         {"82 00 ff", errCBORIndefinite},
		"break for a tagged value":  {"bf 6161 c1 ff ff", errCBORIndefinite},
		"array for a map":           {"bf 6161 9f 00 ff ff", errCBORIndefinite},
		"bytes in parts":            {"bf 6161 5f 4100 ff ff", errCBORIndefinite},
		"text in parts":             {"bf 6161 7f 6161 ff ff", errCBORIndefinite},
		"too deep":                  {strings.Repeat("bf6161", maxCBORDepth+1) + "00" + strings.Repeat("ff", maxCBORDepth+1), errCBORDepth},
		"never ends":                {strings.Repeat("bf6161", 10), errCBORShort},
		"ends twice":                {"bf ff ff", errCBORTrailing},
		"as deep as may be":         {strings.Repeat("bf6161", maxCBORDepth) + "00" + strings.Repeat("ff", maxCBORDepth), nil},
		"odd number of values":      {"bf 6161 00 6162 ff", errCBORIndefinite},
		"definite in indefinite":    {"bf 6161 a1 6162 bf ff ff", nil},
		"indefinite length of zero": {"bf ff", nil},
	} {
		c := cborReader{buf: unhex(t, tt.in)}
		if c.skip(); c.done() != tt.want {
			t.Errorf("skip: %s: %v, want %v", name, c.err, tt.want)
		}
	}
}

// What is passed on as raw bytes keeps its form.
func TestCBORRawIndefinite(t *testing.T) {
	want := unhex(t, indefinite("6161"+indefinite("616200")+"616382 00 01"))
	c := cborReader{buf: append(bytes.Clone(want), 0x05)}
	if got := c.raw(); !bytes.Equal(got, want) || c.uint() != 5 || c.done() != nil {
		t.Errorf("raw: %x, %v", got, c.err)
	}
}

// Certificates and contents reach clients whose decoders differ.
func TestCBORForms(t *testing.T) {
	for _, tt := range []struct {
		name, in        string
		portable, short error
	}{
		{"map", "a2 6161 01 6162 82 f5 f6", nil, nil},
		{"indefinite map", "bf 6161 00 ff", nil, errCBORIndefinite},
		{"indefinite map inside", "a1 6161 bf ff", nil, errCBORIndefinite},
		{"indefinite list", "9f 00 ff", errCBORIndefinite, errCBORIndefinite},
		{"simple value that means nothing", "e0", errCBORForm, errCBORForm},
		{"undefined", "f7", nil, nil},
		{"break", "82 00 ff", errCBORIndefinite, errCBORIndefinite},
		{"tag", "c1 00", errCBORForm, errCBORForm},
		{"long tag", "d82000", errCBORForm, errCBORForm},
		{"bignum", "c24101", errCBORForm, errCBORForm},
		{"float of 16 bits", "f93c00", errCBORForm, errCBORForm},
		{"float of 64 bits", "fb3ff199999999999a", errCBORForm, errCBORForm},
		{"simple value of two bytes", "f8ff", errCBORForm, errCBORForm},
		{"wide number", "1b0000000000000001", nil, errCBORForm},
		{"wide negative number", "3801", nil, errCBORForm},
		{"number that needs 64 bits", "1b0000000100000000", nil, nil},
		{"wide length", "590001 00", nil, errCBORForm},
		{"length of 64 bits", "5b0000000000000001 00", errCBORForm, errCBORForm},
		{"text length of 64 bits", "7b0000000000000001 61", errCBORForm, errCBORForm},
		{"list length of 64 bits", "9b0000000000000001 00", errCBORForm, errCBORForm},
		{"map length of 64 bits", "bb0000000000000000", errCBORForm, errCBORForm},
	} {
		for form, want := range map[cborForm]error{portableForm: tt.portable, shortForm: tt.short} {
			c := cborReader{buf: unhex(t, tt.in), form: form}
			if c.skip(); c.done() != want {
				t.Errorf("%s, form %d: got %v, want %v", tt.name, form, c.err, want)
			}
		}
	}
	// The readers of single values ask the same.
	for in, read := range map[string]func(*cborReader){
		"c24101":             func(c *cborReader) { c.uint() },
		"5b0000000000000000": func(c *cborReader) { c.bytes() },
		"7b0000000000000000": func(c *cborReader) { c.text() },
		"9b0000000000000000": func(c *cborReader) { c.array() },
		"bb0000000000000000": func(c *cborReader) { c.fields() },
	} {
		c := cborReader{buf: unhex(t, in), form: portableForm}
		if read(&c); c.err != errCBORForm {
			t.Errorf("%s: got %v", in, c.err)
		}
	}
}

// Wallets tag byte strings as typed arrays (RFC 8746), and replicas overlook it; nobody else's bytes may be tagged.
func TestCBORTypedArray(t *testing.T) {
	c := readClient(unhex(t, "d840 420102"))
	if b := c.bytes(); !bytes.Equal(b, []byte{1, 2}) || c.done() != nil {
		t.Errorf("client: %x, %v", b, c.err)
	}
	c = cborReader{buf: unhex(t, "d840 420102")}
	if c.bytes(); c.err != errCBORType {
		t.Errorf("others: %v", c.err)
	}
	for _, hex := range []string{"d840 d840 420102", "d841 420102", "d840 6161", "d84042"} {
		if c = readClient(unhex(t, hex)); c.bytes() != nil || c.done() == nil {
			t.Errorf("%s accepted", hex)
		}
	}
	plain, err := hashCBOR(unhex(t, "a1 6161 420102"), 10)
	if err != nil {
		t.Fatal(err)
	}
	if tagged, err := hashCBOR(unhex(t, "a1 6161 d840420102"), 10); err != nil || tagged != plain {
		t.Errorf("tag counts in the hash: %v", err)
	}
	if open, err := hashCBOR(unhex(t, "bf 6161 420102 ff"), 10); err != nil || open != plain {
		t.Errorf("length counts in the hash: %v", err)
	}
}
