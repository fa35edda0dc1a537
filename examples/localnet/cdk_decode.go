package localnet

import (
	"errors"

	"github.com/icws-gateway/caddy-icws/verify"
)

// The arguments of the canister's methods.

// wsMessage is the WebsocketMessage of the CDK.
type wsMessage struct {
	client              verify.ClientKey
	sequence, timestamp uint64
	service             bool
	content             []byte // part of the argument
}

func readPollArg(arg []byte) (nonce uint64, err error) {
	v, err := readCandid(arg)
	if err != nil {
		return 0, err
	}
	return field[uint64](v, "nonce")
}

func readOpenArg(arg []byte) (nonce uint64, gateway verify.Principal, err error) {
	v, err := readCandid(arg)
	if err != nil {
		return 0, gateway, err
	}
	nonce, err = field[uint64](v, "client_nonce")
	gateway, err2 := field[verify.Principal](v, "gateway_principal")
	return nonce, gateway, errors.Join(err, err2)
}

func readCloseArg(arg []byte) (verify.ClientKey, error) {
	v, err := readCandid(arg)
	if err != nil {
		return verify.ClientKey{}, err
	}
	return readClientKey(v)
}

// readClientKey reads the field client_key of a record.
func readClientKey(v any) (k verify.ClientKey, err error) {
	key, err := field[record](v, "client_key")
	if err != nil {
		return k, err
	}
	k.Principal, err = field[verify.Principal](key, "client_principal")
	var err2 error
	k.Nonce, err2 = field[uint64](key, "client_nonce")
	return k, errors.Join(err, err2)
}

func readMessageArg(arg []byte) (m wsMessage, err error) {
	v, err := readCandid(arg)
	if err != nil {
		return m, err
	}
	msg, err := field[record](v, "msg")
	if err != nil {
		return m, err
	}
	var errs [5]error
	m.client, errs[0] = readClientKey(msg)
	m.sequence, errs[1] = field[uint64](msg, "sequence_num")
	m.timestamp, errs[2] = field[uint64](msg, "timestamp")
	m.service, errs[3] = field[bool](msg, "is_service_message")
	m.content, errs[4] = field[[]byte](msg, "content")
	return m, errors.Join(errs[:]...)
}

// readKeepAlive tells whether a service message of a client is a
// KeepAliveMessage, the only one that clients may send. An error means that it
// is no service message at all.
func readKeepAlive(content []byte) (bool, error) {
	v, err := readCandid(content)
	if err != nil {
		return false, err
	}
	m, ok := v.(variant)
	if !ok {
		return false, errCandid
	}
	switch m.id {
	case fieldID("KeepAliveMessage"):
		_, err := field[uint64](m.value, "last_incoming_sequence_num")
		return true, err
	case fieldID("OpenMessage"), fieldID("AckMessage"), fieldID("CloseMessage"):
		return false, nil
	}
	return false, errCandid
}
