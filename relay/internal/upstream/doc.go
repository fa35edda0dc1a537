// Package upstream is the gateway's way to the Internet Computer. Everything that goes to the network goes through a
// [Network]: client envelopes, polls, and what the gateway itself has to read.
//
// It decides which host gets a request and when, and what an answer means as long as no canister is concerned:
//
//   - do.go sends a request to the best host and then to others; hedge.go also sends it to a second one where the first lets it
//     wait; exchange.go is one HTTP exchange.
//   - host.go keeps the health of a host, latency.go how long it takes; settle.go is where an answer is found good or bad.
//   - pick.go chooses a host, pool.go lists them, discovery.go finds more.
//   - budget.go keeps upstream_rate and upstream_call_rate, and shares them fairly.
//   - versions.go knows the versions of the endpoints, refusal.go reads what the network refuses.
//   - own.go signs and sends the gateway's own requests.
//   - rootkey.go, nodes.go, delegation.go with delegation_read.go, and install.go read what verification needs: the root key, the keys of nodes, a
//     delegation that deployed clients understand, and when a canister's program was put in place. shared.go has one of them
//     read once for all who wait.
//
// It knows no session and no queue.
package upstream
