package relay

import (
	"github.com/gorilla/websocket"
	"go.uber.org/zap/zapcore"
)

// CloseReason says why a session ended. There is one for every way a session can end; the WebSocket close code, the
// text the client sees, the log field and the metric label all come from it. The zero value means "not ended".
type CloseReason uint8

// Every way a session ends.
const (
	// ClientClosed is a closing handshake that the client began.
	ClientClosed CloseReason = iota + 1
	// ClientGone is a connection that broke without a closing handshake.
	ClientGone
	// CanisterClosed is a CloseMessage of the canister, delivered to the client.
	CanisterClosed
	// Draining is a gateway that shuts down.
	Draining
	// Reconfigured is a gateway whose settings were replaced by others.
	Reconfigured
	// AdminClosed is an operator who closed this one session.
	AdminClosed
	// NotAnEnvelope is a binary frame that holds no signed envelope.
	NotAnEnvelope
	// TextFrame is a text frame; the protocol has binary frames only.
	TextFrame
	// OutOfProtocol is an envelope that is valid but not at this point: a second ws_open, another canister, another
	// sender, another method, or a violation of RFC 6455.
	OutOfProtocol
	// CanisterNotAllowed is a canister that the operator has not named.
	CanisterNotAllowed
	// WrongGateway is a ws_open made out to another gateway principal.
	WrongGateway
	// BadSender is a signature, a delegation or a sender that the IC would refuse.
	BadSender
	// BadExpiry is an ingress expiry outside the window that the IC accepts.
	BadExpiry
	// Replayed is a ws_open that was used before, or whose client key is in use.
	Replayed
	// Superseded is a newer session of the same principal: a canister keeps one per principal.
	Superseded
	// SlowConsumer is a client whose outbox overflowed.
	SlowConsumer
	// WriteTimeout is a client that took longer than write_timeout for one frame.
	WriteTimeout
	// Stale is a frame that waited until its certificate was too old for the client.
	Stale
	// OpenTimeout is a client that sent no valid ws_open in time.
	OpenTimeout
	// PongTimeout is a client that left a ping unanswered.
	PongTimeout
	// TooLarge is a message above the size that the IC accepts, or that the operator has set.
	TooLarge
	// CanisterRefused is a ws_open or ws_message that the canister answered with an error, or trapped on.
	CanisterRefused
	// CanisterUnavailable is a canister that is stopped, without cycles or without a module.
	CanisterUnavailable
	// CanisterUnusable is a canister that does not exist or does not speak IC WebSocket.
	CanisterUnusable
	// Unverifiable is a canister whose answers failed verification for longer than outage_timeout.
	Unverifiable
	// ClientOutdated is a client that does not read the layout of certificates that the network has moved to.
	ClientOutdated
	// MessageLost is a canister message that this client can no longer get in order.
	MessageLost
	// Outage is a network that was unreachable for longer than outage_timeout.
	Outage
	// OutcomeUnknown is a relayed message whose outcome could not be learned before it expired.
	OutcomeUnknown
	// Forgotten is a session that the canister no longer knows, usually since an upgrade, or since its principal opened another
	// one through another gateway.
	Forgotten
	// OverCapacity is a limit of the gateway.
	OverCapacity
	// InternalError is a fault of this gateway.
	InternalError

	closeReasonEnd
)

// maxCloseText is the largest text a close frame can carry, in bytes (RFC 6455 section 5.5, less the code).
const maxCloseText = 123

