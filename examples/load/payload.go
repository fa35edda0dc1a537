package main

import (
	"encoding/binary"
	"time"
)

// payloadHead is the length of what every message begins with: session, number, time of sending.
const payloadHead = 24

// epoch is what send times count from; the monotonic clock makes them comparable within this process.
var epoch = time.Now()

// payload is the head of a message.
type payload struct {
	session, number uint64
	sent            time.Duration // since epoch
}

// encode makes a message of at least size bytes. What follows the head is a pattern that differs between messages.
func (p payload) encode(size int) []byte {
	b := make([]byte, max(size, payloadHead))
	binary.BigEndian.PutUint64(b, p.session)
	binary.BigEndian.PutUint64(b[8:], p.number)
	binary.BigEndian.PutUint64(b[16:], uint64(p.sent))
	for i := payloadHead; i < len(b); i++ {
		b[i] = byte(p.session + p.number*7 + uint64(i))
	}
	return b
}

// decodePayload reads a message and checks the pattern.
func decodePayload(b []byte) (payload, bool) {
	if len(b) < payloadHead {
		return payload{}, false
	}
	p := payload{
		session: binary.BigEndian.Uint64(b),
		number:  binary.BigEndian.Uint64(b[8:]),
		sent:    time.Duration(binary.BigEndian.Uint64(b[16:])),
	}
	for i := payloadHead; i < len(b); i++ {
		if b[i] != byte(p.session+p.number*7+uint64(i)) {
			return payload{}, false
		}
	}
	return p, true
}
