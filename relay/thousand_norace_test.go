//go:build !race

package relay_test

// manyClients is for TestThousandClients.
const manyClients = 1000
