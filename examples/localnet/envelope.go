package localnet

import (
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"time"

	"github.com/aviate-labs/agent-go/certification"
	"github.com/fxamacker/cbor/v2"
	"github.com/icws-gateway/caddy-icws/verify"
)

const (
	maxBody        = 4 << 20 // of any request, as the boundary nodes'
	maxIngress     = 2 << 20 // of a call
	maxIngressLife = 5*time.Minute + 30*time.Second
	maxNonce       = 32
	maxPaths       = 1000
	maxLabels      = 127

	// maxItems is more than an envelope within the limits above can have. Each
	// item costs a decoder up to a hundred times its bytes.
	maxItems = maxPaths*(maxLabels+1) + maxDelegations*(maxTargets+16) + 100
)

// envelopeMode is strict where agent-go's defaults are lax: no duplicate keys,
// bounded nesting and counts. Strings stay of the kind they were sent as, so
// that a request id is taken over what the sender hashed.
var envelopeMode = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:  16,
		MaxArrayElements: maxPaths * 2,
		MaxMapPairs:      64,
		IntDec:           cbor.IntDecConvertNone,
		DefaultMapType:   reflect.TypeFor[map[string]any](),
	}.DecMode()
	if err != nil { // the options are constants
		panic(err)
	}
	return mode
}()

// badRequest is a refusal with status 400; its text is the body of the answer.
type badRequest string

func (b badRequest) Error() string { return string(b) }

func refuse(format string, args ...any) error { return badRequest(fmt.Sprintf(format, args...)) }

// unreadableError is a refusal by the boundary node, which reads some fields of
// an envelope before a replica sees it. The text is the reason.
type unreadableError string

func (e unreadableError) Error() string { return string(e) }

func unreadable(format string, args ...any) error {
	return unreadableError(fmt.Sprintf(format, args...))
}

// readByBoundary are the fields of the content that boundary nodes read.
var readByBoundary = []string{"sender", "canister_id", "method_name", "nonce", "ingress_expiry", "arg"}

// request is a decoded envelope.
type request struct {
	kind     string // call, query, read_state
	id       [32]byte
	sender   verify.Principal
	canister verify.Principal
	method   string
	arg      []byte
	nonce    []byte
	expiry   uint64
	paths    [][][]byte

	pubkey, sig []byte
	chain       []signedDelegation
}

type signedDelegation struct {
	pubkey      []byte
	expiration  uint64
	targets     []verify.Principal
	hasTargets  bool
	permissions string
	hash        [32]byte
	signature   []byte
}

// parseEnvelope decodes an envelope and computes its request id. It checks
// shapes only; see validate.
func parseEnvelope(body []byte) (*request, error) {
	if moreItems(body, maxItems) {
		return nil, unreadable("more than %d items", maxItems)
	}
	var m map[string]any
	if err := envelopeMode.Unmarshal(body, &m); err != nil {
		return nil, unreadable("%v", err)
	}
	untag(m)
	content, ok := m["content"].(map[string]any)
	if !ok {
		return nil, unreadable("missing field `content`")
	}
	for key := range m {
		switch key {
		case "content", "sender_pubkey", "sender_sig", "sender_delegation":
		default:
			return nil, refuse("Failed to deserialize cbor request: unknown field `%.40s`", key)
		}
	}
	r := &request{}
	f := fields{m: content, content: true}
	r.kind = f.text("request_type", true)
	sender, expiry := f.bytes("sender", true), f.nat("ingress_expiry")
	r.nonce, r.expiry = f.bytes("nonce", false), expiry
	switch r.kind {
	case "call", "query":
		r.canister = f.principal("canister_id")
		r.method = f.text("method_name", true)
		r.arg = f.bytes("arg", true)
	case "read_state":
		r.paths = f.paths("paths")
	default:
		return nil, refuse("Failed to deserialize cbor request: field `request_type`: unknown variant `%.40s`", r.kind)
	}
	if f.err != nil {
		return nil, f.err
	}
	var err error
	if r.sender, err = verify.PrincipalFromBytes(sender); err != nil || len(sender) == 0 {
		return nil, unreadable("field `sender`: not a principal")
	}
	if r.id, err = hashMap(content); err != nil {
		return nil, refuse("Failed to deserialize cbor request: %v", err)
	}
	f = fields{m: m}
	r.pubkey, r.sig = f.bytes("sender_pubkey", false), f.bytes("sender_sig", false)
	r.chain = f.chain("sender_delegation")
	return r, f.err
}

