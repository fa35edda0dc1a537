package upstream

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// Error is a request that brought no usable answer.
type Error struct {
	Outcome    Outcome
	Host       *Host
	Refusal                  // what the answer says, if there was one, and what that means
	RetryAfter time.Duration // what the host asked for, at most hostBackoffMax
	Taken      bool          // one of the hosts that were tried may have passed the request on
	Alone      bool          // no other host can be asked about it now, see Answer
	Err        error

	canister verify.Principal
	began    time.Time // of the request
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Host.name)
	if e.Status != 0 {
		fmt.Fprintf(&b, ": HTTP %d", e.Status)
	}
	for _, s := range []string{e.Cause, e.Text} {
		if s != "" {
			b.WriteString(": " + s)
		}
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Transient reports whether the same request may do better later or elsewhere.
func (e *Error) Transient() bool { return e.Means.Passes() }

// mayBeTaken reports whether the host may have passed the request on before it failed. It has not where no connection
// came about, or where the answer says so.
func (e *Error) mayBeTaken() bool {
	var oe *net.OpError
	dialing := errors.As(e.Err, &oe) && oe.Op == "dial"
	refused := e.Status >= 400 && e.Status < 500
	return !dialing && !refused && e.Means != Busy && e.Transient()
}

// IsTransient reports whether err, of this package, may pass.
func IsTransient(err error) bool {
	var ue *Error
	return !errors.As(err, &ue) || ue.Transient()
}

// servedNowhere reports whether err says that no host that was asked serves the endpoint.
func servedNowhere(err error) bool {
	var ue *Error
	return errors.As(err, &ue) && ue.Means == NoEndpoint
}
