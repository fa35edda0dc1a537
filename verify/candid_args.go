package verify

import "encoding/binary"

// Candid hashes the names of fields to 32-bit ids (h = h*223 + byte). These are the ids of the canister kit's interface.
const (
	idOk                      = 17724
	idErr                     = 3456837
	idKey                     = 5343647
	idMsg                     = 5446209
	idSequenceNum             = 352253448
	idContent                 = 427265337
	idGatewayPrincipal        = 647083891
	idMessages                = 889051340
	idClientKey               = 1025972843
	idCert                    = 1102915300
	idTree                    = 1292081502
	idClientPrincipal         = 1384677498
	idNonce                   = 2680573167
	idTimestamp               = 2781795542
	idLastIncomingSequenceNum = 2804597848
	idIsServiceMessage        = 2815490792
	idIsEndOfQueue            = 3733147138
	idClientNonce             = 3921324219
	idReason                  = 4238151620
)

// The argument types as the JavaScript library encodes them, which is what clients in use send: header, type table
// and argument list. Values follow, in the order of the field ids.
const (
	openArgHead    = "DIDL\x01\x6c\x02\xf3\xee\xc6\xb4\x02\x68\xbb\xd1\xea\xcd\x0e\x78\x01\x00"
	closeArgHead   = "DIDL\x02\x6c\x02\xfa\x80\xa2\x94\x05\x68\xbb\xd1\xea\xcd\x0e\x78\x6c\x01\xeb\xb4\x9c\xe9\x03\x00\x01\x01"
	pollArgHead    = "DIDL\x01\x6c\x01\xef\x99\x99\xfe\x09\x78\x01\x00"
	messageArgHead = "DIDL\x05\x6d\x7b" +
		"\x6c\x02\xfa\x80\xa2\x94\x05\x68\xbb\xd1\xea\xcd\x0e\x78" +
		"\x6c\x05\x88\xec\xfb\xa7\x01\x78\xb9\x9a\xde\xcb\x01\x00\xeb\xb4\x9c\xe9\x03\x01\xd6\xa9\xbb\xae\x0a\x78\xe8\xf5\xc3\xbe\x0a\x7e" +
		"\x6c\x01\xc1\xb4\xcc\x02\x02\x6e\x7f\x02\x03\x04"
)

// WebsocketMessage is one message between a client and its canister, in either direction.
type WebsocketMessage struct {
	// Client is the connection the message belongs to.
	Client ClientKey
	// Sequence counts the messages of one connection and direction, from 1.
	Sequence uint64
	// Timestamp is when the sender made the message, in nanoseconds since 1970. Nobody checks it.
	Timestamp uint64
	// Service marks messages of the protocol itself, whose content DecodeServiceMessage reads.
	Service bool
	// Content is the payload: the application's bytes, or a service message.
	Content []byte
}

// AppendOpenArg appends the argument of ws_open to dst: the nonce a client chose for its connection and the gateway
// it found in the handshake.
func AppendOpenArg(dst []byte, nonce uint64, gateway Principal) []byte {
	dst = append(dst, openArgHead...)
	dst = appendCandidPrincipal(dst, gateway)
	return binary.LittleEndian.AppendUint64(dst, nonce)
}

// DecodeOpenArg reads the argument of ws_open. Unknown fields and further arguments are skipped. Errors have
// CauseMalformed.
func DecodeOpenArg(arg []byte) (nonce uint64, gateway Principal, err error) {
	r, err := openCandid(arg)
	if err != nil {
		return 0, Principal{}, err
	}
	defer r.close()
	fields, err := r.recordArg()
	if err != nil {
		return 0, Principal{}, err
	}
	var hasNonce, hasGateway bool
	for _, f := range fields {
		switch f.id {
		case idClientNonce:
			nonce, err = r.nat64As(f.ref)
			hasNonce = true
		case idGatewayPrincipal:
			err = r.principalAs(f.ref, &gateway)
			hasGateway = true
		default:
			err = r.skip(f.ref)
		}
		if err != nil {
			return 0, Principal{}, err
		}
	}
	if !hasNonce {
		return 0, Principal{}, candidError("argument without client_nonce")
	}
	if !hasGateway {
		return 0, Principal{}, candidError("argument without gateway_principal, the client is older than gateways of this kind")
	}
	return nonce, gateway, r.end(1)
}

