package verify

import "encoding/binary"

// ServiceKind names the variants of a service message.
type ServiceKind string

// The service messages: three that canisters send, and KeepAliveMessage, with which clients answer an AckMessage.
const (
	ServiceOpen      ServiceKind = "OpenMessage"
	ServiceAck       ServiceKind = "AckMessage"
	ServiceKeepAlive ServiceKind = "KeepAliveMessage"
	ServiceClose     ServiceKind = "CloseMessage"
)

// Reasons of a CloseMessage.
const (
	ReasonWrongSequenceNumber   = "WrongSequenceNumber"
	ReasonInvalidServiceMessage = "InvalidServiceMessage"
	ReasonKeepAliveTimeout      = "KeepAliveTimeout"
	ReasonClosedByApplication   = "ClosedByApplication"
	// ReasonUnknown stands for a reason that later versions of the canister kit may add.
	ReasonUnknown = "unknown"
)

const (
	idOpenMessage           = 428171005
	idKeepAliveMessage      = 2525358527
	idCloseMessage          = 2918480143
	idAckMessage            = 3049003934
	idClosedByApplication   = 1198956877
	idInvalidServiceMessage = 1409524553
	idWrongSequenceNumber   = 2743637463
	idKeepAliveTimeout      = 3580612249
)

// keepAliveHead is the type of service messages as the JavaScript library encodes it, with the variant index of
// KeepAliveMessage.
const keepAliveHead = "DIDL\x06\x6c\x02\xfa\x80\xa2\x94\x05\x68\xbb\xd1\xea\xcd\x0e\x78" +
	"\x6c\x01\xeb\xb4\x9c\xe9\x03\x00" +
	"\x6c\x01\xd8\x88\xab\xb9\x0a\x78" +
	"\x6b\x04\xcd\xc2\xda\xbb\x04\x7f\xc9\xc6\x8e\xa0\x05\x7f\xd7\xab\xa2\x9c\x0a\x7f\x99\x9d\xaf\xab\x0d\x7f" +
	"\x6c\x01\xc4\x9f\xf4\xe4\x0f\x03" +
	"\x6b\x04\xfd\xbd\x95\xcc\x01\x01\xbf\xd3\x97\xb4\x09\x02\x8f\xf2\xd1\xef\x0a\x04\x9e\xb7\xf0\xad\x0b\x02" +
	"\x01\x05\x01"

// ServiceMessage is a message of the protocol itself, the content of a WebsocketMessage whose Service flag is set.
type ServiceMessage struct {
	// Kind tells which of the fields below has a meaning.
	Kind ServiceKind
	// Client is the opened connection, of an OpenMessage.
	Client ClientKey
	// LastIncoming is the last sequence number received, of an AckMessage or KeepAliveMessage.
	LastIncoming uint64
	// Reason is why the canister closed the connection, of a CloseMessage: one of the Reason constants.
	Reason string
}

// DecodeServiceMessage reads the content of a service message. Unknown fields are skipped, an unknown kind is an error.
// Errors have CauseMalformed.
func DecodeServiceMessage(b []byte) (ServiceMessage, error) {
	r, err := openCandid(b)
	if err != nil {
		return ServiceMessage{}, err
	}
	defer r.close()
	f, err := r.variantArg()
	if err != nil {
		return ServiceMessage{}, err
	}
	const lacks = "service message lacks its field"
	var m ServiceMessage
	switch f.id {
	case idOpenMessage:
		m.Kind = ServiceOpen
		err = r.onlyField(f.ref, idClientKey, lacks, func(ref int32) error { return r.clientKeyAs(ref, &m.Client) })
	case idAckMessage, idKeepAliveMessage:
		m.Kind = ServiceAck
		if f.id == idKeepAliveMessage {
			m.Kind = ServiceKeepAlive
		}
		err = r.onlyField(f.ref, idLastIncomingSequenceNum, lacks, func(ref int32) (err error) {
			m.LastIncoming, err = r.nat64As(ref)
			return err
		})
	case idCloseMessage:
		m.Kind = ServiceClose
		err = r.onlyField(f.ref, idReason, lacks, func(ref int32) (err error) {
			m.Reason, err = r.closeReason(ref)
			return err
		})
	default:
		err = candidError("service message of an unknown kind")
	}
	if err == nil {
		err = r.end(1)
	}
	if err != nil {
		return ServiceMessage{}, err
	}
	return m, nil
}

func (r *candidReader) closeReason(ref int32) (string, error) {
	f, err := r.variantAs(ref)
	if err != nil {
		return "", err
	}
	reason := ReasonUnknown
	switch f.id {
	case idWrongSequenceNumber:
		reason = ReasonWrongSequenceNumber
	case idInvalidServiceMessage:
		reason = ReasonInvalidServiceMessage
	case idKeepAliveTimeout:
		reason = ReasonKeepAliveTimeout
	case idClosedByApplication:
		reason = ReasonClosedByApplication
	}
	return reason, r.skip(f.ref)
}

// AppendKeepAlive appends a KeepAliveMessage to dst, which answers an AckMessage: last is the sequence number of the last
// message that the client received from the canister.
func AppendKeepAlive(dst []byte, last uint64) []byte {
	return binary.LittleEndian.AppendUint64(append(dst, keepAliveHead...), last)
}
