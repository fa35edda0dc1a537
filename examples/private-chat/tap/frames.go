package tap

import (
	"bytes"
	"encoding/binary"
)

// maxMessage is the longest message that is shown, in bytes. What a client sends
// beyond that is relayed or refused by icws, and its direction is not shown any
// more.
const maxMessage = 4 << 20

// messages finds the messages in one direction of a WebSocket connection (RFC
// 6455, section 5). Frames of one message are joined; control frames carry
// nothing of an application and are passed over.
type messages struct {
	// head says that an HTTP head comes first, as in the direction of the answer.
	head  bool
	found func([]byte)

	buf     []byte
	message []byte
	lost    bool // what comes is not understood: the rest is ignored
}

// write takes the next bytes.
func (m *messages) write(b []byte) {
	if m.lost {
		return
	}
	m.buf = append(m.buf, b...)
	if m.head {
		_, rest, ok := bytes.Cut(m.buf, []byte("\r\n\r\n"))
		if !ok {
			m.lost = len(m.buf) > maxMessage
			return
		}
		m.buf, m.head = rest, false
	}
	for !m.lost && m.frame() {
	}
	if m.lost {
		m.buf, m.message = nil, nil
	} else if len(m.buf) == 0 {
		m.buf = nil // an idle session holds nothing
	}
}

// frame takes a frame from the buffer; false if it is not all there.
func (m *messages) frame() bool {
	if len(m.buf) < 2 {
		return false
	}
	final, opcode, masked := m.buf[0]&0x80 != 0, m.buf[0]&0x0f, m.buf[1]&0x80 != 0
	size, at := uint64(m.buf[1]&0x7f), 2
	switch size {
	case 126:
		at = 4
	case 127:
		at = 10
	}
	if len(m.buf) < at {
		return false
	}
	switch size {
	case 126:
		size = uint64(binary.BigEndian.Uint16(m.buf[2:]))
	case 127:
		size = binary.BigEndian.Uint64(m.buf[2:])
	}
	if size > maxMessage || uint64(len(m.message))+size > maxMessage {
		m.lost = true
		return false
	}
	var mask []byte
	if masked {
		at += 4
	}
	end := at + int(size)
	if len(m.buf) < end {
		return false
	}
	if masked {
		mask = m.buf[at-4 : at]
	}
	if opcode < 8 { // not a control frame
		for i, b := range m.buf[at:end] {
			if masked {
				b ^= mask[i%4]
			}
			m.message = append(m.message, b)
		}
		if final {
			m.found(m.message)
			m.message = nil
		}
	}
	m.buf = m.buf[end:]
	return true
}
