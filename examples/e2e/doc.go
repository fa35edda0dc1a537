// Package e2e runs the client that users have, ic-websocket-js as published on
// npm, against a real Caddy over wss. Its tests need Node.js and are behind the
// build tag e2e:
//
//	go test -tags e2e ./examples/e2e
package e2e
