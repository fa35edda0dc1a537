// Package opinion asks others whether we are right. Its test makes certificates, pages, frames and envelopes, good ones
// and ones with one thing wrong or odd, and has each judged by package verify and by what users and the network have: the
// published IC WebSocket SDK with the agent in it, the agents of newer front ends, agent-go, and the network's own Rust
// crates. What they are told is the same bytes and the same time.
//
// Four rules hold, but for the differences listed with their reasons in differences_test.go:
//   - what the gateway would deliver is accepted by the SDK, and by newer agents;
//   - what the network accepts from a client is not refused here;
//   - the client of examples/client and the SDK end sessions alike, or accept alike, whatever they are sent; the differences
//     that are meant are listed in client_test.go;
//   - a certificate that is accepted here is accepted by ic-certificate-verification, which has the same bounds of time.
//
// It needs Node.js and Cargo and is behind the build tag e2e:
//
//	go test -tags e2e ./examples/opinion
//
// With the build tag long as well, TestClientAgrees leaves out no byte of the frames that it corrupts: that takes minutes.
//
// ICWS_OPINION_SEED and ICWS_OPINION_N select other cases and their number. A case that breaks a rule prints both.
package opinion
