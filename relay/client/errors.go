package client

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/gorilla/websocket"
)

// Close codes and texts that the JavaScript SDK 0.5.0 sends, and this client with it.
const (
	// CodeNormal is sent by [Client.Close].
	CodeNormal = websocket.CloseNormalClosure
	// CodeAbnormal is never on the wire: the connection ended without a close frame (RFC 6455 section 7.1.5).
	CodeAbnormal = websocket.CloseAbnormalClosure
	// CodeProtocol is sent with one of the texts below when something that arrived cannot be accepted.
	CodeProtocol = 4000
	// CodeByApplication is sent with TextByApplication when the canister closed the session deliberately.
	CodeByApplication = 4001

	TextHandshake        = "Handshake message error"
	TextOpenTimeout      = "Open connection timeout"
	TextReceive          = "Error receiving message"
	TextService          = "Service message error"
	TextAck              = "Ack message error"
	TextAckTimeout       = "Ack message timeout"
	TextSend             = "Message sending failed"
	TextKeepAlive        = "Keep alive message was not sent"
	TextClosedByCanister = "Received close message from canister"
	TextByApplication    = "ClosedByApplication"
)

// Causes of a session's end that are found on this side. [CloseError] wraps them.
var (
	// ErrHandshake: the first frame was not a handshake.
	ErrHandshake = errors.New("handshake not understood")
	// ErrOpenTimeout: no OpenMessage within [Options.OpenTimeout].
	ErrOpenTimeout = errors.New("no OpenMessage in time")
	// ErrTextFrame: the gateway sent text, which is fatal for the SDK.
	ErrTextFrame = errors.New("text frame from the gateway")
	// ErrVerification: a frame could not be proven. The *verify.Error with the cause is wrapped as well.
	ErrVerification = errors.New("frame failed verification")
	// ErrClientKey: a frame of somebody else.
	ErrClientKey = errors.New("frame carries another client key")
	// ErrSequence: a message is missing, repeated or out of order.
	ErrSequence = errors.New("sequence number out of order")
	// ErrQueue: the frame's key is not one of this gateway's queue, or its nonce does not rise.
	ErrQueue = errors.New("frame key out of order")
	// ErrService: a service message that is malformed or has no place here.
	ErrService = errors.New("unexpected service message")
	// ErrAck: an acknowledgement of a message that was never sent.
	ErrAck = errors.New("acknowledgement of an unsent message")
	// ErrAckTimeout: no acknowledgement within [Options.AckTimeout].
	ErrAckTimeout = errors.New("no acknowledgement in time")
	// ErrClosed: this side has closed the session.
	ErrClosed = errors.New("session closed by this side")
)

// A CloseError says how a session ended. Every method of a session that has ended returns it, and [Dial] does when the
// gateway refused the session after the upgrade.
type CloseError struct {
	// Code and Text are those of the close frame, sent or received; CodeAbnormal when there was none.
	Code int
	Text string
	// Local is true if this side decided to close.
	Local bool
	// Err is the cause where one is known beyond the close frame.
	Err error
}

// Error implements error.
func (e *CloseError) Error() string {
	by := "by the other side"
	if e.Local {
		by = "by this side"
	}
	text := fmt.Sprintf("session closed %s: %d", by, e.Code)
	if e.Text != "" {
		text += " " + e.Text
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *CloseError) Unwrap() error { return e.Err }

// An UpgradeError is returned by [Dial] and [DialRaw] when the server answered the WebSocket opening with something
// else than 101.
type UpgradeError struct {
	Status int
	Header http.Header
	// Body is the beginning of the answer's body, at most 1 KiB.
	Body string
}

// Error implements error.
func (e *UpgradeError) Error() string {
	text := fmt.Sprintf("the server refused the websocket: %d %s", e.Status, http.StatusText(e.Status))
	if e.Body != "" {
		text += fmt.Sprintf(": %.200q", e.Body)
	}
	return text
}

// closed turns what reading or writing a connection returned into a CloseError.
func closed(err error) *CloseError {
	var frame *websocket.CloseError
	if errors.As(err, &frame) && frame.Code != CodeAbnormal { // gorilla's way to say that there was no close frame
		return &CloseError{Code: frame.Code, Text: frame.Text}
	}
	return &CloseError{Code: CodeAbnormal, Err: err}
}
