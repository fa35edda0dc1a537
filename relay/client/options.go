package client

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// Defaults of [Options].
const (
	// DefaultOpenTimeout is the SDK's: twice 30 s.
	DefaultOpenTimeout = 60 * time.Second
	// DefaultAckTimeout is the SDK's: the CDK's default interval of 300 s and 30 s more.
	DefaultAckTimeout = 330 * time.Second
	// DefaultWriteTimeout bounds one write to the socket.
	DefaultWriteTimeout = 30 * time.Second
	// DefaultCloseTimeout bounds the wait for the other side's close frame.
	DefaultCloseTimeout = 3 * time.Second
	// DefaultBuffer is the number of messages that wait for Receive.
	DefaultBuffer = 64
	// DefaultMaxFrame is above what a canister can return in one query (3 MiB) with certificate and tree.
	DefaultMaxFrame = 4 << 20
)

// Options configure a session. Only Canister is required. A copy is taken by [Dial] and [DialRaw]; what pointers,
// slices and maps refer to must not change while the session lives.
type Options struct {
	// Canister is the canister to talk to.
	Canister verify.Principal
	// Identity signs; nil means a fresh Ed25519 key for this session. It must be safe for concurrent use if it is
	// shared between sessions.
	Identity verify.Signer
	// Delegations lead from the key that owns the session's principal (SenderKey) to Identity, root first. Empty: Identity
	// is the owner itself.
	Delegations []verify.SignedDelegation
	// SenderKey is the DER public key that the first delegation was signed with. Required with Delegations.
	SenderKey []byte
	// Nonce is the client nonce; nil means random, as it should be outside of tests.
	Nonce *uint64

	// RootKey is the DER public key of the network; nil means mainnet's.
	RootKey []byte
	// Authority verifies in place of a private one made from RootKey. Many sessions should share one: it remembers the
	// delegations and state roots it has verified.
	Authority *verify.Authority
	// AllowSharded accepts certificates whose delegation lists the canister ranges in the sharded form only. SDKs up to
	// 0.5.0 (@dfinity/agent 2.4) reject those, so by default this client does too. With it the gateway is told so, in the
	// URL: see relay.RangesSharded. A URL that says so already has the same effect.
	AllowSharded bool

	// TLS is used for wss URLs; nil means the system's roots.
	TLS *tls.Config
	// Header is added to the opening request, for example Origin.
	Header http.Header
	// NetDial opens the transport connection; nil means TCP, through a proxy if the environment names one.
	NetDial func(ctx context.Context, network, addr string) (net.Conn, error)

	// OpenTimeout bounds the time from sending ws_open to the OpenMessage, and before that the wait for the handshake.
	// Zero means DefaultOpenTimeout.
	OpenTimeout time.Duration
	// AckTimeout closes the session when the canister acknowledges nothing for so long after the first message sent, and
	// after each acknowledgement. Zero means DefaultAckTimeout, negative never.
	AckTimeout time.Duration
	// WriteTimeout bounds one write. Zero means DefaultWriteTimeout.
	WriteTimeout time.Duration
	// CloseTimeout bounds the wait for the other side's part of a close. Zero means DefaultCloseTimeout.
	CloseTimeout time.Duration

	// Buffer is how many verified messages may wait for Receive before reading from the socket stops. Zero means
	// DefaultBuffer.
	Buffer int
	// OnMessage, if set, gets every verified application message in place of Receive, one at a time, in the reading
	// goroutine. It must not call Close. While it blocks nothing is read.
	OnMessage func(Message)
	// OnClose, if set, is called once when the session has ended after a successful Dial, as the last act of the reading
	// goroutine before Done is closed. It must not call Close.
	OnClose func(*CloseError)
	// MaxFrame is the longest frame accepted, in bytes. Zero means DefaultMaxFrame.
	MaxFrame int64
	// Now is the clock for expiries, timestamps and the age of certificates; nil means time.Now.
	Now func() time.Time
	// Trace, if set, is told each step. It is called from Dial, from Send and from the reading goroutine, and so must be
	// safe for concurrent use; it should return quickly.
	Trace func(Event)
}

// address returns the URL at which the WebSocket is opened. What it says of AllowSharded and what o says become the same.
func (o *Options) address(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return base // the dialer says what is wrong with it
	}
	switch said := slices.Contains(strings.Split(u.RawQuery, "&"), rangesSharded); {
	case said:
		o.AllowSharded = true
		return base
	case !o.AllowSharded:
		return base
	case u.RawQuery != "":
		u.RawQuery += "&"
	}
	u.RawQuery += rangesSharded
	return u.String()
}

// rangesSharded is relay.RangesSharded, which this package does not import: it has to work with other gateways.
const rangesSharded = "ranges=sharded"

// setDefaults fills in everything that was left out, except for keys.
func (o *Options) setDefaults() {
	if o.OpenTimeout == 0 {
		o.OpenTimeout = DefaultOpenTimeout
	}
	if o.AckTimeout == 0 {
		o.AckTimeout = DefaultAckTimeout
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = DefaultWriteTimeout
	}
	if o.CloseTimeout == 0 {
		o.CloseTimeout = DefaultCloseTimeout
	}
	if o.Buffer <= 0 {
		o.Buffer = DefaultBuffer
	}
	if o.MaxFrame <= 0 {
		o.MaxFrame = DefaultMaxFrame
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// trace reports a step, stamped with the current time.
func (o *Options) trace(e Event) {
	if o.Trace == nil {
		return
	}
	e.Time = o.Now()
	o.Trace(e)
}
