//go:build !long

package relay_test

const longRun = false
