package room

import (
	"bytes"
	"encoding/binary"
	"errors"
	"unicode/utf8"

	"github.com/icws-gateway/caddy-icws/verify"
)

// Message is one line of the conversation, in both directions. The canister
// fills in Author, At and Online and ignores what a client put there. A message
// without Text only says how many people are here.
type Message struct {
	Author verify.Principal
	Name   string
	Text   string
	At     uint64 // nanoseconds since 1970
	Online uint32
}

// prefix is what every Candid encoding of a single Message begins with: one
// record type, its fields in the order of their hashes, and one argument of it.
// The encoders of the JavaScript agent, the Rust CDK and moc agree on it, so a
// decoder can compare instead of parse.
var prefix = []byte("DIDL\x01\x6c\x05" +
	"\xf3\xa9\x01\x78" + // at : nat64
	"\xcb\xe4\xfd\xc7\x04\x71" + // name : text
	"\xad\x99\xe7\xe7\x04\x71" + // text : text
	"\x8b\xd5\xef\x9b\x07\x68" + // author : principal
	"\x93\xe9\x8f\xfb\x0f\x79" + // online : nat32
	"\x01\x00")

var errNotAMessage = errors.New("not the Candid encoding of a chat message")

// Encode returns the Candid encoding of m.
func (m *Message) Encode() []byte {
	out := bytes.Clone(prefix)
	out = binary.LittleEndian.AppendUint64(out, m.At)
	for _, s := range []string{m.Name, m.Text} {
		out = binary.AppendUvarint(out, uint64(len(s)))
		out = append(out, s...)
	}
	raw := m.Author.Bytes()
	out = append(out, 1, byte(len(raw)))
	out = append(out, raw...)
	return binary.LittleEndian.AppendUint32(out, m.Online)
}

// Decode reads what Encode writes, which is what the JavaScript agent writes
// too. Trailing bytes are an error.
func Decode(b []byte) (*Message, error) {
	b, ok := bytes.CutPrefix(b, prefix)
	if !ok || len(b) < 8 {
		return nil, errNotAMessage
	}
	m := &Message{At: binary.LittleEndian.Uint64(b)}
	b = b[8:]
	for _, field := range []*string{&m.Name, &m.Text} {
		size, used := binary.Uvarint(b)
		if used <= 0 || size > uint64(len(b)-used) || !utf8.Valid(b[used:used+int(size)]) {
			return nil, errNotAMessage
		}
		*field = string(b[used : used+int(size)])
		b = b[used+int(size):]
	}
	// A principal is at most 29 bytes, so its length is one byte.
	if len(b) < 2 || b[0] != 1 || len(b) != 2+int(b[1])+4 {
		return nil, errNotAMessage
	}
	raw := b[2 : 2+int(b[1])]
	var err error
	if m.Author, err = verify.PrincipalFromBytes(raw); err != nil {
		return nil, errNotAMessage
	}
	m.Online = binary.LittleEndian.Uint32(b[2+len(raw):])
	return m, nil
}
