package localnet

import (
	"encoding/binary"
	"encoding/hex"
	"slices"

	"github.com/icws-gateway/caddy-icws/verify"
)

// The canister's encodings. The Candid type tables are those of the protocol's
// reference vectors; the values follow them.

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil { // constants only
		panic(err)
	}
	return b
}

var (
	resultTable = mustHex("4449444c016b02bc8a017fc5fed201710100")
	// pageTable: blob, ClientKey, message, vec message, CertifiedMessages, result.
	pageTable = mustHex("4449444c066d7b6c02fa80a2940568bbd1eacd0e786c039f93c60271b99adecb0100ebb49ce903016d02" +
		"6c04ccb1f7a70303e4cdf48d0400deb28ee80400829c8df40d7e6b02bc8a0104c5fed201710105")
	// oldPageTable lacks is_end_of_queue.
	oldPageTable = mustHex("4449444c066d7b6c02fa80a2940568bbd1eacd0e786c039f93c60271b99adecb0100ebb49ce903016d02" +
		"6c03ccb1f7a70303e4cdf48d0400deb28ee804006b02bc8a0104c5fed201710105")
	// motokoPageTable lists the same types from the outermost inwards.
	motokoPageTable = mustHex("4449444c066b02bc8a0101c5fed201716c04ccb1f7a70302e4cdf48d0405deb28ee80405829c8df40d7e" +
		"6d036c039f93c60271b99adecb0105ebb49ce903046c02fa80a2940568bbd1eacd0e786d7b0100")
	serviceTable = mustHex("4449444c066c02fa80a2940568bbd1eacd0e786c01ebb49ce903006c01d888abb90a78" +
		"6b04cdc2dabb047fc9c68ea0057fd7aba29c0a7f999dafab0d7f6c01c49ff4e40f036b04fdbd95cc0101bfd397b409028ff2d1ef0a049eb7f0ad0b020105")
)

func resultOk() []byte { return append(resultTable[:len(resultTable):len(resultTable)], 0) }

func resultErr(text string) []byte {
	return appendCandidText(append(resultTable[:len(resultTable):len(resultTable)], 1), text)
}

func appendCandidText(dst []byte, s string) []byte {
	return append(appendLEB(dst, uint64(len(s))), s...)
}

func appendCandidBlob(dst, b []byte) []byte {
	return append(appendLEB(dst, uint64(len(b))), b...)
}

func appendCandidKey(dst []byte, k verify.ClientKey) []byte {
	raw := k.Principal.Bytes()
	dst = append(dst, 1, byte(len(raw)))
	return binary.LittleEndian.AppendUint64(append(dst, raw...), k.Nonce)
}

// Service messages. The variant index is the place in the order of the field
// hashes: OpenMessage 0, KeepAliveMessage 1, CloseMessage 2, AckMessage 3.

func appendOpenMessage(dst []byte, k verify.ClientKey) []byte {
	return appendCandidKey(append(append(dst, serviceTable...), 0), k)
}

func appendAckMessage(dst []byte, last uint64) []byte {
	return binary.LittleEndian.AppendUint64(append(append(dst, serviceTable...), 3), last)
}

// closeReasons by the order of their field hashes.
var closeReasons = map[string]byte{
	"ClosedByApplication":   0,
	"InvalidServiceMessage": 1,
	"WrongSequenceNumber":   2,
	"KeepAliveTimeout":      3,
}

func appendCloseMessage(dst []byte, reason string) []byte {
	return append(append(dst, serviceTable...), 2, closeReasons[reason])
}

// appendContent writes the certified content: CBOR of a WebsocketMessage, in
// the order of the CDK's struct, tagged by Rust and untagged by Motoko.
func (c *CDK) appendContent(dst []byte, cl *cdkClient, timestamp uint64, service bool, payload []byte) []byte {
	if !c.o.Motoko {
		dst = append(dst, selfDescribe...)
	}
	return appendMessageContent(dst, cl.key, cl.outgoing, timestamp, service, payload)
}

func appendMessageContent(dst []byte, key verify.ClientKey, sequence, timestamp uint64, service bool, payload []byte) []byte {
	dst = appendMap(dst, 5)
	dst = appendMap(appendText(dst, "client_key"), 2)
	dst = appendBytes(appendText(dst, "client_principal"), key.Principal.Bytes())
	dst = appendUint(appendText(dst, "client_nonce"), key.Nonce)
	dst = appendUint(appendText(dst, "sequence_num"), sequence)
	dst = appendUint(appendText(dst, "timestamp"), timestamp)
	dst = appendText(dst, "is_service_message")
	if service {
		dst = append(dst, 0xf5)
	} else {
		dst = append(dst, 0xf4)
	}
	return appendBytes(appendText(dst, "content"), payload)
}

// readContent reads what appendMessageContent wrote.
func readContent(b []byte) (m verify.WebsocketMessage, err error) {
	var c struct {
		Client struct {
			Principal []byte `cbor:"client_principal"`
			Nonce     uint64 `cbor:"client_nonce"`
		} `cbor:"client_key"`
		Sequence  uint64 `cbor:"sequence_num"`
		Timestamp uint64 `cbor:"timestamp"`
		Service   bool   `cbor:"is_service_message"`
		Content   []byte `cbor:"content"`
	}
	if err := envelopeMode.Unmarshal(b, &c); err != nil {
		return m, err
	}
	m = verify.WebsocketMessage{Sequence: c.Sequence, Timestamp: c.Timestamp, Service: c.Service, Content: c.Content}
	m.Client.Nonce = c.Client.Nonce
	m.Client.Principal, err = verify.PrincipalFromBytes(c.Client.Principal)
	return m, err
}

// page is a reply of ws_get_messages.
type page struct {
	messages     []cdkMessage
	cert, tree   []byte
	endOfQueue   bool
	noEndOfQueue bool // the old interface
	motoko       bool
}

func (p *page) appendCandid(dst []byte) []byte {
	size := len(pageTable) + len(p.cert) + len(p.tree) + 32
	for _, m := range p.messages {
		size += len(m.key) + len(m.content) + 64
	}
	dst = slices.Grow(dst, size) // at once: replies are up to 3 MiB
	switch {
	case p.noEndOfQueue:
		dst = append(dst, oldPageTable...)
	case p.motoko:
		dst = append(dst, motokoPageTable...)
	default:
		dst = append(dst, pageTable...)
	}
	dst = append(dst, 0) // Ok
	dst = appendLEB(dst, uint64(len(p.messages)))
	for _, m := range p.messages {
		dst = appendCandidText(dst, m.key)
		dst = appendCandidBlob(dst, m.content)
		dst = appendCandidKey(dst, m.client)
	}
	dst = appendCandidBlob(dst, p.cert)
	dst = appendCandidBlob(dst, p.tree)
	if p.noEndOfQueue {
		return dst
	}
	if p.endOfQueue {
		return append(dst, 1)
	}
	return append(dst, 0)
}
