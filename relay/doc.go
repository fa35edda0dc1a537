// Package relay is the IC WebSocket gateway itself, without Caddy.
//
// A [Gateway] takes WebSocket connections that somebody else has upgraded ([Gateway.Reserve], [Ticket.Serve]), relays
// the signed envelopes of each client to its canister, one after the other, polls each canister for certified
// messages, and delivers to every client its own.
//
// The way of one message, with the file to open:
//
//	client frame -> session_read.go -> session_admit.go -> session_submit.go -> session_attempt.go -> submission.go -> internal/upstream -> the IC
//	the IC -> internal/upstream -> poll.go -> internal/queue -> decision.go -> canister.go -> session_receive.go -> session_write.go -> client
//
// What a page of a canister's queue means is decided in internal/queue: order, gaps, queues that began anew, what cannot be
// had, when to give up. poller.go says when to poll, poll.go makes one poll and verifies what comes, and decision.go carries out
// what the queue decides. What one boundary node says without proof is weighed in internal/quorum.
//
// Beside that way: orphans.go closes what a crash left behind, peers.go knows the other gateways of the process. session_life.go
// is how a session opens and ends, lifecycle.go how it stands at its canister meanwhile, closer.go tells canisters of clients
// that have gone, sweep.go and session_check.go keep the deadlines.
//
// Where and when requests go to the network, and what the network's refusals mean, is decided in internal/upstream.
//
// What may be wrong with a client, a canister or a network, and what its clients are told, is in closereason.go,
// refusal.go and outcome.go.
package relay
