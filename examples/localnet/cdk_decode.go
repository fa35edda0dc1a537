package localnet

import (
	"errors"

	"github.com/icws-gateway/caddy-icws/examples/localnet/candid"
	"github.com/icws-gateway/caddy-icws/verify"
)

// The arguments of the canister's methods.

func readPollArg(arg []byte) (nonce uint64, err error) {
	v, err := candid.Read(arg)
	if err != nil {
		return 0, err
	}
	return candid.Field[uint64](v, "nonce")
}

func readOpenArg(arg []byte) (nonce uint64, gateway verify.Principal, err error) {
	v, err := candid.Read(arg)
	if err != nil {
		return 0, gateway, err
	}
	nonce, err = candid.Field[uint64](v, "client_nonce")
	gateway, err2 := candid.Field[verify.Principal](v, "gateway_principal")
	return nonce, gateway, errors.Join(err, err2)
}

func readCloseArg(arg []byte) (verify.ClientKey, error) {
	v, err := candid.Read(arg)
	if err != nil {
		return verify.ClientKey{}, err
	}
	return readClientKey(v)
}

// readClientKey reads the field client_key of a record.
func readClientKey(v any) (k verify.ClientKey, err error) {
	key, err := candid.Field[candid.Record](v, "client_key")
	if err != nil {
		return k, err
	}
	k.Principal, err = candid.Field[verify.Principal](key, "client_principal")
	var err2 error
	k.Nonce, err2 = candid.Field[uint64](key, "client_nonce")
	return k, errors.Join(err, err2)
}

// readMessageArg reads the argument of ws_message. The content is part of it.
func readMessageArg(arg []byte) (m verify.WebsocketMessage, err error) {
	v, err := candid.Read(arg)
	if err != nil {
		return m, err
	}
	msg, err := candid.Field[candid.Record](v, "msg")
	if err != nil {
		return m, err
	}
	var errs [5]error
	m.Client, errs[0] = readClientKey(msg)
	m.Sequence, errs[1] = candid.Field[uint64](msg, "sequence_num")
	m.Timestamp, errs[2] = candid.Field[uint64](msg, "timestamp")
	m.Service, errs[3] = candid.Field[bool](msg, "is_service_message")
	m.Content, errs[4] = candid.Field[[]byte](msg, "content")
	return m, errors.Join(errs[:]...)
}

// readKeepAlive tells whether a service message of a client is a
// KeepAliveMessage, the only one that clients may send. An error means that it
// is no service message at all.
func readKeepAlive(content []byte) (bool, error) {
	v, err := candid.Read(content)
	if err != nil {
		return false, err
	}
	m, ok := v.(candid.Variant)
	if !ok {
		return false, candid.ErrUnexpected
	}
	switch m.ID {
	case candid.ID("KeepAliveMessage"):
		_, err := candid.Field[uint64](m.Value, "last_incoming_sequence_num")
		return true, err
	case candid.ID("OpenMessage"), candid.ID("AckMessage"), candid.ID("CloseMessage"):
		return false, nil
	}
	return false, candid.ErrUnexpected
}
