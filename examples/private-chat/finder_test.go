package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

// window is how many bytes of a text in a row give it away. Random bytes have eight given ones by chance once in 10^19 places.
const window = 8

// finder looks for parts of a text in bytes, in every form in which a careless program writes texts down.
type finder map[string][][]byte

// find makes a finder of a text of ASCII that is longer than window.
func find(text string) finder {
	utf16le, utf16be := []byte{}, []byte{}
	for _, u := range utf16.Encode([]rune(text)) {
		utf16le = append(utf16le, byte(u), byte(u>>8))
		utf16be = append(utf16be, byte(u>>8), byte(u))
	}
	f := finder{"UTF-8": windows([]byte(text), window), "UTF-16": append(windows(utf16le, 2*window), windows(utf16be, 2*window)...)}
	h := hex.EncodeToString([]byte(text))
	f["hex"] = append(windows([]byte(h), 2*window), windows([]byte(strings.ToUpper(h)), 2*window)...)
	for offset := range 3 {
		// Whatever comes before and after the text has a part in the characters at both ends.
		for _, alphabet := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			encoded := alphabet.EncodeToString(append(make([]byte, offset), text...))
			name := fmt.Sprintf("base64 at offset %d", offset)
			f[name] = append(f[name], windows([]byte(encoded[4:len(encoded)-3]), window)...)
		}
	}
	return f
}

func windows(b []byte, size int) (out [][]byte) {
	for i := range len(b) - size + 1 {
		out = append(out, b[i:i+size])
	}
	return out
}

// in tells which forms are somewhere in b.
func (f finder) in(b []byte) (forms []string) {
	for name, parts := range f {
		if slices.ContainsFunc(parts, func(part []byte) bool { return contains(b, part) }) {
			forms = append(forms, name)
		}
	}
	slices.Sort(forms)
	return forms
}

func contains(b, part []byte) bool {
	for i, first := range b {
		if first == part[0] && begins(b[i+1:], part[1:]) {
			return true
		}
	}
	return false
}

// begins tells whether b begins with a part of a text, with heads of CBOR strings allowed between any two of its bytes: a text that
// is split over chunks is there all the same.
func begins(b, part []byte) bool {
	if len(part) == 0 {
		return true
	}
	if len(b) == 0 {
		return false
	}
	if b[0] == part[0] && begins(b[1:], part[1:]) {
		return true
	}
	head := 0
	switch major, short := b[0]>>5, b[0]&0x1f; {
	case major != 2 && major != 3:
	case short < 24:
		head = 1
	case short < 28: // a length of 1, 2, 4 or 8 bytes
		head = 1 + 1<<(short-24)
	}
	return head > 0 && len(b) > head && b[head] == part[0] && begins(b[head+1:], part[1:])
}

// The finder finds what it is for, in the middle of other bytes, and nothing where there is nothing.
func TestFinder(t *testing.T) {
	const text = "Meet me at the old mill at seven"
	r := rand.New(rand.NewChaCha8([32]byte{1}))
	noise := func() []byte {
		b := make([]byte, 5000)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	chunks := func(b []byte, size int) (out []byte) {
		for c := range slices.Chunk(b, size) {
			if size > 23 {
				out = append(out, 0x58)
			}
			out = append(append(out, 0x40|byte(len(c))&0x1f), c...)
			if size > 23 {
				out[len(out)-len(c)-1] = byte(len(c))
			}
		}
		return out
	}
	wide := make([]byte, 0, 2*len(text))
	for _, c := range []byte(text) {
		wide = append(wide, c, 0)
	}
	hidden := map[string][]byte{
		"UTF-8":                 []byte(text),
		"UTF-8 in part":         []byte(text[5:14]),
		"UTF-8 in text chunks":  []byte("fMeet mde atd thed old"),
		"UTF-16":                wide,
		"UTF-16 big-endian":     append([]byte{0}, wide...),
		"hex":                   []byte(hex.EncodeToString([]byte("say: " + text))),
		"hex in capitals":       []byte(strings.ToUpper(hex.EncodeToString([]byte(text)))),
		"base64 at offset 0":    []byte(base64.StdEncoding.EncodeToString([]byte(text + "!"))),
		"base64 at offset 1":    []byte(base64.StdEncoding.EncodeToString([]byte("?" + text))),
		"base64 at offset 2":    []byte(base64.URLEncoding.EncodeToString([]byte("??" + text + "!!"))),
		"UTF-8 in chunks of 1":  chunks([]byte(text), 1),
		"UTF-8 in chunks of 3":  chunks([]byte(text), 3),
		"UTF-8 in chunks of 7":  chunks([]byte(text), 7),
		"UTF-8 in chunks of 24": chunks([]byte(text), 24),
	}
	f := find(text)
	for name, what := range hidden {
		got := f.in(slices.Concat(noise(), what, noise()))
		if len(got) != 1 || !strings.HasPrefix(name, got[0]) {
			t.Errorf("%s: found %q", name, got)
		}
	}
	for name, nothing := range map[string][]byte{
		"noise":        bytes.Join([][]byte{noise(), noise(), noise()}, nil),
		"another text": []byte("The gateway met an older miller on the seventh"),
		"nothing":      nil,
	} {
		if got := f.in(nothing); got != nil {
			t.Errorf("%s: found %q", name, got)
		}
	}
}
