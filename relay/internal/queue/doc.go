// Package queue decides what the answers to polls of one canister mean.
//
// A canister keeps one queue of messages for the gateway. Each has a nonce, which grows by one, and the time at which it was
// made; both are certified, and in one queue they grow together. A page is a run of messages. What a page shows is proven.
// What it leaves out is not: the canister may have deleted it, the node may lag, or somebody on the way may hide it.
//
// A [Queue] is asked what to poll for next ([Queue.Next], [Queue.Check]), and is told what came back ([Queue.Step]). It says what
// to do with that: hand out messages, ask another host, go back, follow a queue that began anew, skip what cannot be had, or give
// up. It does nothing by itself: no network, no clock (the time is an argument), no lock. Whoever uses it carries the decisions
// out.
//
// Step leads an answer to the function for the question that was asked:
//
//	queue.go     page: messages at the position. Questions, answers and decisions are there as well
//	position.go  where the queue stands, and which pages contradict that
//	doubt.go     gapBelieved, poisonBelieved: gaps and messages that cannot be used; one host is not believed
//	head.go      headAnswer: the start, where messages of an earlier run are passed over
//	reset.go     beginningAnswer, newestAnswer: has the queue begun anew?
//	install.go   the same, told by the time at which the canister's program was put in place
//	oversize.go  pastAnswer: a page that cannot be had, and the search for the next one that can
//	failing.go   failure: polls that bring nothing, and when to give up
//
// Who is believed without proof is decided in package quorum.
package queue
