package localnet

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/icws-gateway/caddy-icws/examples/localnet/candid"
	"github.com/icws-gateway/caddy-icws/examples/localnet/vetkd"
	"github.com/icws-gateway/caddy-icws/verify"
)

// The management canister, as far as it is here: the two methods of vetKD, for
// canisters. Their checks, in this order, and the words of their rejects are
// those of the replica (dfinity/ic, execution_environment.rs and routing.rs).

// vetKey is a master key with what it costs to have a key derived from it.
type vetKey struct {
	*vetkd.MasterKey
	fee uint64 // cycles
}

// newVetKeys makes the keys of a network under the names that they have on
// mainnet, and on local ones. That one costs what costs most, so that a
// canister which can pay here can pay everywhere.
func newVetKeys(seed uint64) map[string]*vetKey {
	keys := map[string]*vetKey{}
	for name, fee := range map[string]uint64{"dfx_test_key": 26_153_846_153, "test_key_1": 10_000_000_000, "key_1": 26_153_846_153} {
		keys[name] = &vetKey{vetkd.NewMasterKey(seedFor(seed, "vetkd "+name)), fee}
	}
	return keys
}

// VetKDPublicKey is the public master key of a name: dfx_test_key, test_key_1
// or key_1. Clients derive those of canisters and contexts from it, see
// vetkd.DerivePublic. For other names it is nil.
func (n *Network) VetKDPublicKey(name string) []byte {
	k := n.vetKeys[name]
	if k == nil {
		return nil
	}
	return k.PublicKey()
}

// answerCall is what becomes of a call of a canister.
func (n *Network) answerCall(caller verify.Principal, c *Call) (reply []byte, reject *Reject) {
	if c.Canister != (verify.Principal{}) {
		return nil, &Reject{DestinationInvalid, "IC0301", fmt.Sprintf("Canister %s cannot be called: this network lets canisters call the management canister only", c.Canister)}
	}
	switch c.Method {
	case "vetkd_public_key":
		return n.vetkdPublicKey(caller, c)
	case "vetkd_derive_key":
		return n.vetkdDeriveKey(caller, c)
	}
	return nil, unroutable(c, fmt.Sprintf("MethodNotFound(%q)", c.Method))
}

func (n *Network) vetkdPublicKey(caller verify.Principal, c *Call) ([]byte, *Reject) {
	v, err := candid.Read(c.Arg)
	if err != nil {
		return nil, undecodable(err)
	}
	context, err1 := candid.Field[[]byte](v, "context")
	name, err2 := keyName(v)
	if err := errors.Join(err1, err2); err != nil {
		return nil, undecodable(err)
	}
	canister := caller
	if named, err := candid.Field[candid.Option](v, "canister_id"); err == nil {
		if id, ok := named.Value.(verify.Principal); ok { // an option of another type reads as none
			canister = id
		}
	}
	key := n.vetKeys[name]
	if key == nil {
		return nil, unroutable(c, n.unknownKey("unknown threshold key: %s, existing keys: %s", name))
	}
	public, err := vetkd.DerivePublic(key.PublicKey(), canister.Bytes(), context)
	if err != nil { // our own key
		panic(err)
	}
	return candid.Encode(candid.Fields(map[string]any{"public_key": public})), nil
}

func (n *Network) vetkdDeriveKey(caller verify.Principal, c *Call) ([]byte, *Reject) {
	v, err := candid.Read(c.Arg)
	if err != nil {
		return nil, undecodable(err)
	}
	input, err1 := candid.Field[[]byte](v, "input")
	context, err2 := candid.Field[[]byte](v, "context")
	transport, err3 := candid.Field[[]byte](v, "transport_public_key")
	name, err4 := keyName(v)
	if err3 == nil && len(transport) != vetkd.TransportKeySize {
		err3 = fmt.Errorf("field transport_public_key: %d bytes, not %d", len(transport), vetkd.TransportKeySize)
	}
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, undecodable(err)
	}
	key := n.vetKeys[name]
	if key == nil {
		return nil, unroutable(c, n.unknownKey("unknown or disabled threshold key: %s, existing enabled keys: %s", name))
	}
	encrypted, err := key.Encrypt(caller.Bytes(), context, input, transport)
	switch {
	case errors.Is(err, vetkd.ErrTransportKey):
		return nil, &Reject{CanisterReject, "IC0406", "The provided transport public key is invalid."}
	case err != nil:
		return nil, &Reject{SysTransient, "", err.Error()}
	case c.Cycles < key.fee:
		return nil, &Reject{CanisterReject, "IC0406", fmt.Sprintf("%s request sent with %s cycles, but %s cycles are required.", c.Method, grouped(c.Cycles), grouped(key.fee))}
	}
	return candid.Encode(candid.Fields(map[string]any{"encrypted_key": encrypted})), nil
}

// keyName reads the field key_id, whose curve is the one that there is.
func keyName(v any) (string, error) {
	id, err := candid.Field[candid.Record](v, "key_id")
	if err != nil {
		return "", err
	}
	curve, err := candid.Field[candid.Variant](id, "curve")
	if err != nil || curve.ID != candid.ID("bls12_381_g2") {
		return "", fmt.Errorf("%w: field curve", candid.ErrUnexpected)
	}
	return candid.Field[string](id, "name")
}

func undecodable(err error) *Reject {
	return &Reject{CanisterError, "IC0518", "Error decoding candid: " + err.Error()}
}

func unroutable(c *Call, why string) *Reject {
	return &Reject{DestinationInvalid, "", fmt.Sprintf("Unable to route management canister request %s: %s", c.Method, why)}
}

func (n *Network) unknownKey(format, name string) string {
	const scheme = "vetkd:Bls12_381_G2:"
	names := slices.Sorted(maps.Keys(n.vetKeys))
	return fmt.Sprintf("ChainKeyError(%q)", fmt.Sprintf("Requested "+format, scheme+name, "["+scheme+strings.Join(names, ", "+scheme)+"]"))
}

// grouped writes a number as replicas do: 10_000.
func grouped(n uint64) string {
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "_" + digits[i:]
	}
	return digits
}