// closeReasons has the codes by what a client should do. 1008 is for what repeating cannot cure, and nothing else: clients stay
// closed after it. 1012 says that a new session may be opened now, 1013 that there is reason to wait.
var closeReasons = [closeReasonEnd]struct {
	code        int
	label, text string
}{
	ClientClosed:        {websocket.CloseNormalClosure, "client_closed", ""},
	ClientGone:          {websocket.CloseAbnormalClosure, "client_gone", ""},
	CanisterClosed:      {websocket.CloseNormalClosure, "canister_closed", "the canister closed the connection"},
	Draining:            {websocket.CloseGoingAway, "draining", "gateway is shutting down, reconnect"},
	Reconfigured:        {websocket.CloseGoingAway, "reconfigured", "gateway settings changed, reconnect"},
	AdminClosed:         {websocket.CloseGoingAway, "admin_closed", "closed by the gateway's operator, reconnect"},
	NotAnEnvelope:       {websocket.CloseProtocolError, "not_an_envelope", "frame holds no signed envelope, use an IC WebSocket client"},
	TextFrame:           {websocket.CloseUnsupportedData, "text_frame", "text frames are not supported, send binary frames"},
	OutOfProtocol:       {websocket.CloseProtocolError, "out_of_protocol", "envelope not expected here"},
	CanisterNotAllowed:  {websocket.ClosePolicyViolation, "canister_not_allowed", "canister is not allowed on this gateway, ask its operator"},
	WrongGateway:        {websocket.ClosePolicyViolation, "wrong_gateway", "ws_open: made out to another gateway principal, use the one of the handshake"},
	BadSender:           {websocket.ClosePolicyViolation, "bad_sender", "signature refused, log in again"},
	BadExpiry:           {websocket.ClosePolicyViolation, "bad_expiry", "ingress expiry outside the IC's window, check the clock"},
	Replayed:            {websocket.ClosePolicyViolation, "replayed", "ws_open: already used, open with a new nonce"},
	Superseded:          {websocket.ClosePolicyViolation, "superseded", "replaced by a newer connection of the same identity, use that one"},
	SlowConsumer:        {websocket.CloseTryAgainLater, "slow_consumer", "client reads too slowly, reconnect"},
	WriteTimeout:        {websocket.CloseServiceRestart, "write_timeout", "client stopped reading, reconnect"},
	Stale:               {websocket.CloseTryAgainLater, "stale", "message waited too long for this client, reconnect"},
	OpenTimeout:         {websocket.CloseServiceRestart, "open_timeout", "no valid ws_open in time, reconnect"},
	PongTimeout:         {websocket.CloseServiceRestart, "pong_timeout", "ping was not answered, reconnect"},
	TooLarge:            {websocket.CloseMessageTooBig, "too_large", "message is larger than the IC accepts, send smaller ones"},
	CanisterRefused:     {websocket.CloseInternalServerErr, "canister_refused", "the canister refused the message"},
	CanisterUnavailable: {websocket.CloseTryAgainLater, "canister_unavailable", "the canister is not running, try again later"},
	CanisterUnusable:    {websocket.CloseInternalServerErr, "canister_unusable", "the canister does not speak IC WebSocket"},
	Unverifiable:        {websocket.CloseInternalServerErr, "unverifiable", "the canister's answers fail verification, try again later"},
	ClientOutdated:      {websocket.ClosePolicyViolation, "client_outdated", "the network no longer certifies the layout this client reads, update the client"},
	MessageLost:         {websocket.CloseInternalServerErr, "message_lost", "a message of the canister is missing, reconnect"},
	Outage:              {websocket.CloseServiceRestart, "outage", "the Internet Computer cannot be reached, try again later"},
	OutcomeUnknown:      {websocket.CloseServiceRestart, "outcome_unknown", "outcome of a message is unknown, reconnect"},
	Forgotten:           {websocket.CloseServiceRestart, "forgotten", "the canister no longer knows this session, reconnect"},
	OverCapacity:        {websocket.CloseTryAgainLater, "over_capacity", "gateway is full, try again later"},
	InternalError:       {websocket.CloseInternalServerErr, "internal_error", "fault in the gateway, reconnect"},
}

// CloseReasons returns every reason, for metrics that want all their label values from the start.
func CloseReasons() []CloseReason {
	all := make([]CloseReason, 0, closeReasonEnd-1)
	for r := CloseReason(1); r < closeReasonEnd; r++ {
		all = append(all, r)
	}
	return all
}

// Code returns the RFC 6455 close code of r. [ClientGone] has 1006, which is never sent.
func (r CloseReason) Code() int { return closeReasons[r].code }

// Label returns the name of r in metrics, logs and the admin API: lower case with underscores.
func (r CloseReason) Label() string { return closeReasons[r].label }

// Text returns what a client is told when nothing more precise is known. At most 123 bytes.
func (r CloseReason) Text() string { return closeReasons[r].text }

// keepsSent reports whether what a client had sent is still submitted after an end for r: the ends that are about the
// connection alone. After others the canister does not have the session any more, or would get a message out of order.
func (r CloseReason) keepsSent() bool {
	switch r {
	case ClientClosed, ClientGone, PongTimeout, WriteTimeout, SlowConsumer, Stale, ClientOutdated, Draining, Reconfigured:
		return true
	}
	return false
}

// level is the log level of a session's end. How a client ends is information; a fault of ours is an error.
func (r CloseReason) level() zapcore.Level {
	switch r {
	case InternalError:
		return zapcore.ErrorLevel
	case Unverifiable, Outage:
		return zapcore.WarnLevel
	}
	return zapcore.InfoLevel
}

// String returns the label.
func (r CloseReason) String() string { return r.Label() }

// closing is a reason together with the text for this one case.
type closing struct {
	reason CloseReason
	text   string
	unsure bool // of a ws_open: the canister may have the session all the same
	// removed says that the canister has removed the session: no ws_close is needed.
	removed bool
}

// newClosing returns the closing for r; an empty text means the usual one.
func newClosing(r CloseReason, text string) *closing {
	if text == "" {
		text = r.Text()
	}
	return &closing{reason: r, text: truncateText(text)}
}

// truncateText cuts s to what a close frame can carry, never inside a UTF-8 sequence.
func truncateText(s string) string {
	if len(s) <= maxCloseText {
		return s
	}
	cut := maxCloseText - len("...")
	for cut > 0 && s[cut]&0xc0 == 0x80 {
		cut--
	}
	return s[:cut] + "..."
}

// refusal reports whether c is about a canister that the IC refuses for a reason of the canister's own; nil is not.
func (c *closing) refusal() bool {
	return c != nil && (c.reason == CanisterUnavailable || c.reason == CanisterUnusable || c.reason == CanisterRefused)
}

// orUnsure returns c, marked if doubt holds.
func (c *closing) orUnsure(doubt bool) *closing {
	if c == nil || !doubt {
		return c
	}
	marked := *c
	marked.unsure = true
	return &marked
}

// andRemoved returns c, marked: the canister has removed the session.
func (c *closing) andRemoved() *closing {
	marked := *c
	marked.removed = true
	return &marked
}
