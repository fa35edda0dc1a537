//go:build race

package relay_test

// manyClients is for TestThousandClients. The race detector makes everything about ten times as dear.
const manyClients = 150
