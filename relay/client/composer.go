package client

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/verify"
)

// envelopeLife is how far ahead expiries are set before they are rounded down to a full minute, as @dfinity/agent does
// it: between 3 and 4 minutes are left, and a clock may be off by a minute and a half either way.
const envelopeLife = 4 * time.Minute

// A Composer signs the envelopes of one session and wraps them into frames. It is safe for concurrent use if the
// identity is; it keeps no count of sequence numbers, so that its caller decides about them.
type Composer struct {
	identity    verify.Signer
	delegations []verify.SignedDelegation
	senderKey   []byte
	canister    verify.Principal
	key         verify.ClientKey
	now         func() time.Time
}

// NewComposer makes a Composer from the identity, delegation, canister, nonce and clock of o, with a fresh Ed25519 key
// and a random nonce where o names none.
func NewComposer(o Options) (*Composer, error) {
	o.setDefaults()
	if o.Identity == nil {
		if len(o.Delegations) > 0 {
			return nil, errors.New("delegations without an identity: set Identity to the last delegation's key")
		}
		id, err := identity.NewRandomEd25519Identity()
		if err != nil {
			return nil, fmt.Errorf("making a session key: %w", err)
		}
		o.Identity = id
	}
	c := &Composer{identity: o.Identity, canister: o.Canister, now: o.Now}
	if len(o.Delegations) > 0 {
		if len(o.SenderKey) == 0 {
			return nil, errors.New("delegations without SenderKey: set it to the public key that signed the first one")
		}
		c.delegations, c.senderKey = o.Delegations, o.SenderKey
		c.key.Principal = verify.SelfAuthenticating(o.SenderKey)
	} else {
		sender, err := verify.PrincipalFromBytes(o.Identity.Sender().Raw)
		if err != nil {
			return nil, fmt.Errorf("reading the identity's principal: %w", err)
		}
		c.key.Principal = sender
	}
	if o.Nonce != nil {
		c.key.Nonce = *o.Nonce
	} else {
		var random [8]byte
		rand.Read(random[:]) // never fails, see crypto/rand
		c.key.Nonce = binary.LittleEndian.Uint64(random[:])
	}
	return c, nil
}

// Key returns the session's client key.
func (c *Composer) Key() verify.ClientKey { return c.key }

// Expiry returns the ingress expiry that an envelope signed now should carry: 3 to 4 minutes ahead, a full minute.
func (c *Composer) Expiry() time.Time {
	return c.now().Add(envelopeLife).Truncate(time.Minute)
}

// Open returns the frame of a ws_open that names gateway. A zero expiry means [Composer.Expiry].
func (c *Composer) Open(gateway verify.Principal, expiry time.Time) ([]byte, error) {
	frame, _, err := c.open(gateway, expiry)
	return frame, err
}

// open is Open with the id of the request.
func (c *Composer) open(gateway verify.Principal, expiry time.Time) (frame []byte, id [32]byte, err error) {
	return c.call("ws_open", verify.AppendOpenArg(nil, c.key.Nonce, gateway), expiry)
}

// Message returns the frame of a ws_message with the given sequence number. A zero expiry means [Composer.Expiry].
func (c *Composer) Message(sequence uint64, service bool, content []byte, expiry time.Time) ([]byte, error) {
	m := verify.WebsocketMessage{
		Client:    c.key,
		Sequence:  sequence,
		Timestamp: uint64(c.now().UnixNano()),
		Service:   service,
		Content:   content,
	}
	return c.Call("ws_message", verify.AppendMessageArg(make([]byte, 0, 256+len(content)), &m), expiry)
}

// Call returns the frame of a signed update call of any method. A zero expiry means [Composer.Expiry].
func (c *Composer) Call(method string, arg []byte, expiry time.Time) ([]byte, error) {
	frame, _, err := c.call(method, arg, expiry)
	return frame, err
}

// call is Call with the id of the request.
func (c *Composer) call(method string, arg []byte, expiry time.Time) (frame []byte, id [32]byte, err error) {
	if expiry.IsZero() {
		expiry = c.Expiry()
	}
	nonce := make([]byte, 16)
	rand.Read(nonce)
	r := verify.Request{
		Type:          verify.RequestCall,
		Canister:      c.canister,
		Method:        method,
		Arg:           arg,
		Nonce:         nonce,
		IngressExpiry: expiry,
		Delegations:   c.delegations,
		RootKey:       c.senderKey,
	}
	envelope, id, err := r.Sign(c.identity)
	if err != nil {
		return nil, id, fmt.Errorf("signing %s: %w", method, err)
	}
	return verify.AppendClientFrame(make([]byte, 0, len(envelope)+16), envelope), id, nil
}
