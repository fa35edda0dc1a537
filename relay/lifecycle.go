package relay

// registration is how a session stands at its canister. What the canister itself thinks is known only in part: the outcome of
// ws_open may be late or lost, and the canister may drop a session without a word.
type registration uint8

const (
	// notSent: ws_open has not gone out, or no host has taken it.
	notSent registration = iota
	// inFlight: a host has ws_open, or may have it, and its outcome is not known.
	inFlight
	// registered: the canister has the session, or may have it.
	registered
	// removed: the canister does not have the session. It refused ws_open, or has removed the session by itself.
	removed
	// closeSent: ws_close was handed to the closer.
	closeSent
	registrationEnd
)

// registrationEvent is what changes a registration.
type registrationEvent uint8

const (
	openGoesOut     registrationEvent = iota // ws_open is about to be sent to a host
	openNotTaken                             // no host has taken it, as far as is known
	openAccepted                             // its outcome says that the canister has the session, or may have it
	openRefused                              // its outcome says that the canister does not have it
	firstMessage                             // the canister's first message has come, which proves that it has the session
	canisterRemoved                          // the canister has removed the session by itself
	sessionLeft                              // the session has ended, and nothing of its client waits or is under way
	registrationEventEnd
)

// registrations says what follows on what. Three rules are in it. What a host may have taken is seen through to its outcome.
// A session that the canister has removed is not brought back by what comes late. ws_close is due once, where the canister
// may have the session.
var registrations = [registrationEnd][registrationEventEnd]registration{
	notSent: {
		openGoesOut: inFlight, openNotTaken: notSent, openAccepted: registered, openRefused: removed,
		firstMessage: registered, canisterRemoved: removed, sessionLeft: notSent,
	},
	inFlight: {
		openGoesOut: inFlight, openNotTaken: notSent, openAccepted: registered, openRefused: removed,
		firstMessage: registered, canisterRemoved: removed, sessionLeft: closeSent,
	},
	registered: {
		openGoesOut: registered, openNotTaken: registered, openAccepted: registered, openRefused: registered,
		firstMessage: registered, canisterRemoved: removed, sessionLeft: closeSent,
	},
	removed: {
		openGoesOut: removed, openNotTaken: removed, openAccepted: removed, openRefused: removed,
		firstMessage: removed, canisterRemoved: removed, sessionLeft: removed,
	},
	closeSent: {
		openGoesOut: closeSent, openNotTaken: closeSent, openAccepted: closeSent, openRefused: closeSent,
		firstMessage: closeSent, canisterRemoved: closeSent, sessionLeft: closeSent,
	},
}

// after returns the registration after e.
func (r registration) after(e registrationEvent) registration { return registrations[r][e] }

// mayBeKnown reports whether the canister has the session, or may have it, as far as is known here.
func (r registration) mayBeKnown() bool { return r == inFlight || r == registered }
