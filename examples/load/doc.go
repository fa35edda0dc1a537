// Command load puts an IC WebSocket gateway under load with clients that verify everything, and reports what they saw.
//
//	go run ./examples/load [run]     messages at a rate, sessions that come and go
//	go run ./examples/load chaos     faults of the network, upgrades, clients that stall and vanish
//	go run ./examples/load soak      run with churn for a long time; heap and goroutines must stay flat
//	go run ./examples/load headofline    what clients that never read cost the others
//	go run ./examples/load scale     many sessions over TLS, idle, talking, through a reload and a restart
//	go run ./examples/load bench     what each kind of work costs
//
// Without -url everything runs in this process: an embedded local network, an echoing canister that follows the CDK
// rules, the gateway and the clients. With -url and -canister the clients go to a gateway elsewhere; its canister must
// send every message back to its sender unchanged.
//
// scale and bench measure a Caddy with the gateway in a process of its own, beside a bare WebSocket server that does the same
// work without proofs. They build both, from the directories caddy and bare.
//
// Every message carries the number of its session and its own, so that one that is lost, repeated, out of order or
// somebody else's is found. The exit code is 1 if there was one, or if a session ended for no good reason.
package main
