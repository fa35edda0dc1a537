package tap

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

// frame is a WebSocket frame. A mask of zero length: none.
func frame(first byte, mask []byte, payload []byte) []byte {
	var masked byte
	if len(mask) > 0 {
		masked = 0x80
	}
	out := []byte{first}
	switch n := len(payload); {
	case n < 126:
		out = append(out, masked|byte(n))
	case n < 1<<16:
		out = binary.BigEndian.AppendUint16(append(out, masked|126), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, masked|127), uint64(n))
	}
	out = append(out, mask...)
	for i, b := range payload {
		if len(mask) > 0 {
			b ^= mask[i%4]
		}
		out = append(out, b)
	}
	return out
}

// Messages are found whatever pieces they come in.
func TestMessages(t *testing.T) {
	long, longer := bytes.Repeat([]byte("long"), 100), bytes.Repeat([]byte("longer"), 20_000)
	mask := []byte{1, 2, 3, 4}
	stream := []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
	for _, f := range [][]byte{
		frame(0x82, mask, []byte("masked")),
		frame(0x81, nil, long),
		frame(0x02, mask, []byte("in ")),
		frame(0x89, nil, []byte("ping")), // between the parts of a message
		frame(0x00, nil, []byte("three ")),
		frame(0x80, mask, []byte("parts")),
		frame(0x82, nil, longer),
		frame(0x82, nil, nil),
		frame(0x88, nil, []byte{3, 232}),
	} {
		stream = append(stream, f...)
	}
	want := [][]byte{[]byte("masked"), long, []byte("in three parts"), longer, nil}
	for _, size := range []int{1, 7, 1000, len(stream)} {
		var got [][]byte
		m := messages{head: true, found: func(b []byte) { got = append(got, b) }}
		for piece := range slices.Chunk(stream, size) {
			m.write(piece)
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("in pieces of %d: %d messages, %.40q", size, len(got), got)
		}
		if m.lost || m.buf != nil {
			t.Errorf("in pieces of %d: lost %v, %d bytes left", size, m.lost, len(m.buf))
		}
	}
}

// A client that announces more than is shown takes no memory for it, whatever it sends.
func TestTooLong(t *testing.T) {
	parts := bytes.Repeat(frame(0x00, nil, make([]byte, 1<<20)), 5)
	for name, stream := range map[string][]byte{
		"one frame":      frame(0x82, nil, make([]byte, maxMessage+1)),
		"a false length": {0x82, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3},
		"many parts":     append(frame(0x02, nil, nil), parts...),
	} {
		m := messages{found: func([]byte) { t.Errorf("%s: found", name) }}
		m.write(stream)
		m.write(frame(0x82, nil, []byte("more")))
		if !m.lost || m.buf != nil || m.message != nil {
			t.Errorf("%s: lost %v, %d bytes kept", name, m.lost, len(m.buf)+len(m.message))
		}
	}
}

// Whoever comes late gets what is kept, which is bounded, and who does not read holds nobody up.
func TestReaders(t *testing.T) {
	seen := 0
	tap := New(t.Name(), func(Frame) { seen++ })
	kept, slow := tap.read()
	if len(kept) != 0 {
		t.Errorf("kept %d of nothing", len(kept))
	}
	for range 2 * keepFrames {
		tap.message(1, FromClient, []byte("x"))
	}
	read := 0
	for range slow {
		read++
	}
	if read != cap(slow) {
		t.Errorf("a slow reader has %d frames before its end, not %d", read, cap(slow))
	}
	kept, late := tap.read()
	if len(kept) != keepFrames || kept[0].Number != keepFrames+1 || seen != 2*keepFrames {
		t.Errorf("kept %d from %d on, seen %d", len(kept), kept[0].Number, seen)
	}
	tap.message(1, FromClient, make([]byte, keepBytes))
	if got := <-late; got.Number != 2*keepFrames+1 {
		t.Errorf("frame %d", got.Number)
	}
	if kept, c := tap.read(); len(kept) != 1 {
		t.Errorf("kept %d frames beside a large one", len(kept))
	} else {
		tap.leave(c)
		tap.leave(c) // a page leaves after it was dropped
	}
	tap.Close()
	if _, open := <-late; open {
		t.Error("a reader of a closed tap goes on")
	}
	if _, c := tap.read(); c != nil {
		t.Error("a closed tap is read")
	}
}
