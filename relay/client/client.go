package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/verify"
)

// A Message is one verified application message of the canister.
type Message struct {
	// Sequence is the canister's number for this client. Service messages are counted too, so numbers of application
	// messages rise, with gaps.
	Sequence uint64
	// Nonce is the message's place in the gateway's queue.
	Nonce uint64
	// Timestamp is when the canister queued the message, by its subnet's clock.
	Timestamp time.Time
	// Certified is the time in the certificate that proves the message; Received is the local time.
	Certified, Received time.Time
	// Payload is what the canister's application sent. It belongs to the receiver.
	Payload []byte
}

// A Client is an open session. All methods are safe for concurrent use.
type Client struct {
	raw       *Raw
	opts      Options
	authority *verify.Authority

	turn chan struct{} // holds one token: whoever has it may take a sequence number and write
	sent atomic.Uint64 // last outgoing sequence number; written by the holder of the turn

	in reader // state of the reading goroutine

	inbox   chan Message  // nil with OnMessage
	closing chan struct{} // closed when this side has decided to end
	done    chan struct{} // closed when the reading goroutine has ended

	mu       sync.Mutex // guards what follows
	end      *CloseError
	writeErr error // the first write that failed
	ackTimer *time.Timer
}

// Dial opens a session at url (ws or wss) and returns when the canister's OpenMessage has arrived and been verified. The
// context covers the opening only.
//
// Errors: *UpgradeError when the server refused the WebSocket, *CloseError with code and text when the gateway closed it
// or when this side did because something was wrong, and what the network returns.
func Dial(ctx context.Context, url string, o Options) (*Client, error) {
	o.setDefaults()
	url = o.address(url)
	authority := o.Authority
	if authority == nil {
		key := o.RootKey
		if key == nil {
			key = verify.MainnetRootKey()
		}
		var err error
		if authority, err = verify.NewAuthority(key); err != nil {
			return nil, fmt.Errorf("reading the root key: %w", err)
		}
	}
	raw, err := DialRaw(ctx, url, o)
	if err != nil {
		return nil, err
	}
	c := &Client{
		raw:       raw,
		opts:      o,
		authority: authority,
		turn:      make(chan struct{}, 1),
		closing:   make(chan struct{}),
		done:      make(chan struct{}),
	}
	c.turn <- struct{}{}
	if o.OnMessage == nil {
		c.inbox = make(chan Message, o.Buffer)
	}
	if err := c.open(ctx); err != nil {
		o.trace(Event{Step: StepClosed, Err: err})
		return nil, err
	}
	go c.read()
	return c, nil
}

// open sends ws_open and handles frames until the OpenMessage.
func (c *Client) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.opts.OpenTimeout, ErrOpenTimeout)
	defer cancel()
	started := time.Now()
	frame, id, err := c.raw.composer.open(c.raw.gateway, time.Time{})
	if err != nil {
		c.raw.Close()
		return err
	}
	if err := c.raw.Write(ctx, websocket.BinaryMessage, frame); err != nil {
		c.raw.Close()
		return c.raw.failed(ctx, err)
	}
	c.opts.trace(Event{Step: StepOpenSent, Bytes: len(frame), RequestID: id, Took: time.Since(started)})
	// Whatever comes first must be the OpenMessage: see reader.handle.
	kind, first, err := c.raw.Read(ctx)
	if err != nil {
		end := c.raw.failed(ctx, err)
		if end.Local {
			// The read deadline has passed, so there is nothing to wait for after the close frame.
			_ = c.raw.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(end.Code, end.Text), time.Now().Add(time.Second))
		}
		c.raw.Close()
		return end
	}
	if end := c.handle(kind, first); end != nil {
		c.raw.refuse(end.Code, end.Text)
		return end
	}
	c.opts.trace(Event{Step: StepOpened, Took: time.Since(started)})
	return nil
}

// Key returns the session's client key.
func (c *Client) Key() verify.ClientKey { return c.raw.composer.key }

// Gateway returns the gateway's principal.
func (c *Client) Gateway() verify.Principal { return c.raw.gateway }

// Raw returns the connection below. Its Write and Composer may be used between calls of Send to send what this client
// would not; its Read and Close must not be.
func (c *Client) Raw() *Raw { return c.raw }

// Sent returns the sequence number of the last message sent, service messages included.
func (c *Client) Sent() uint64 { return c.sent.Load() }

