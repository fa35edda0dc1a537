// Package queue decides what the answers to polls of one canister mean.
//
// A canister keeps one queue of messages for the gateway. Each has a nonce, which grows by one, and the time at which it was
// made; both are certified, and in one queue they grow together. A page is a run of messages. What a page shows is proven.
// What it leaves out is not: the canister may have deleted it, the node may lag, or somebody on the way may hide it.
//
// A [Queue] is asked what to poll for next, and is told what came back. It says what to do with that: hand out messages, ask
// another host, go back, follow a queue that began anew, skip what cannot be had, or give up. It does nothing by itself: no
// network, no clock (the time is an argument), no lock. Whoever uses it carries the decisions out.
//
// Where to find what:
//
//	queue.go     questions, answers, decisions: Queue and its Step
//	position.go  where it stands, and what contradicts that
//	doubt.go     gaps and messages that cannot be used: one host is not believed
//	reset.go     has the queue begun anew? The looks at its beginning and at its newest message
//	install.go   the same, told by the time at which the canister's program was put in place
//	head.go      the start: messages of an earlier run are passed over
//	oversize.go  a page that cannot be had, and the search for the next one that can
//	failing.go   polls that bring nothing, and when to give up
package queue
