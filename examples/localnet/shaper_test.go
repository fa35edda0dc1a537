package localnet

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// shapeOf describes the form of a CBOR item without its values: types, the
// order of keys, lengths of maps and arrays (a star for indefinite ones), tags,
// the width of numbers, and heads that are longer than they need to be. Byte
// strings under the key "certificate" are certificates and described as such.
func shapeOf(b []byte) string {
	s := &shaper{buf: b}
	s.item("")
	if len(s.buf) > 0 {
		s.out.WriteString(" and more behind it")
	}
	return s.out.String()
}

type shaper struct {
	buf []byte
	out strings.Builder
	bad bool
}

// head reads one head. width is the number of bytes of the argument, wide tells
// whether fewer would have done.
func (s *shaper) head() (major byte, n uint64, width int, wide, endless bool) {
	if len(s.buf) == 0 {
		s.bad = true
		return
	}
	major, info := s.buf[0]&0xe0, s.buf[0]&0x1f
	s.buf = s.buf[1:]
	switch {
	case info < 24:
		return major, uint64(info), 0, false, false
	case info == 31:
		return major, 0, 0, false, true
	case info > 27 || len(s.buf) < 1<<(info-24):
		s.bad = true
		return
	}
	width = 1 << (info - 24)
	for _, c := range s.buf[:width] {
		n = n<<8 | uint64(c)
	}
	s.buf = s.buf[width:]
	wide = width == 1 && n < 24 || width == 2 && n < 1<<8 || width == 4 && n < 1<<16 || width == 8 && n < 1<<32
	return major, n, width, wide, false
}

func (s *shaper) take(n uint64) []byte {
	if n > uint64(len(s.buf)) {
		s.bad = true
		return nil
	}
	b := s.buf[:n]
	s.buf = s.buf[n:]
	return b
}

func (s *shaper) item(key string) {
	major, n, width, wide, endless := s.head()
	if s.bad {
		s.out.WriteString("malformed")
		s.buf = nil
		return
	}
	if wide && major != 7<<5 {
		s.out.WriteString("wide ")
	}
	switch major {
	case majorUint:
		fmt.Fprintf(&s.out, "uint%d", width*8)
	case majorBytes, majorText:
		name := map[byte]string{majorBytes: "bytes", majorText: "text"}[major]
		if endless {
			name += "*"
			for len(s.buf) > 0 && s.buf[0] != breakCode {
				_, n, _, _, _ := s.head()
				s.take(n)
			}
			s.take(1)
		}
		b := s.take(n)
		s.out.WriteString(name)
		if major == majorBytes && key == "certificate" {
			s.out.WriteString("<" + certificateShape(b) + ">")
		}
	case majorArray:
		s.list("array", n, endless, func() { s.item("") })
	case majorMap:
		s.list("map", n, endless, func() {
			_, n, _, _, _ := s.head()
			key := string(s.take(n))
			s.out.WriteString(key + ":")
			s.item(key)
		})
	case 6 << 5:
		fmt.Fprintf(&s.out, "tag%d ", n)
		s.item(key)
	default:
		fmt.Fprintf(&s.out, "simple%d", n)
	}
}

func (s *shaper) list(name string, n uint64, endless bool, each func()) {
	s.out.WriteString(name)
	if endless {
		s.out.WriteString("*")
	} else {
		fmt.Fprintf(&s.out, "%d", n)
	}
	s.out.WriteString("{")
	for i := uint64(0); !s.bad && (endless || i < n); i++ {
		if endless && len(s.buf) > 0 && s.buf[0] == breakCode {
			s.buf = s.buf[1:]
			break
		}
		if i > 0 {
			s.out.WriteString(" ")
		}
		each()
	}
	s.out.WriteString("}")
}

// certificateShape is the shape of a certificate with its tree reduced to how
// the nodes are written.
func certificateShape(cert []byte) string {
	s := &shaper{buf: cert}
	s.item("")
	shape := s.out.String()
	at := strings.Index(shape, "tree:")
	end := strings.Index(shape, " signature:")
	if at < 0 || end < at {
		return shape
	}
	return shape[:at] + "tree:" + treeForms(shape[at+len("tree:"):end]) + shape[end:]
}

// treeForms lists the kinds of nodes that a tree is made of, inner ones with
// their children left out.
func treeForms(shape string) string {
	forms := map[string]bool{}
	var reduce func(string) string
	reduce = func(in string) string {
		out := ""
		for in != "" {
			at := strings.Index(in, "array")
			if at < 0 {
				return out + in
			}
			out += in[:at] + "node"
			open := at + strings.Index(in[at:], "{")
			depth, end := 0, open
			for ; end < len(in); end++ {
				if in[end] == '{' {
					depth++
				} else if in[end] == '}' {
					if depth--; depth == 0 {
						break
					}
				}
			}
			end = min(end, len(in)-1)
			forms[in[at:open]+"{"+reduce(in[open+1:end])+"}"] = true
			in = in[end+1:]
		}
		return out
	}
	reduce(shape)
	known := []string{
		"array1{uint0}",            // empty
		"array2{uint0 bytes}",      // leaf, pruned
		"array3{uint0 bytes node}", // labelled
		"array3{uint0 node node}",  // fork
	}
	var odd []string
	for form := range forms {
		if !slices.Contains(known, form) {
			odd = append(odd, form)
		}
	}
	sort.Strings(odd)
	return "nodes" + strings.Join(odd, ",")
}
