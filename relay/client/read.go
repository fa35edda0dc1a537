package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/verify"
)

// reader is the state of what has arrived. It belongs to Dial first and to the reading goroutine then.
type reader struct {
	opened   bool
	sequence uint64 // last incoming sequence number
	nonce    uint64 // queue nonce of the last frame
}

// framePool holds the buffers that frames are read into. A session has one only while a frame is being handled.
var framePool = sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, 4096)) }}

// keepBuffer is the size above which a buffer is left to the garbage collector.
const keepBuffer = 64 << 10

// read is the reading goroutine: it ends when the connection does.
func (c *Client) read() {
	defer close(c.done)
	var err error
	for {
		var kind int
		var r io.Reader
		if kind, r, err = c.raw.conn.NextReader(); err != nil {
			break
		}
		if c.ended() != nil {
			continue // waiting for the close frame only
		}
		buffer := framePool.Get().(*bytes.Buffer)
		if _, err = buffer.ReadFrom(r); err != nil {
			break
		}
		if end := c.handle(kind, buffer.Bytes()); end != nil {
			c.stop(end.Code, end.Text, end.Err)
		}
		if buffer.Cap() <= keepBuffer {
			buffer.Reset()
			framePool.Put(buffer)
		}
	}
	c.raw.conn.Close()
	end := c.finish(err)
	c.opts.trace(Event{Step: StepClosed, Err: end})
	if c.opts.OnClose != nil {
		c.opts.OnClose(end)
	}
}

// finish decides how the session ended if nothing has done so before: err is what reading returned.
func (c *Client) finish(err error) *CloseError {
	end := closed(err)
	c.mu.Lock()
	failed := c.writeErr
	c.mu.Unlock()
	if end.Code == CodeAbnormal && failed != nil {
		end = &CloseError{Code: CodeAbnormal, Text: TextSend, Err: failed}
	}
	c.decide(end)
	return c.end // written once, by decide
}

// handle proves one frame and acts on it. What it returns ends the session. The frame's bytes are not kept.
func (c *Client) handle(kind int, frame []byte) *CloseError {
	started := time.Now()
	v, err := c.check(kind, frame)
	if c.opts.Trace != nil {
		e := Event{Step: StepFrame, Took: time.Since(started), Bytes: len(frame), Err: err}
		if v != nil {
			e.Sequence, e.Nonce, e.CertificateTime = v.Message.Sequence, v.Nonce, v.Time
			e.Delegated, e.Flat = v.Delegated, v.Flat
			if v.Message.Service {
				if m, err := verify.DecodeServiceMessage(v.Message.Content); err == nil {
					e.Service = m.Kind
				}
			}
		}
		c.opts.trace(e)
	}
	if err != nil {
		return &CloseError{Code: CodeProtocol, Text: TextReceive, Local: true, Err: err}
	}
	if v.Message.Service {
		return c.service(v.Message.Content)
	}
	m := Message{
		Sequence:  v.Message.Sequence,
		Nonce:     v.Nonce,
		Timestamp: time.Unix(0, int64(v.Message.Timestamp)),
		Certified: v.Time,
		Received:  c.opts.Now(),
		Payload:   bytes.Clone(v.Message.Content),
	}
	if c.opts.OnMessage != nil {
		c.opts.OnMessage(m)
		return nil
	}
	select {
	case c.inbox <- m:
	case <-c.closing:
	}
	return nil
}

// check proves a frame and its place in the stream, and moves on to the next place.
func (c *Client) check(kind int, raw []byte) (*verify.VerifiedFrame, error) {
	if kind != websocket.BinaryMessage {
		return nil, ErrTextFrame
	}
	frame, err := verify.ParseFrame(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrVerification, err)
	}
	v, err := c.authority.VerifyFrame(frame, c.opts.Canister, c.raw.gateway, c.opts.Now())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrVerification, err)
	}
	m := &v.Message
	switch {
	case !v.Flat && !c.opts.AllowSharded:
		return v, fmt.Errorf("%w: the certificate lists canister ranges in the sharded form only, which deployed SDKs reject", ErrVerification)
	case m.Client != c.raw.composer.key:
		return v, ErrClientKey
	case m.Sequence != c.in.sequence+1:
		return v, fmt.Errorf("%w: expected %d, got %d", ErrSequence, c.in.sequence+1, m.Sequence)
	case c.in.sequence > 0 && v.Nonce <= c.in.nonce:
		return v, fmt.Errorf("%w: nonce %d after %d", ErrQueue, v.Nonce, c.in.nonce)
	case !c.in.opened && !m.Service:
		return v, fmt.Errorf("%w: application message before the OpenMessage", ErrService)
	}
	c.in.sequence, c.in.nonce = m.Sequence, v.Nonce
	return v, nil
}

// service acts on a service message.
func (c *Client) service(content []byte) *CloseError {
	m, err := verify.DecodeServiceMessage(content)
	if err != nil {
		return &CloseError{Code: CodeProtocol, Text: TextService, Local: true, Err: fmt.Errorf("%w: %w", ErrService, err)}
	}
	switch {
	case m.Kind == verify.ServiceOpen && !c.in.opened:
		if m.Client != c.raw.composer.key {
			return &CloseError{Code: CodeProtocol, Text: TextService, Local: true, Err: ErrClientKey}
		}
		c.in.opened = true
		return nil
	case m.Kind == verify.ServiceAck && c.in.opened:
		return c.ack(m.LastIncoming)
	case m.Kind == verify.ServiceClose && c.in.opened:
		if m.Reason == verify.ReasonClosedByApplication {
			return &CloseError{Code: CodeByApplication, Text: TextByApplication, Local: true}
		}
		return &CloseError{Code: CodeProtocol, Text: TextClosedByCanister, Local: true, Err: fmt.Errorf("the canister closed the session: %s", m.Reason)}
	}
	return &CloseError{Code: CodeProtocol, Text: TextService, Local: true, Err: fmt.Errorf("%w: %s", ErrService, m.Kind)}
}

// ack answers an acknowledgement with a keep-alive, as the SDK does with every one.
func (c *Client) ack(last uint64) *CloseError {
	if sent := c.sent.Load(); last > sent {
		return &CloseError{Code: CodeProtocol, Text: TextAck, Local: true, Err: fmt.Errorf("%w: %d of %d", ErrAck, last, sent)}
	}
	c.armAck(true)
	err := c.send(context.Background(), true, verify.AppendKeepAlive(nil, c.in.sequence))
	c.opts.trace(Event{Step: StepAck, Sequence: last, Err: err})
	if err != nil && !errors.Is(err, errWrite) && c.ended() == nil {
		return &CloseError{Code: CodeProtocol, Text: TextKeepAlive, Local: true, Err: err}
	}
	return nil // after a failed write the reading goroutine finds out why: see failWrite
}

// armAck starts the acknowledgement timer: by a message sent only if it has never run, by an acknowledgement anew. This
// is the SDK's rule, and the reason why a gateway that stalls for 30 s around the canister's tick loses its clients.
func (c *Client) armAck(anew bool) {
	if c.opts.AckTimeout < 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.end != nil:
	case c.ackTimer == nil:
		c.ackTimer = time.AfterFunc(c.opts.AckTimeout, func() { c.stop(CodeProtocol, TextAckTimeout, ErrAckTimeout) })
	case anew:
		c.ackTimer.Reset(c.opts.AckTimeout)
	}
}
