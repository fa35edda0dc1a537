package upstream

import (
	"github.com/icws-gateway/caddy-icws/verify"
)

// That a host answers says little: what it answers may be garbage. So the health of a host is settled by whoever verifies its
// answer, here and nowhere else.

// BadAnswer is an answer that failed verification. That is the fault of the host, or of the canister. [Answer.Bad] makes it.
type BadAnswer struct {
	Host *Host
	Err  error
}

func (e *BadAnswer) Error() string { return e.Host.name + ": " + e.Err.Error() }
func (e *BadAnswer) Unwrap() error { return e.Err }

// Good notes that the answer was verified and holds. The first verdict on an answer counts; it may come after Release. Good and
// Bad must not be called at the same time for one answer.
func (a *Answer) Good() {
	if a.judged {
		return
	}
	a.judged = true
	a.Host.good()
	a.network.root.held()
}

// Bad notes that the answer does not hold, and why, and returns that as an error.
func (a *Answer) Bad(err error) *BadAnswer {
	if !a.judged {
		a.judged = true
		a.Host.bad(a.canister, err.Error(), a.began)
		cause := verify.CauseOf(err)
		a.network.recorder.VerificationFailed(a.canister, cause)
		if cause == verify.CauseSignature {
			a.network.root.doubt()
		}
	}
	return &BadAnswer{Host: a.Host, Err: err}
}

// Doubted reports whether the host gave a bad answer and no good one since. Only an answer that holds ends that, so its
// next one should be verified even where that is not needed otherwise.
func (a *Answer) Doubted() bool {
	a.Host.mu.Lock()
	defer a.Host.mu.Unlock()
	return a.Host.unproven
}

// Contradicted notes that another host gave a good answer to what this one refused.
func (e *Error) Contradicted(by *Host) {
	if by != e.Host {
		e.Host.bad(e.canister, "refuses what "+by.name+" answers: "+e.Error(), e.began)
	}
}
