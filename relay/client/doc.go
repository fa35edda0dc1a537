// Package client is the client side of the IC WebSocket protocol in Go.
//
// It behaves as the JavaScript SDK ic-websocket-js 0.5.0 does and trusts the gateway no more than that does: every
// envelope is signed here, and every frame that arrives is proven with the root key of the network before anything
// of it is used. On top of what the SDK checks it insists that
//
//   - the key of a frame belongs to the queue of the gateway of the handshake, and nonces only rise,
//   - the first frame is the OpenMessage, and no second one follows,
//   - the certificate can be verified by deployed SDKs too (see [Options.AllowSharded]),
//   - an acknowledgement never names a message that was not sent.
//
// [Dial] opens a session and returns after the verified OpenMessage. [Client.Send] signs and sends one application
// message; [Client.Receive] returns the next verified one. Acknowledgements of the canister are answered inside.
// [DialRaw] gives the connection after the handshake and nothing else: for tools and tests that want to send
// something wrong on purpose.
//
// A session costs one goroutine while it is open, and none after [Client.Close].
package client
