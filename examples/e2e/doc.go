// Package e2e runs the client that users have, ic-websocket-js as published on
// npm, and the TypeScript client of examples/client, against a real Caddy over
// wss. Its tests need Node.js, some of them Chromium and compiled canisters, and
// are behind the build tag e2e:
//
//	go test -tags e2e ./examples/e2e
//
// TestSDKMatrix has the versions of it. One more is a line in matrix/pairs.json,
// its packages in matrix/package.json under names that end in their versions,
// npm install --package-lock-only in that directory, and the row that
// TestCompatibilityTable of package examples then prints for the README.
//
// TestScenarios runs the table in scenarios.mjs, each line in Node.js and in a
// page. What happens to the gateways meanwhile is in scenarios_test.go, and what
// a gateway may do to frames in liar_test.go.
package e2e