// AppendMessageArg appends the arguments of ws_message to dst: the message, and null for the optional second argument
// that only tells the canister's Candid interface the application's type.
func AppendMessageArg(dst []byte, m *WebsocketMessage) []byte {
	dst = append(dst, messageArgHead...)
	dst = binary.LittleEndian.AppendUint64(dst, m.Sequence)
	dst = binary.AppendUvarint(dst, uint64(len(m.Content)))
	dst = append(dst, m.Content...)
	dst = appendCandidClientKey(dst, m.Client)
	dst = binary.LittleEndian.AppendUint64(dst, m.Timestamp)
	return append(dst, boolByte(m.Service), 0)
}

// DecodeMessageArg reads the arguments of ws_message. The content aliases arg. Unknown fields and all arguments but the
// first are skipped. Errors have CauseMalformed.
func DecodeMessageArg(arg []byte) (*WebsocketMessage, error) {
	m := new(WebsocketMessage)
	err := onlyArg(arg, idMsg, "argument without msg", func(r *candidReader, ref int32) error { return r.websocketMessage(ref, m) })
	if err != nil {
		return nil, err
	}
	return m, nil
}

// websocketMessage reads a record of the type WebsocketMessage.
func (r *candidReader) websocketMessage(ref int32, m *WebsocketMessage) error {
	t := r.typeOf(ref)
	if t.kind != candidRecord {
		return candidError("msg is not a record")
	}
	var err error
	var found [5]bool
	for _, f := range r.fieldsOf(t) {
		switch f.id {
		case idSequenceNum:
			m.Sequence, err = r.nat64As(f.ref)
			found[0] = true
		case idContent:
			m.Content, err = r.blobAs(f.ref)
			found[1] = true
		case idClientKey:
			err = r.clientKeyAs(f.ref, &m.Client)
			found[2] = true
		case idTimestamp:
			m.Timestamp, err = r.nat64As(f.ref)
			found[3] = true
		case idIsServiceMessage:
			m.Service, err = r.booleanAs(f.ref)
			found[4] = true
		default:
			err = r.skip(f.ref)
		}
		if err != nil {
			return err
		}
	}
	if found != [5]bool{true, true, true, true, true} {
		return candidError("msg lacks a field")
	}
	return nil
}

// AppendCloseArg appends the argument of ws_close to dst.
func AppendCloseArg(dst []byte, k ClientKey) []byte {
	return appendCandidClientKey(append(dst, closeArgHead...), k)
}

// DecodeCloseArg reads the argument of ws_close. Errors have CauseMalformed.
func DecodeCloseArg(arg []byte) (ClientKey, error) {
	var k ClientKey
	err := onlyArg(arg, idClientKey, "argument without client_key", func(r *candidReader, ref int32) error {
		return r.clientKeyAs(ref, &k)
	})
	if err != nil {
		return ClientKey{}, err
	}
	return k, nil
}

// AppendPollArg appends the argument of ws_get_messages to dst: the nonce of the first message wanted.
func AppendPollArg(dst []byte, nonce uint64) []byte {
	return binary.LittleEndian.AppendUint64(append(dst, pollArgHead...), nonce)
}

// DecodePollArg reads the argument of ws_get_messages. Errors have CauseMalformed.
func DecodePollArg(arg []byte) (uint64, error) {
	var nonce uint64
	err := onlyArg(arg, idNonce, "argument without nonce", func(r *candidReader, ref int32) (err error) {
		nonce, err = r.nat64As(ref)
		return err
	})
	if err != nil {
		return 0, err
	}
	return nonce, nil
}

// DecodeResult reads what ws_open, ws_message and ws_close return: variant{Ok; Err: text}. For an Err it returns the
// canister's text, which the canister controls, and false. An err with CauseMalformed is about arg itself.
func DecodeResult(arg []byte) (errText string, ok bool, err error) {
	r, err := openCandid(arg)
	if err != nil {
		return "", false, err
	}
	defer r.close()
	f, err := r.variantArg()
	if err != nil {
		return "", false, err
	}
	switch f.id {
	case idOk:
		err = r.skip(f.ref) // null for the canister kit, anything for a canister that grew
	case idErr:
		errText, err = r.textAs(f.ref)
	default:
		err = candidError("result is neither Ok nor Err")
	}
	if err == nil {
		err = r.end(1)
	}
	if err != nil {
		return "", false, err
	}
	return errText, f.id == idOk, nil
}

// appendCandidPrincipal appends a principal's value.
func appendCandidPrincipal(dst []byte, p Principal) []byte {
	return p.AppendBytes(append(dst, 1, p.n))
}

// appendCandidClientKey appends the value of a client key.
func appendCandidClientKey(dst []byte, k ClientKey) []byte {
	return binary.LittleEndian.AppendUint64(appendCandidPrincipal(dst, k.Principal), k.Nonce)
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}
