package verify

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strconv"
	"time"
)

// nonceDigits is the length of the nonce in a message key, padded with zeros.
const nonceDigits = 20

// Want is what a reply of ws_get_messages was asked for.
type Want struct {
	// Canister was asked.
	Canister Principal
	// Gateway asked: its queue is answered.
	Gateway Principal
	// Nonce is the first message asked for.
	Nonce uint64
}

// Page is a verified reply of ws_get_messages. It keeps the bytes of the Reply it was made from, which must not change while
// it is in use. It may be read concurrently; SetCertificate may not run at the same time.
type Page struct {
	// Time is the time of the certificate. Clients refuse frames once it is MaxCertificateAge old.
	Time time.Time
	// Flat reports whether clients in use can verify the certificate; see Certificate.Flat.
	Flat bool
	// Messages are the messages, oldest first, with nonces that follow each other.
	Messages []PageMessage

	cert   []byte
	tree   Tree
	leaves []uint32 // the leaf of each message in tree
}

// PageMessage is one message that a canister has certified. Its slices alias the Reply.
type PageMessage struct {
	// Nonce is the number of the message in the gateway's queue.
	Nonce uint64
	// Key is the text under which it is certified.
	Key []byte
	// Content is the CBOR of the message, to be passed on byte for byte.
	Content []byte
	// Routing is the recipient as stated beside the content. It is not certified.
	Routing ClientKey
	// Poison says why the message must not be delivered although it is certified: its content cannot be decoded (cause
	// malformed), or it is for another recipient than Routing (cause client_key). It is an *Error, or nil.
	Poison error

	// Client is the recipient as certified. This and what follows is zero if the content cannot be decoded.
	Client ClientKey
	// Sequence is the number of the message among those to this client, starting at 1.
	Sequence uint64
	// Timestamp is when the canister sent it, in nanoseconds since 1970 by the canister's clock.
	Timestamp uint64
	// Service says that the payload is a message of the protocol, not of the application.
	Service bool
	// Payload is what the canister has to say to the client, opaque to the gateway.
	Payload []byte
}

// Page verifies a decoded reply at the time now: that the canister certified the witness, that the witness has the hash of
// every message's content under its key, that the keys name the asking gateway, and that their nonces follow each other
// and start at Want.Nonce or later. (Later, because canisters delete old messages.) The certificate must be no older than
// MaxPageAge.
//
// If any of it fails so does the whole page, with an *Error: the causes of Authority.Certificate, and certified_data,
// witness, key and nonce. Of a good page single messages can still be unfit for delivery; see PageMessage.Poison.
//
// A reply without messages proves nothing: its page is empty, whatever else the reply has. Safe for concurrent use.
func (a *Authority) Page(r *Reply, w Want, now time.Time) (*Page, error) {
	p := &Page{}
	if len(r.Messages) == 0 {
		return p, nil
	}
	// Cheap checks come first: keys, then hashes, then signatures.
	if err := p.readKeys(r, w); err != nil {
		return nil, err
	}
	if err := p.checkWitness(r.Tree); err != nil {
		return nil, err
	}
	c, err := a.Certificate(r.Cert, w.Canister, now)
	if err != nil {
		return nil, err
	}
	if age := now.Sub(c.Time()); age > MaxPageAge {
		return nil, fail(CauseCertificateOld, fmt.Sprintf("certificate is %s old, too old to be passed on", age.Round(time.Second)))
	}
	data, result := c.Lookup(labelCanister, w.Canister.Bytes(), labelCertifiedData)
	if result != Found {
		return nil, fail(CauseCertifiedData, "certificate: certified data of the canister is "+result.String())
	}
	if digest := p.tree.Digest(); !bytes.Equal(data, digest[:]) {
		return nil, fail(CauseCertifiedData, "witness has another root hash than the canister certified")
	}
	p.Time, p.Flat, p.cert = c.Time(), c.Flat(), r.Cert
	for i := range p.Messages {
		p.Messages[i].decode()
	}
	return p, nil
}

// readKeys takes over the messages and checks their keys and nonces.
func (p *Page) readKeys(r *Reply, w Want) error {
	var buf [maxPrincipalText + 1]byte
	prefix := append(w.Gateway.AppendText(buf[:0]), '_')
	p.Messages = make([]PageMessage, len(r.Messages))
	for i := range r.Messages {
		m := &r.Messages[i]
		nonce, ok := parseMessageKey(m.Key, prefix)
		if !ok {
			return fail(CauseKey, "message key is not one of this gateway's queue")
		}
		switch {
		case nonce < w.Nonce:
			return fail(CauseNonce, "message is older than what was asked for")
		case i > 0 && (nonce == 0 || nonce-1 != p.Messages[i-1].Nonce):
			return fail(CauseNonce, "message nonces do not follow each other")
		}
		p.Messages[i] = PageMessage{Nonce: nonce, Key: m.Key, Content: m.Content, Routing: m.Client}
	}
	return nil
}

// keyNonce returns the nonce of a message key and whether it is a key of gateway's queue: "<gateway>_<nonce, 20 digits>".
func keyNonce(key []byte, gateway Principal) (uint64, bool) {
	var buf [maxPrincipalText + 1]byte
	return parseMessageKey(key, append(gateway.AppendText(buf[:0]), '_'))
}

// parseMessageKey is keyNonce for a prefix that was made before: the gateway's text and "_".
func parseMessageKey(key, prefix []byte) (nonce uint64, ok bool) {
	digits, ok := bytes.CutPrefix(key, prefix)
	if !ok || len(digits) != nonceDigits {
		return 0, false
	}
	nonce, err := strconv.ParseUint(string(digits), 10, 64)
	return nonce, err == nil
}

// checkWitness parses the witness and finds in it the hash of every message.
func (p *Page) checkWitness(witness []byte) error {
	if err := p.tree.Parse(witness); err != nil {
		return failWith(CauseMalformed, "reading witness", err)
	}
	queue, r := p.tree.find(labelWebsocket)
	if r != Found {
		return fail(CauseWitness, "witness: message queue is "+r.String())
	}
	p.leaves = make([]uint32, len(p.Messages))
	for i := range p.Messages {
		m := &p.Messages[i]
		at, ok := p.tree.child(queue, m.Key)
		if !ok || p.tree.nodes[at].kind != treeLeaf {
			return fail(CauseWitness, "witness does not show the key of a message")
		}
		if hash := sha256.Sum256(m.Content); !bytes.Equal(p.tree.span(at), hash[:]) {
			return fail(CauseWitness, "witness has another hash than that of a message")
		}
		p.leaves[i] = at
	}
	return nil
}

// decode reads the content, which is certified by now.
func (m *PageMessage) decode() {
	content, err := ParseContent(m.Content)
	if err != nil {
		m.Poison = failWith(CauseMalformed, "reading a certified message", err)
		return
	}
	m.Client, m.Sequence, m.Timestamp = content.Client, content.Sequence, content.Timestamp
	m.Service, m.Payload = content.Service, content.Content
	if m.Client != m.Routing {
		m.Poison = fail(CauseClientKey, "message is certified for another client than the reply says")
	}
}
