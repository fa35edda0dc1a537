package localnet

import (
	"fmt"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// Canister is a program on the network. The network calls one method at a time
// and holds no lock of the program's: a canister that shares state with tests
// locks it itself. Arguments belong to the caller, results to the network.
//
// A method fails with a *Reject to say how; any other error and any panic is a
// trap. The network does not undo what a canister did to its Go state before
// it failed.
type Canister interface {
	// Init starts the program: at installation, upgrade and reinstallation. All
	// state from before is to be dropped.
	Init(env *Env) error
	// Update runs an update method.
	Update(env *Env, method string, arg []byte) ([]byte, error)
	// Query runs a query method.
	Query(env *Env, method string, arg []byte) ([]byte, error)
}

// Snapshotter is implemented by canisters whose queries can run on a frozen
// copy. Their queries need no lock and can be answered from an older state.
type Snapshotter interface {
	// Snapshot returns a copy that answers queries as the canister does now,
	// however it changes later. Its Query is called concurrently.
	Snapshot() Canister
}

// Reject codes of the interface specification.
const (
	SysFatal           = 1
	SysTransient       = 2
	DestinationInvalid = 3
	CanisterReject     = 4
	CanisterError      = 5
)

// Reject says that the network or a canister refused a message.
type Reject struct {
	Code      uint64 // one of the reject codes above
	ErrorCode string // such as IC0508; empty: IC0406 for a canister's own reject, else IC0503
	Message   string
}

// Error implements error.
func (r *Reject) Error() string {
	return fmt.Sprintf("reject code %d, %s: %s", r.Code, r.ErrorCode, r.Message)
}

// code is the error code, which replicas never leave out.
func (r *Reject) code() string {
	switch {
	case r.ErrorCode != "":
		return r.ErrorCode
	case r.Code == CanisterReject:
		return "IC0406"
	}
	return "IC0503"
}

// ErrNoMethod is what a canister returns for a method that it does not have.
var ErrNoMethod = &Reject{Code: CanisterError, ErrorCode: "IC0536", Message: "canister has no such method"}

// Env is what a canister sees of the network during one message. It must not
// be kept.
type Env struct {
	// Caller is who signed the message; the canister itself in Init and timers.
	Caller verify.Principal
	// Self is the canister's own id.
	Self verify.Principal
	// Time is the time of the block.
	Time time.Time
	// Replicated is false in queries.
	Replicated bool

	subnet *subnet
	slot   *slot

	certified    []byte
	setCertified bool
	certificate  func() []byte
	in           *ingress // the update that this message belongs to, if any
	conts        []*continuation
	awaits       bool // conts has one of Await
}

// SetCertifiedData makes data, at most 32 bytes, the canister's certified data.
// In queries it has no effect. data is kept.
func (e *Env) SetCertifiedData(data []byte) {
	e.certified, e.setCertified = data, true
}

// DataCertificate is the certificate of the canister's certified data; nil
// outside queries.
func (e *Env) DataCertificate() []byte {
	if e.certificate == nil {
		return nil
	}
	return e.certificate()
}

// After runs f once, d from now, as a message of its own. It is forgotten when
// the canister is installed anew. In queries it has no effect.
func (e *Env) After(d time.Duration, f func(*Env)) {
	if e.Replicated {
		e.subnet.addTimer(e.slot, e.Time.Add(d), f)
	}
}

// slot is a canister id with what is installed there.
type slot struct {
	id       verify.Principal
	canister Canister // nil: no module
	mode     slotMode
	broke    bool // out of cycles
	install  int  // counts installations: timers and awaits of older ones are void

	installed time.Time // block of the last installation, reinstallation or upgrade
	certified []byte
	changed   bool // since copy was made
	copy      Canister
}

type slotMode int

const (
	running slotMode = iota
	stopping
	stopped
)

// refusal is why the canister cannot take a message now, nil if it can.
func (s *slot) refusal() *Reject {
	switch {
	case s.mode == stopped:
		return &Reject{CanisterError, "IC0508", fmt.Sprintf("Canister %s is stopped and therefore does not have a CallContextManager", s.id)}
	case s.mode == stopping:
		return &Reject{CanisterError, "IC0509", fmt.Sprintf("Canister %s is stopping", s.id)}
	case s.broke:
		return &Reject{SysTransient, "IC0207", fmt.Sprintf("Canister %s is out of cycles: please top up the canister with at least 1_000_000 additional cycles", s.id)}
	case s.canister == nil:
		return &Reject{CanisterError, "IC0537", fmt.Sprintf("Error from Canister %s: Attempted to execute a message, but the canister contains no Wasm module.", s.id)}
	}
	return nil
}

func notFound(id verify.Principal) *Reject {
	return &Reject{DestinationInvalid, "IC0301", fmt.Sprintf("Canister %s not found", id)}
}

// run calls f on behalf of the canister and turns every failure into a Reject.
// kind is that of the method: query, update or none.
func (s *slot) run(kind, method string, f func() ([]byte, error)) (reply []byte, reject *Reject) {
	defer func() {
		if p := recover(); p != nil {
			reply, reject = nil, s.trap(fmt.Sprint(p))
		}
	}()
	reply, err := f()
	switch e := err.(type) {
	case nil:
		return reply, nil
	case *Reject:
		if e == ErrNoMethod {
			return nil, &Reject{e.Code, e.ErrorCode, fmt.Sprintf("Error from Canister %s: Canister has no %s method '%s'.", s.id, kind, method)}
		}
		return nil, e
	default:
		return nil, s.trap(err.Error())
	}
}

func (s *slot) trap(text string) *Reject {
	return &Reject{CanisterError, "IC0503", fmt.Sprintf("Error from Canister %s: Canister called `ic0.trap` with message: '%s'", s.id, text)}
}