// Done is closed when the session has ended and its goroutine is gone.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns how the session ended, nil while it has not.
func (c *Client) Err() error {
	select {
	case <-c.done:
		return c.ended()
	default:
		return nil
	}
}

// ended returns the reason of the end, once it has been decided.
func (c *Client) ended() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil {
		return nil
	}
	return c.end
}

// Send signs payload as the next message and writes it. It returns when the socket has taken the message; that the
// canister has got it is known only from what it sends back. If ctx ends before the write nothing has happened; if it
// ends during the write the session is over.
func (c *Client) Send(ctx context.Context, payload []byte) error {
	err := c.send(ctx, false, payload)
	if err == nil || !errors.Is(err, errWrite) {
		return err
	}
	select {
	case <-c.done:
		return c.ended()
	case <-ctx.Done():
	case <-time.After(c.opts.CloseTimeout):
	}
	return err
}

// failWrite is called when a write has failed, usually because the other side has gone. Its close frame, if there is one,
// says why, so the reading goroutine gets time to find it.
func (c *Client) failWrite(err error) {
	c.mu.Lock()
	if c.writeErr == nil {
		c.writeErr = err
	}
	c.mu.Unlock()
	_ = c.raw.conn.SetReadDeadline(time.Now().Add(c.opts.CloseTimeout))
}

// errWrite marks errors after which the connection is of no more use.
var errWrite = errors.New("writing to the socket")

// send takes a turn, composes and writes. The sequence number is used up only by a write.
func (c *Client) send(ctx context.Context, service bool, content []byte) error {
	select {
	case <-c.turn:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.closing:
		return c.ended()
	case <-c.done:
		return c.ended()
	}
	defer func() { c.turn <- struct{}{} }()
	if err := c.ended(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	started := time.Now()
	sequence := c.sent.Load() + 1
	frame, err := c.raw.composer.Message(sequence, service, content, time.Time{})
	if err != nil {
		return err
	}
	c.sent.Store(sequence) // before the write: the acknowledgement may come before it returns
	c.armAck(false)
	if err := c.raw.Write(ctx, websocket.BinaryMessage, frame); err != nil {
		err = fmt.Errorf("%w: %w", errWrite, err)
		c.failWrite(err)
		return err
	}
	c.opts.trace(Event{Step: StepSent, Sequence: sequence, Bytes: len(frame), Took: time.Since(started)})
	return nil
}

// Receive returns the next verified application message. Messages that arrived before the session ended are returned
// first, then the *CloseError. With OnMessage it only waits for the end.
func (c *Client) Receive(ctx context.Context) (Message, error) {
	select {
	case m := <-c.inbox:
		return m, nil
	default:
	}
	select {
	case m := <-c.inbox:
		return m, nil
	case <-ctx.Done():
		return Message{}, context.Cause(ctx)
	case <-c.done:
	}
	select {
	case m := <-c.inbox:
		return m, nil
	default:
		return Message{}, c.ended()
	}
}

// Close ends the session with code 1000 and waits, at most CloseTimeout, for the other side's close frame. It always
// returns nil; calling it again does nothing.
func (c *Client) Close() error {
	c.stop(CodeNormal, "", ErrClosed)
	<-c.done
	return nil
}

// Abort ends the TCP connection without a close frame, as a client does that loses its network or its power.
func (c *Client) Abort() {
	c.decide(&CloseError{Code: CodeAbnormal, Local: true, Err: ErrClosed})
	c.raw.conn.Close()
	<-c.done
}

// decide records the first reason to end and reports whether this one was it.
func (c *Client) decide(end *CloseError) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ackTimer != nil {
		c.ackTimer.Stop()
	}
	if c.end != nil {
		return false
	}
	c.end = end
	close(c.closing)
	return true
}

// stop ends the session from this side: close frame, then the reading goroutine waits for the other side's, which is
// bounded by the read deadline. It may be called from any goroutine.
func (c *Client) stop(code int, text string, err error) {
	if !c.decide(&CloseError{Code: code, Text: text, Local: true, Err: err}) {
		return
	}
	limit := time.Now().Add(c.opts.CloseTimeout)
	_ = c.raw.conn.SetReadDeadline(limit)
	if c.raw.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, text), limit) != nil {
		_ = c.raw.conn.SetReadDeadline(time.Unix(1, 0))
	}
}
