package verify

// Reply is the decoded answer of ws_get_messages, variant{Ok: CertifiedMessages; Err: text}. Nothing in it is verified:
// Authority.Page does that. Its slices alias the decoded bytes. A Reply may be reused; Decode keeps the memory of Messages.
type Reply struct {
	// Messages are the messages of this page, oldest first.
	Messages []Message
	// Cert is the certificate of the canister's certified data. Empty if there are no messages.
	Cert []byte
	// Tree is the witness that proves the messages. Empty if there are no messages.
	Tree []byte
	// EndOfQueue is false if the canister holds more messages after these. True where an old canister does not say.
	EndOfQueue bool
	// EndStated says that the canister states EndOfQueue. Where it does not, more messages may follow a page.
	EndStated bool
	// Failed says that the canister answered Err; Err is its text then.
	Failed bool
	// Err is the text of an Err answer, canister-controlled.
	Err string
}

// Message is one message of a Reply, not verified.
type Message struct {
	// Client is the key the canister gives for routing. It is not certified; the content repeats it certified.
	Client ClientKey
	// Key is the text under which the content is certified: "<gateway principal>_<nonce, 20 digits>".
	Key []byte
	// Content is the CBOR of a WebsocketMessage, to be passed on byte for byte.
	Content []byte
}
