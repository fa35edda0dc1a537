package relay

import (
	"encoding/binary"
	"sync"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/verify"
)

// frame is a binary WebSocket frame for a client (RFC 6455, section 5.2), header and all, so that it leaves with one write and no
// copy. Servers do not mask theirs.
type frame struct {
	buf  []byte // room for the longest header, and the payload
	from int    // where the header begins
}

const (
	headerRoom = 10
	finalFrame = 0x80 // in the first byte of a header
	maxControl = 125  // what the payload of a control frame may have
)

// appendControl appends a control frame for a client, of at most maxControl bytes of payload.
func appendControl(b []byte, kind byte, payload []byte) []byte {
	return append(append(b, finalFrame|kind, byte(len(payload))), payload...)
}

// frames recycles the memory of frames, from the poller that makes them to whoever has written them.
var frames = sync.Pool{New: func() any { return new(frame) }}

// maxPooledFrame keeps the rare giant from being held for frames of 3 kB.
const maxPooledFrame = 64 << 10

// newFrame makes the frame of message i of a page.
func newFrame(page *verify.Page, i int) *frame {
	f := frames.Get().(*frame)
	if size := headerRoom + page.FrameSize(i); cap(f.buf) < size {
		f.buf = make([]byte, 0, size)
	}
	f.buf = page.AppendFrame(f.buf[:headerRoom], i)
	f.seal()
	return f
}

// seal puts the header in front of the payload.
func (f *frame) seal() {
	size := f.size()
	switch {
	case size <= 125:
		f.from = headerRoom - 2
		f.buf[f.from+1] = byte(size)
	case size <= 0xffff:
		f.from = headerRoom - 4
		f.buf[f.from+1] = 126
		binary.BigEndian.PutUint16(f.buf[f.from+2:], uint16(size))
	default:
		f.from = 0
		f.buf[1] = 127
		binary.BigEndian.PutUint64(f.buf[2:], uint64(size))
	}
	f.buf[f.from] = finalFrame | websocket.BinaryMessage
}

// size is that of the payload.
func (f *frame) size() int { return len(f.buf) - headerRoom }

// bytes is what goes over the connection.
func (f *frame) bytes() []byte { return f.buf[f.from:] }

// memory is what the frame occupies.
func (f *frame) memory() int64 { return int64(cap(f.buf)) }

// free takes back a frame that nothing refers to any more.
func (f *frame) free() {
	if cap(f.buf) <= maxPooledFrame {
		frames.Put(f)
	}
}
