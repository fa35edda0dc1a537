// Package relay is the IC WebSocket gateway itself, without Caddy.
//
// A [Gateway] takes WebSocket connections that somebody else has upgraded ([Gateway.Reserve], [Ticket.Serve]), relays
// the signed envelopes of each client to its canister, one after the other, polls each canister for certified
// messages, and delivers to every client its own.
//
// The way of one message, with the file to open:
//
//	client frame -> session_read.go -> admission.go -> inbox.go -> submit.go -> upstream.go -> the IC
//	the IC -> poller.go -> page.go -> order.go -> outbox.go -> session_write.go -> client
//
// What may be wrong with a client, a canister or a network, and what its clients are told, is in closereason.go and
// outcome.go.
package relay
