//go:build e2e && long && unix

package e2e

import (
	"testing"
	"time"
)

// A phone sleeps for two minutes, before a gateway with the usual patience.
func TestTwoMinutesAsleep(t *testing.T) {
	w, rootCert := startScenarios(t, "")
	w.Only, w.asleep = "the phone sleeps", 2*time.Minute
	w.run(t, rootCert, 1)
}
