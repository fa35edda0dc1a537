package relay

import (
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// Methods of the CDK that clients call.
const (
	methodOpen    = "ws_open"
	methodMessage = "ws_message"
)

// handleFrame takes a binary frame of the client, and held, the memory that it occupies: the envelope keeps what it needs of that,
// and the rest is given back. It returns what is wrong with the frame, nil if nothing is.
func (s *session) handleFrame(frame []byte, held lease) *closing {
	e, c := s.checkFrame(frame)
	if c != nil {
		held.release()
		return c
	}
	e.held = held
	e.held.shrink(int64(len(e.body)))
	s.received(len(frame))
	s.enqueue(e)
	return nil
}

// checkFrame makes an envelope of a frame.
func (s *session) checkFrame(frame []byte) (*envelope, *closing) {
	env, err := verify.ParseClientFrame(frame)
	switch {
	case err != nil:
		return nil, newClosing(NotAnEnvelope, "")
	case int64(len(env.Raw)) > s.policy.maxMessageSize():
		return nil, s.policy.tooLarge()
	case env.RequestType != "call":
		return nil, newClosing(OutOfProtocol, "envelope is not a call")
	}
	s.mu.Lock()
	st, ended := s.state, s.closing
	s.mu.Unlock()
	switch {
	case ended != nil:
		return nil, ended // a moment ago, perhaps before there was a canister
	case st == stateConnected:
		return s.admit(env)
	}
	return s.checkMessage(env)
}

// newEnvelope copies what is kept of env, so that the frame can go.
func newEnvelope(env *verify.Envelope, now time.Time) *envelope {
	body := make([]byte, 0, len(selfDescribed)+len(env.Raw))
	return &envelope{
		body:    append(append(body, selfDescribed...), env.Raw...),
		id:      env.RequestID,
		expiry:  time.Unix(0, int64(min(env.IngressExpiry, 1<<63-1))),
		arrived: now,
	}
}

// selfDescribed is the CBOR tag that the IC's HTTPS interface asks for in front of requests.
const selfDescribed = "\xd9\xd9\xf7"

// admit takes the first envelope. Until everything is proven, nothing is registered, polled or sent anywhere for this
// client; the cheap checks come first.
func (s *session) admit(env *verify.Envelope) (*envelope, *closing) {
	now := time.Now()
	if env.MethodName != methodOpen {
		return nil, newClosing(OutOfProtocol, "first envelope must call ws_open")
	}
	s.asked = env.Canister
	if !s.policy.Allows(env.Canister) {
		return nil, newClosing(CanisterNotAllowed, "")
	}
	nonce, gateway, err := verify.DecodeOpenArg(env.Arg)
	if err != nil {
		return nil, newClosing(NotAnEnvelope, "ws_open: argument is not {client_nonce; gateway_principal}, update the SDK")
	}
	if gateway != s.g.Principal() {
		return nil, newClosing(WrongGateway, "")
	}
	if err := env.CheckExpiry(now); err != nil {
		return nil, newClosing(BadExpiry, methodOpen+": "+err.Error())
	}
	e := newEnvelope(env, now)
	e.open = true
	chain, err := verify.VerifySender(env, now, s.g.up.KnownAuthority(), nil)
	switch {
	case err == nil:
		s.chain = chain
	case isUnknownScheme(err) && !env.Sender.IsAnonymous():
		e.late = true
	default:
		s.g.up.SenderFailed(err)
		return nil, badSender(methodOpen, err)
	}
	switch fresh, room := s.g.opens.add(e.id, e.expiry, now); {
	case !fresh:
		return nil, newClosing(Replayed, "")
	case !room:
		return nil, newClosing(OverCapacity, "")
	}
	return e, s.register(env.Canister, verify.ClientKey{Principal: env.Sender, Nonce: nonce}, e.late)
}

// register makes the session known to its canister's poller, which must happen before ws_open is submitted: the
// answer may be polled before the outcome of the call is known.
func (s *session) register(id verify.Principal, key verify.ClientKey, late bool) *closing {
	for {
		home, c := s.g.canister(id)
		if c != nil {
			return c
		}
		s.mu.Lock()
		if s.closing != nil {
			defer s.mu.Unlock()
			return s.closing
		}
		s.canister, s.key, s.state = home, key, stateOpening
		s.place = s.g.turns.place()
		if !late { // a principal that is not proven keeps nobody waiting
			s.turn = newTurn(s)
		}
		s.opening.began = time.Now()
		s.mu.Unlock()
		c, retired := home.add(s, s.policy.MaxSessionsPerCanister, late)
		if retired {
			continue // the poller ended a moment ago; the next entry is another
		}
		if c == nil && s.turn != nil {
			s.g.turns.join(s.turn)
		}
		if c == nil && s.ended() {
			home.remove(s)
		}
		return c
	}
}

// checkMessage takes an envelope after the first.
func (s *session) checkMessage(env *verify.Envelope) (*envelope, *closing) {
	now := time.Now()
	switch {
	case env.MethodName == methodOpen:
		return nil, newClosing(OutOfProtocol, "second ws_open on one connection, open another connection")
	case env.MethodName != methodMessage:
		return nil, newClosing(OutOfProtocol, "only ws_message may be called after ws_open")
	case env.Canister != s.canister.id:
		return nil, newClosing(OutOfProtocol, "ws_message to another canister than ws_open")
	case env.Sender != s.key.Principal:
		return nil, newClosing(OutOfProtocol, "ws_message of another sender than ws_open")
	}
	if err := env.CheckExpiry(now); err != nil {
		signed := time.Unix(0, int64(min(env.IngressExpiry, 1<<63-1))).Add(-verify.MaxIngressExpiry) // not before
		if verify.CauseOf(err) == verify.CauseExpired && s.heldUpSince(signed) {
			return nil, expiredBehind(methodMessage)
		}
		return nil, newClosing(BadExpiry, methodMessage+": "+err.Error())
	}
	chain, err := verify.VerifySender(env, now, s.g.up.KnownAuthority(), s.chain)
	if err != nil && !isUnknownScheme(err) {
		return nil, badSender(methodMessage, err)
	}
	if err == nil {
		s.chain = chain
	}
	return newEnvelope(env, now), nil
}

// isUnknownScheme reports whether a sender could not be checked, as opposed to failing the check.
func isUnknownScheme(err error) bool { return verify.CauseOf(err) == verify.CauseScheme }

// badSender says what is wrong with a sender.
func badSender(method string, err error) *closing {
	text := "signature does not verify"
	switch verify.CauseOf(err) {
	case verify.CauseAnonymous:
		text = "anonymous sender, sign with an identity"
	case verify.CauseSender:
		text = "sender is not derived from the public key"
	case verify.CauseDelegationExpired:
		text = "the sender's delegation has expired, log in again"
	case verify.CauseDelegation:
		text = "the sender's delegation chain is not valid"
	case verify.CauseTargets:
		text = "the sender's delegation does not cover this canister"
	case verify.CausePermissions:
		text = "the sender's delegation does not permit calls"
	case verify.CauseMalformed:
		text = "public key, signature or delegation cannot be decoded"
	case verify.CauseCertificateOld, verify.CauseCertificateFuture, verify.CauseRange, verify.CauseCertifiedData, verify.CauseWitness:
		text = "canister signature does not verify"
	}
	return newClosing(BadSender, method+": "+text)
}
