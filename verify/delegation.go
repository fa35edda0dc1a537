package verify

import (
	"fmt"
	"time"
)

var (
	errDelegationParts = fmt.Errorf("%w: delegation without subnet or certificate", ErrMalformed)
	errRanges          = fmt.Errorf("%w: canister ranges that cannot be read", ErrMalformed)
)

// delegation is a verified statement of the root subnet: this subnet has this key and hosts these canisters. It is
// immutable and aliases nothing.
type delegation struct {
	subnet Principal
	key    *blsKey
	time   time.Time // when the root subnet certified it
	// flat are the ranges in the layout that all clients know, sharded those in the newer one.
	flat, sharded []canisterRange
	// kind is the subnet's type, empty where the root subnet does not state it. Hidden says that it may state one: who
	// passed the delegation on pruned it away. Replicas do not.
	kind   string
	hidden bool
}

// cloudEngine is the type of subnets that somebody has rented: they speak for their canisters, not for the network.
const cloudEngine = "cloud_engine"

// canisterRange is an inclusive range of canisters, ordered as byte strings.
type canisterRange struct{ from, to Principal }

// inRanges reports whether one of the ranges holds the canister.
func inRanges(ranges []canisterRange, canister Principal) bool {
	for i := range ranges {
		if ranges[i].from.Compare(canister) <= 0 && canister.Compare(ranges[i].to) <= 0 {
			return true
		}
	}
	return false
}

// newDelegation verifies a delegation to a subnet: its certificate is signed by the root key directly, and names the
// subnet's key and ranges. How old it is does not matter: replicas renew theirs every quarter of an hour, and one in a
// client's signature is as old as the login.
func (a *Authority) newDelegation(p *proofs, subnet Principal, certificate []byte) (*delegation, error) {
	parts, err := parseCertificateWithin(certificate, p.values)
	if err != nil {
		return nil, failWith(CauseMalformed, "reading its certificate", err)
	}
	if parts.delegated {
		return nil, fail(CauseDelegation, "its certificate has a delegation itself")
	}
	var tree Tree
	if err := tree.Parse(parts.tree); err != nil {
		return nil, failWith(CauseMalformed, "reading its tree", err)
	}
	// Signature first: what is read below may then be as large as the root subnet makes it.
	if err := p.verifyRoot(a.key, tree.Digest(), parts.signature); err != nil {
		return nil, err
	}
	id := subnet.Bytes()
	der, r := tree.Lookup(labelSubnet, id, labelPublicKey)
	if r != Found {
		return nil, fail(CauseDelegation, "public key of the subnet is "+r.String())
	}
	// Clients in use refuse a delegation whose time was pruned away.
	d := &delegation{subnet: subnet}
	if d.time, err = certifiedTime(&tree); err != nil {
		return nil, &Error{Cause: CauseDelegation, Text: "reading its time", Err: err}
	}
	if d.key, err = a.subnetKey(der); err != nil {
		return nil, failWith(CauseMalformed, "reading the subnet's public key", err)
	}
	kind, r := tree.Lookup(labelSubnet, id, labelType)
	d.kind, d.hidden = string(kind), r == Unknown
	if flat, r := tree.Lookup(labelSubnet, id, labelCanisterRanges); r == Found {
		if d.flat, err = appendRanges(nil, flat); err != nil {
			return nil, failWith(CauseMalformed, "reading canister ranges", err)
		}
	}
	if shards, r := tree.find(labelCanisterRanges, id); r == Found {
		for _, at := range tree.children(shards) {
			if tree.nodes[at].kind != treeLeaf {
				continue // pruned: it lists other canisters than the one asked about
			}
			if d.sharded, err = appendRanges(d.sharded, tree.span(at)); err != nil {
				return nil, failWith(CauseMalformed, "reading sharded canister ranges", err)
			}
		}
	}
	return d, nil
}

// appendRanges decodes a CBOR list of pairs of principals.
func appendRanges(dst []canisterRange, raw []byte) ([]canisterRange, error) {
	c := cborReader{buf: raw, form: portableForm}
	c.selfDescribe()
	for range c.array() {
		if n := c.array(); n != 2 {
			c.fail(errRanges)
		}
		r := canisterRange{from: c.principal(), to: c.principal()}
		if c.err != nil {
			break
		}
		dst = append(dst, r)
	}
	if err := c.done(); err != nil {
		return nil, err
	}
	return dst, nil
}
