// Package relay is the IC WebSocket gateway itself, without Caddy.
//
// A [Gateway] takes WebSocket connections that somebody else has upgraded ([Gateway.Reserve], [Ticket.Serve]), relays
// the signed envelopes of each client to its canister, one after the other, polls each canister for certified
// messages, and delivers to every client its own.
//
// # One message up
//
//	session_read.go     read, readMessage: a frame arrives, piece by piece
//	arrival.go          keep, lend: a large one waits for memory
//	session_admit.go    handleFrame: is it an envelope, is its sender proven? The first one must be a ws_open (admit), which
//	                    registers the session at its canister; the others are ws_message (checkMessage)
//	inbox.go            takes, push: it waits behind the client's earlier ones
//	session_submit.go   relay takes it out, submitOne sees it through
//	session_attempt.go  submitUntilOutcome: attempts, until the outcome is known or the envelope has expired
//	submission.go       attempt, post: one attempt; the certificate of the outcome is verified
//	internal/upstream   Network.Call: the network, see its documentation
//	outcome.go          repliedAttempt, rejectedAttempt, failedAttempt: what the answer means for the session
//	refusal.go          closingForRefusal: what clients are told where the network refuses
//
// An outcome that is not good ends the session, for one of the reasons in closereason.go.
//
// # One message down
//
//	poller.go           loop, tick: when to poll; startPoll begins a poll
//	poll.go             runPoll, fetch, read: one poll, whose answer is verified
//	internal/upstream   Network.Query: the network; Delegation.Fit: a certificate that the client can read
//	decision.go         finishPoll: carries out what the queue decides
//	internal/queue      Queue.Step: decides what the page means
//	canister.go         receive: whose message is it?
//	session_receive.go  expect: is it the next one of its client?
//	frame.go            newFrame: the WebSocket frame that is made of it
//	outbox.go           push: it waits for the client
//	session_write.go    send, write, writeBatch: it goes to the client; handout.go has who does so
//
// # Where other things are decided
//
//   - The life of a session: session.go has its state and begins it, session_life.go opens and ends it, and lifecycle.go is the
//     table of how it stands at its canister. Its deadlines are in session_check.go, which sweep.go calls.
//   - What its canister still has to hear after that: departing.go lets what was sent go out, and closer.go sends ws_close.
//   - A canister keeps one session of a principal: turns.go sends its ws_open and ws_close calls one after the other, replaced.go finds
//     the session that another has replaced, and ack_round.go those that the canister removed without a message.
//   - Clients that a crash left behind at a canister: orphans.go. peers.go knows the clients of other gateways of the process.
//   - Whether a session may begin, and the end of all: gateway.go, drain.go. openlog.go refuses a ws_open that was used before, and
//     layout.go reads what a client says of itself.
//   - What makes the next poll come earlier: demand.go, and foresight.go before the outcome is known.
//   - What boundary nodes say without proof, and when it is believed: internal/quorum. How long to wait before another attempt:
//     internal/pause.
//   - Settings: config.go. What people see: snapshot.go, metrics.go, tracer.go, and sampler.go for the log. upgrader.go has
//     settings for WebSocket upgrades.
package relay
