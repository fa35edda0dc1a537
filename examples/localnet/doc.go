// Package localnet is an Internet Computer in one process, for development and
// tests: an HTTP interface as boundary nodes have it, with real BLS
// certificates under a root key of its own, subnet delegations, node
// signatures, strict checks of every envelope, and canisters that are Go
// values. One of them, CDK, keeps the rules of the IC WebSocket CDK 0.4.
//
// A Network needs no socket: Network.RoundTripper answers requests in process
// and works inside testing/synctest bubbles. Network.Start serves real HTTP;
// each call adds one more boundary node of the same network. SetFaults makes
// requests fail in every way that a network can, and Attacks makes canisters
// and boundary nodes lie.
//
// It is a counterpart for tests, not a replica: one process holds all keys and
// consensus is a mutex.
package localnet