// untag takes the CBOR tags off everything below v, in place, as the decoder of
// replicas does: some clients put keys into tag 64 (RFC 8746), a typed array.
func untag(v any) any {
	switch v := v.(type) {
	case cbor.Tag:
		return untag(v.Content)
	case []any:
		for i := range v {
			v[i] = untag(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = untag(v[k])
		}
	}
	return v
}

// hashMap is the representation-independent hash, by agent-go's
// implementation, of what the envelope decoder returns.
func hashMap(m map[string]any) ([32]byte, error) {
	pairs := make([]certification.KeyValuePair, 0, len(m))
	for k, v := range m {
		pairs = append(pairs, certification.KeyValuePair{Key: k, Value: normalize(v)})
	}
	return certification.RepresentationIndependentHash(pairs)
}

// normalize turns bignums that fit into the plain integers that they equal.
func normalize(v any) any {
	switch v := v.(type) {
	case big.Int:
		if v.IsUint64() {
			return v.Uint64()
		}
	case []any:
		for i := range v {
			v[i] = normalize(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = normalize(v[k])
		}
	}
	return v
}

// fields reads typed fields from a decoded map and keeps the first error.
type fields struct {
	m       map[string]any
	content bool // of the envelope
	err     error
}

func (f *fields) fail(name, want string) {
	switch value := f.m[name]; {
	case f.err != nil:
	case f.content && slices.Contains(readByBoundary, name) && (value != nil || name == "sender"):
		f.err = unreadable("field `%s`: expected %s", name, want)
	case value == nil:
		f.err = refuse("Failed to deserialize cbor request: missing field `%s`", name)
	default:
		f.err = refuse("Failed to deserialize cbor request: field `%s`: expected %s", name, want)
	}
}

func (f *fields) bytes(name string, required bool) []byte {
	v, ok := f.m[name]
	if !ok || v == nil {
		if required {
			f.fail(name, "a byte string")
		}
		return nil
	}
	b, ok := v.([]byte)
	if !ok {
		f.fail(name, "a byte string")
	}
	return b
}

func (f *fields) text(name string, required bool) string {
	v, ok := f.m[name]
	if !ok || v == nil {
		if required {
			f.fail(name, "a text")
		}
		return ""
	}
	s, ok := v.(string)
	if !ok {
		f.fail(name, "a text")
	}
	return s
}

func (f *fields) nat(name string) uint64 {
	switch v := f.m[name].(type) {
	case uint64:
		return v
	case big.Int:
		if v.IsUint64() {
			return v.Uint64()
		}
	}
	f.fail(name, "a natural number of at most 64 bits")
	return 0
}

func (f *fields) principal(name string) verify.Principal {
	p, err := verify.PrincipalFromBytes(f.bytes(name, true))
	if err != nil {
		f.fail(name, "a principal")
	}
	return p
}

func (f *fields) list(name string, required bool, limit int) []any {
	v, ok := f.m[name]
	if !ok || v == nil {
		if required {
			f.fail(name, "an array")
		}
		return nil
	}
	list, ok := v.([]any)
	if !ok || len(list) > limit {
		f.fail(name, fmt.Sprintf("an array of at most %d elements", limit))
		return nil
	}
	return list
}

func (f *fields) paths(name string) [][][]byte {
	var out [][][]byte
	for _, v := range f.list(name, true, maxPaths) {
		labels, ok := v.([]any)
		if !ok || len(labels) > maxLabels {
			f.fail(name, fmt.Sprintf("paths of at most %d labels", maxLabels))
			return nil
		}
		path := make([][]byte, 0, len(labels))
		for _, l := range labels {
			switch l := l.(type) {
			case []byte:
				path = append(path, l)
			case string: // older agents sent labels as text; hashed alike
				path = append(path, []byte(l))
			default:
				f.fail(name, "labels that are byte strings")
				return nil
			}
		}
		out = append(out, path)
	}
	return out
}

func (f *fields) chain(name string) []signedDelegation {
	var out []signedDelegation
	for _, v := range f.list(name, false, maxDelegations+1) {
		m, ok := v.(map[string]any)
		if !ok {
			f.fail(name, "signed delegations")
			return nil
		}
		signed := fields{m: m}
		d := signedDelegation{signature: signed.bytes("signature", true)}
		inner, ok := m["delegation"].(map[string]any)
		if !ok {
			f.fail(name, "delegations that are maps")
			return nil
		}
		in := fields{m: inner}
		d.pubkey, d.expiration = in.bytes("pubkey", true), in.nat("expiration")
		d.permissions = in.text("permissions", false)
		if targets, ok := inner["targets"]; ok && targets != nil {
			d.hasTargets = true
			for _, t := range in.list("targets", true, maxTargets) {
				b, ok := t.([]byte)
				p, err := verify.PrincipalFromBytes(b)
				if !ok || err != nil {
					in.fail("targets", "principals")
					break
				}
				d.targets = append(d.targets, p)
			}
		}
		if in.err == nil {
			in.err = signed.err
		}
		if in.err != nil {
			f.err = in.err
			return nil
		}
		var err error
		if d.hash, err = hashMap(inner); err != nil {
			f.fail(name, "delegations that can be hashed")
			return nil
		}
		out = append(out, d)
	}
	return out
}
