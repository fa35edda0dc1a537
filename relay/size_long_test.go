//go:build long

package relay_test

// longRun says that tests of any size run at their full one: go test -tags long.
const longRun = true
