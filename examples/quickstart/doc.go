// Command quickstart shows the whole of caddy-icws in one process: an embedded local Internet Computer with a canister
// that follows the IC WebSocket CDK, a real Caddy that serves https://localhost:8443 with the icws handler, and a client
// that opens a session over wss and verifies every message.
//
//	go run ./examples/quickstart
//
// It trusts Caddy's internal certificate authority for its own connection only; nothing is added to the system's trust
// store, and everything that is stored goes to a temporary directory. It stays up until it is interrupted; then Caddy
// drains the sessions and the process ends with exit code 0.
package main
