package caddymodule

import (
	"crypto/tls"
	"net"
	"reflect"
	"unsafe"
)

// detachedTLS is what a detached connection refers to in place of the configuration it was accepted with. A server uses
// two settings of it once the handshake is over: the source of randomness, which TLS 1.3 and AEAD suites do not even read,
// and DynamicRecordSizingDisabled.
var detachedTLS = new(tls.Config)

// detachTLS makes a hijacked TLS connection forget its tls.Config. Caddy's leads, by way of the closures that choose
// certificates, to the whole configuration of the server. A session may outlive many configurations, and each of them
// would stay in memory until the last session that it accepted has ended.
//
// crypto/tls has no way to ask for this, so the field is replaced behind its back; should a version of Go have no such
// field, nothing happens but that memory is held for longer. The caller must be the only user of the connection.
func detachTLS(conn net.Conn) {
	secure, ok := conn.(*tls.Conn)
	if !ok || !secure.ConnectionState().HandshakeComplete {
		return
	}
	field := reflect.ValueOf(secure).Elem().FieldByName("config")
	if !field.IsValid() || field.Type() != reflect.TypeFor[*tls.Config]() || field.IsNil() {
		return
	}
	config := (**tls.Config)(unsafe.Pointer(field.UnsafeAddr()))
	if (*config).Rand != nil || (*config).DynamicRecordSizingDisabled {
		return // settings that still matter
	}
	*config = detachedTLS
}
