package verify

import "fmt"

// selfDescribeTag is the tag with which CBOR announces itself (RFC 8949, section 3.4.6).
const selfDescribeTag = "\xd9\xd9\xf7"

var errClientKey = fmt.Errorf("%w: client_key lacks a field", ErrMalformed)

// AppendHandshake appends the first frame of a connection to dst, which tells the client the gateway's principal.
func AppendHandshake(dst []byte, gateway Principal) []byte {
	dst = append(dst, selfDescribeTag...)
	dst = appendCBORHead(dst, cborMap, 1)
	dst = appendCBORText(dst, "gateway_principal")
	return appendCBORPrincipal(dst, gateway)
}

// ParseHandshake reads the first frame of a connection, with or without the self-describe tag. Unknown keys are
// skipped. The error has CauseMalformed; the management canister (no bytes) is refused too, as clients in use do.
func ParseHandshake(frame []byte) (Principal, error) {
	c := cborReader{buf: frame}
	c.selfDescribe()
	var gateway Principal
	f := c.fields()
	for f.next() {
		if string(f.key) == "gateway_principal" {
			gateway = c.principal()
		} else {
			c.skip()
		}
	}
	if err := c.done(); err != nil {
		return Principal{}, failWith(CauseMalformed, "decoding handshake", err)
	}
	if gateway == (Principal{}) {
		return Principal{}, failWith(CauseMalformed, "decoding handshake: no gateway_principal", ErrMalformed)
	}
	return gateway, nil
}
