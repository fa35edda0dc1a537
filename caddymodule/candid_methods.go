package caddymodule

import (
	"bytes"
	"slices"
)

// The methods that a canister needs to speak IC WebSockets, and the one that only the proof of concept of 2023 had.
var (
	socketMethods = []string{"ws_open", "ws_message", "ws_close", "ws_get_messages"}
	oldMethod     = "ws_register"
)

// socketInterface is what a Candid interface says about IC WebSockets.
type socketInterface struct {
	missing []string // of socketMethods
	old     bool     // it has oldMethod
	unknown bool     // it imports other files or has no service: what is missing may be there
}

// readInterface looks for the methods in the text of a Candid interface. The text is a stranger's: whatever is no Candid is
// passed over, and the time is linear in its length.
func readInterface(did []byte) socketInterface {
	found := map[string]bool{}
	var service, imports bool
	t := candidTokens{rest: did}
	depth := 0      // of brackets of all kinds
	inside := false // of the braces of a service, at depth 1
	var before, last []byte
	for {
		token, quoted := t.next()
		if token == nil {
			break
		}
		switch {
		case quoted:
		case string(token) == "import" && depth == 0:
			imports = true
		case string(token) == "{" || string(token) == "(":
			// A type in braces at the outermost level belongs to record, variant or service; a service may also begin after
			// its colon or the arrow behind its arguments.
			if depth == 0 && string(token) == "{" && (string(last) == "service" || string(last) == ":" || string(last) == ">") {
				inside, service = true, true
			}
			depth++
		case string(token) == "}" || string(token) == ")":
			if depth = max(depth-1, 0); depth == 0 {
				inside = false
			}
		case string(token) == ":" && inside && depth == 1 && (string(before) == "{" || string(before) == ";"):
			if name := string(last); name == oldMethod || slices.Contains(socketMethods, name) {
				found[name] = true
			}
		}
		before, last = last, token
	}
	s := socketInterface{old: found[oldMethod], unknown: imports || !service}
	for _, name := range socketMethods {
		if !found[name] {
			s.missing = append(s.missing, name)
		}
	}
	return s
}

// candidTokens cuts a Candid text into names, the insides of strings, and single signs.
type candidTokens struct{ rest []byte }

// next returns the next token, nil at the end. Blanks and comments are skipped. The token aliases the text.
func (t *candidTokens) next() (token []byte, quoted bool) {
	for {
		t.rest = bytes.TrimLeft(t.rest, " \t\r\n")
		switch {
		case len(t.rest) == 0:
			return nil, false
		case bytes.HasPrefix(t.rest, []byte("//")):
			_, t.rest, _ = bytes.Cut(t.rest, []byte("\n"))
		case bytes.HasPrefix(t.rest, []byte("/*")):
			t.skipComment()
		case t.rest[0] == '"':
			return t.text(), true
		default:
			n := 0
			for n < len(t.rest) && isNameByte(t.rest[n]) {
				n++
			}
			return t.take(max(n, 1)), false
		}
	}
}

func (t *candidTokens) take(n int) []byte {
	token := t.rest[:n:n]
	t.rest = t.rest[n:]
	return token
}

// skipComment skips a comment between slash and star, which may hold others.
func (t *candidTokens) skipComment() {
	for depth := 0; len(t.rest) > 0; {
		switch {
		case bytes.HasPrefix(t.rest, []byte("/*")):
			depth++
			t.rest = t.rest[2:]
		case bytes.HasPrefix(t.rest, []byte("*/")):
			t.rest = t.rest[2:]
			if depth--; depth == 0 {
				return
			}
		default:
			t.rest = t.rest[1:]
		}
	}
}

// text takes a string and returns what stands between its quotes, escapes as they are.
func (t *candidTokens) text() []byte {
	for i := 1; i < len(t.rest); i++ {
		switch t.rest[i] {
		case '\\':
			i++
		case '"':
			return t.take(i + 1)[1:i]
		}
	}
	return t.take(len(t.rest))[1:]
}

func isNameByte(b byte) bool {
	return b == '_' || '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
}
