// Package upstream is the gateway's way to the Internet Computer. Everything that goes to the network goes through a
// [Network]: client envelopes, polls, and what the gateway itself has to read. It knows no session and no queue.
//
// One request on its way, with the functions to open:
//
//	call.go      Network.Call takes a client's envelope or a ws_close
//	own.go       Network.Query and readState sign what the gateway asks for itself; SignCall signs its calls
//	do.go        do tries one host after the other, and counts how many gave no answer; ask tries the versions of an endpoint
//	budget.go    wait: the request waits for its turn, by upstream_rate or upstream_call_rate
//	pick.go      pick chooses the host, by what host.go and latency.go know of each
//	hedge.go     race: a second host is asked where the first lets the request wait
//	versions.go  order says which version of the endpoint the host is asked for
//	exchange.go  exchange is the HTTP exchange
//	refusal.go   readRefusal says what it means that the network refuses; error.go is the error that carries it
//	settle.go    Good and Bad: whoever verifies the answer says whether it holds, which is the health of the host
//
// What is read beside that, because verification needs it: the root key (rootkey.go), the keys of nodes (nodes.go), a delegation
// that deployed clients understand (delegation.go, delegation_read.go), and when a canister's program was put in place
// (install.go). shared.go has one reading serve all who wait for it.
//
// pool.go lists the hosts, and discovery.go finds more. network.go puts the parts together, metrics.go says what is counted, and
// printable.go makes the words of strangers fit for logs.
package upstream
