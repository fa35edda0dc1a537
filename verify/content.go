package verify

// ParseContent reads the CBOR of a WebsocketMessage as canisters certify it, with the self-describe tag (the Rust kit)
// or without (the Motoko kit). Content aliases b. Unknown keys are skipped; a missing or repeated one, bytes after the
// message, and what decoders in use misread are errors with CauseMalformed.
func ParseContent(b []byte) (WebsocketMessage, error) {
	c := cborReader{buf: b, form: portableForm}
	c.selfDescribe()
	var m WebsocketMessage
	var found [5]bool
	f := c.fields()
	for f.next() {
		switch string(f.key) {
		case "client_key":
			m.Client = c.clientKey()
			found[0] = true
		case "sequence_num":
			m.Sequence = c.uint()
			found[1] = true
		case "timestamp":
			m.Timestamp = c.uint()
			found[2] = true
		case "is_service_message":
			m.Service = c.bool()
			found[3] = true
		case "content":
			m.Content = c.bytes()
			found[4] = true
		default:
			c.skip()
		}
	}
	if err := c.done(); err != nil {
		return WebsocketMessage{}, failWith(CauseMalformed, "decoding message content", err)
	}
	if found != [5]bool{true, true, true, true, true} {
		return WebsocketMessage{}, failWith(CauseMalformed, "decoding message content: a field is missing", ErrMalformed)
	}
	return m, nil
}

// clientKey reads a map {client_principal, client_nonce}.
func (c *cborReader) clientKey() ClientKey {
	var k ClientKey
	var hasPrincipal, hasNonce bool
	f := c.fields()
	for f.next() {
		switch string(f.key) {
		case "client_principal":
			k.Principal = c.principal()
			hasPrincipal = true
		case "client_nonce":
			k.Nonce = c.uint()
			hasNonce = true
		default:
			c.skip()
		}
	}
	if !hasPrincipal || !hasNonce {
		c.fail(errClientKey)
	}
	return k
}

// AppendContent appends the CBOR of m to dst in the form of the Rust canister kit: tagged, integers as short as they go.
func AppendContent(dst []byte, m *WebsocketMessage) []byte {
	dst = append(dst, selfDescribeTag...)
	dst = appendCBORHead(dst, cborMap, 5)
	dst = appendCBORText(dst, "client_key")
	dst = appendCBORHead(dst, cborMap, 2)
	dst = appendCBORText(dst, "client_principal")
	dst = appendCBORPrincipal(dst, m.Client.Principal)
	dst = appendCBORText(dst, "client_nonce")
	dst = appendCBORHead(dst, cborUint, m.Client.Nonce)
	dst = appendCBORText(dst, "sequence_num")
	dst = appendCBORHead(dst, cborUint, m.Sequence)
	dst = appendCBORText(dst, "timestamp")
	dst = appendCBORHead(dst, cborUint, m.Timestamp)
	dst = appendCBORText(dst, "is_service_message")
	dst = append(dst, 0xf4+boolByte(m.Service))
	dst = appendCBORText(dst, "content")
	return appendCBORBytes(dst, m.Content)
}

// appendCBORPrincipal appends a principal as a byte string.
func appendCBORPrincipal(dst []byte, p Principal) []byte {
	return p.AppendBytes(appendCBORHead(dst, cborBytes, uint64(p.n)))
}
