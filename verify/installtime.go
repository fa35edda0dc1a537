package verify

import (
	"fmt"
	"math"
	"time"
)

var labelInstallTime = []byte("last_install_timestamp")

var errInstallTime = fmt.Errorf("%w: install time that cannot be read", ErrMalformed)

// InstallTime returns when the program of canister was last installed, upgraded, reinstalled or restored from a snapshot:
// the time of that block. The certificate must come from a read_state of the path ["canister", canister,
// "last_install_timestamp"]. The time is zero where the certificate proves that the network does not know it, which is so
// for a program from before the network kept it (interface specification 0.66) and for a canister without one.
//
// The error is an *Error with the cause malformed if the certificate proves nothing about the path.
func InstallTime(c *Certificate, canister Principal) (time.Time, error) {
	value, r := c.tree.Lookup(labelCanister, canister.Bytes(), labelInstallTime)
	switch r {
	case Found:
	case Absent:
		return time.Time{}, nil
	default:
		return time.Time{}, fail(CauseMalformed, "install time of the canister is "+r.String())
	}
	ns, err := parseLEB128(value)
	if err != nil || ns == 0 || ns > math.MaxInt64 {
		return time.Time{}, &Error{Cause: CauseMalformed, Text: "reading install time", Err: errInstallTime}
	}
	return time.Unix(0, int64(ns)), nil
}
