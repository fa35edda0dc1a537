package relay

import "time"

// outFrame is a canister frame that waits for its client.
type outFrame struct {
	data []byte
	made time.Time // when the canister made the message, by its clock
	stop time.Time // when it is too old to be sent: the client would refuse the certificate
}

// outbox is what waits for one client. It belongs to the session, whose lock guards it.
type outbox struct {
	frames  []outFrame
	bytes   int64
	writing bool // a writer exists
	ping    bool // a ping is due
}

// push appends f unless that would exceed the bounds. A single frame is always taken: bounds below the size of one
// frame would otherwise shut a client out for good.
func (o *outbox) push(f outFrame, maxFrames int, maxBytes int64) bool {
	size := int64(len(f.data))
	if len(o.frames) > 0 && (len(o.frames) >= maxFrames || o.bytes+size > maxBytes) {
		return false
	}
	o.frames = append(o.frames, f)
	o.bytes += size
	return true
}

// pop takes the oldest frame.
func (o *outbox) pop() (outFrame, bool) {
	if len(o.frames) == 0 {
		return outFrame{}, false
	}
	f := o.frames[0]
	o.frames[0] = outFrame{}
	o.frames = o.frames[1:]
	if len(o.frames) == 0 {
		o.frames = nil // an idle session keeps no queue
	}
	o.bytes -= int64(len(f.data))
	return f, true
}

func (o *outbox) clear() { o.frames, o.bytes = nil, 0 }
