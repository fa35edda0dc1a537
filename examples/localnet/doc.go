// Package localnet is an Internet Computer in one process, for development and
// tests: an HTTP interface as boundary nodes have it, with real BLS
// certificates under a root key of its own, subnet delegations, node
// signatures, strict checks of every envelope, and canisters that are Go
// values. One of them, CDK, keeps the rules of the IC WebSocket CDK 0.4.
//
// A Network needs no socket: Network.RoundTripper answers requests in process,
// whatever host they name, and works inside testing/synctest bubbles.
// Network.Start serves real HTTP; each call adds one more boundary node of the
// same network. SetFaults makes requests fail in every way that a network can,
// with the words of those who fail (BoundaryError, GatewayError), and Attacks
// makes canisters and boundary nodes lie. SetBoundaryNodes lists hosts in
// certified state.
//
// Canisters may call the management canister, which here has the methods of
// vetKD: a canister that is a Go value with Env.Call or AppContext.Call, a
// compiled one as it would on the IC. Other messages run between a call and its
// answer, which comes after Options.Latency. Each network has master keys of its
// own under the names dfx_test_key, test_key_1 and key_1, see
// Network.VetKDPublicKey; package vetkd has what clients do with keys. As on
// the IC, a key that is asked for with the identity as the transport key is
// handed out unencrypted: a canister has to refuse that transport key.
//
// What it writes has the form of what the real network writes: key order, maps
// of indefinite length, headers, statuses and texts are held against recorded
// answers by TestShapes. By default the hosts are HTTP gateways such as
// icp-api.io; Options.Direct makes them boundary nodes that are asked
// themselves. Options.Definite makes query answers maps of definite length, as
// older replicas wrote them; the environment variable
// ICWS_LOCALNET_FORM=definite does the same for every network of a run, so
// that all tests can be run in either form:
//
//	go test ./...
//	ICWS_LOCALNET_FORM=definite go test ./...
//
// It is a counterpart for tests, not a replica: one process holds all keys and
// consensus is a mutex. It reads requests with code of its own and not with
// that of package verify, of which it uses principals and names of causes.
package localnet
