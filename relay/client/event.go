package client

import (
	"crypto/tls"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// A Step names one thing that happens in the life of a session.
type Step string

// The steps in the order of their first occurrence.
const (
	// StepUpgraded: the WebSocket is open. Event.TLS is set for wss.
	StepUpgraded Step = "upgraded"
	// StepHandshake: the gateway has named itself. Event.Gateway is set.
	StepHandshake Step = "handshake"
	// StepOpenSent: the signed ws_open has been written. Event.Bytes is its length, Event.RequestID names it.
	StepOpenSent Step = "open_sent"
	// StepFrame: a frame has been verified, or has failed with Event.Err.
	StepFrame Step = "frame"
	// StepOpened: the OpenMessage was accepted.
	StepOpened Step = "opened"
	// StepAck: an AckMessage arrived and was answered with a KeepAliveMessage.
	StepAck Step = "ack"
	// StepSent: a signed ws_message has been written.
	StepSent Step = "sent"
	// StepClosed: the session has ended. Event.Err says how.
	StepClosed Step = "closed"
)

// An Event is one step of a session, for [Options.Trace].
type Event struct {
	Step Step
	// Time is when it happened by the local clock; Took how long the step needed where that is meaningful: upgrade,
	// verification, signing.
	Time time.Time
	Took time.Duration
	// TLS is the state of the connection (StepUpgraded on wss).
	TLS *tls.ConnectionState
	// RequestID is by which its sender can learn the outcome of the call from the network (StepOpenSent).
	RequestID [32]byte
	// Gateway is the principal of the handshake.
	Gateway verify.Principal
	// Bytes is the length of the WebSocket message read or written.
	Bytes int
	// Sequence is the message's number in its direction.
	Sequence uint64
	// Nonce is the message's place in the gateway's queue (StepFrame).
	Nonce uint64
	// Service is the kind of a service message, empty for an application message (StepFrame).
	Service verify.ServiceKind
	// CertificateTime is the subnet's time in the certificate (StepFrame); its age is Time minus this.
	CertificateTime time.Time
	// Delegated tells whether the certificate came from a subnet by delegation, and Flat whether deployed SDKs can
	// verify it (StepFrame).
	Delegated, Flat bool
	// Err is why the step failed.
	Err error
}
