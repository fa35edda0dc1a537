package verify

import (
	"slices"
	"strings"
)

var (
	labelBoundaryNodes = []byte("api_boundary_nodes")
	labelDomain        = []byte("domain")
)

// BoundaryNodes returns the domain names of the API boundary nodes that the network lists, in lower case, sorted, each once.
// The certificate must come from a read_state of the path ["api_boundary_nodes"] and hold the whole list: who passes a
// certificate on can prune it, and would so choose among the nodes. What is not a host name of the public Internet is left
// out: addresses in any spelling, ports, names of one's own network. The result aliases nothing.
//
// The error is an *Error with the cause malformed if a part of the list is missing, or delegation for a certificate of a
// subnet of the type "cloud_engine", which may not speak for the network, or of one whose type was pruned away.
func BoundaryNodes(c *Certificate) ([]string, error) {
	if d := c.delegation; d != nil && (d.kind == cloudEngine || d.hidden) {
		return nil, fail(CauseDelegation, "boundary nodes are listed by a cloud engine subnet, which may not, or one that hides its type")
	}
	at, r := c.tree.find(labelBoundaryNodes)
	switch {
	case r == Absent:
		return nil, nil
	case r != Found || !c.tree.whole(at):
		return nil, fail(CauseMalformed, "certificate does not hold the whole list of boundary nodes")
	}
	var domains []string
	for _, node := range c.tree.children(at) {
		i, r := c.tree.findFrom(node, labelDomain)
		if r == Unknown || r == Found && c.tree.nodes[i].kind == treePruned {
			return nil, fail(CauseMalformed, "certificate does not hold the domain of a boundary node")
		}
		if r != Found || c.tree.nodes[i].kind != treeLeaf {
			continue
		}
		if name, ok := hostName(c.tree.span(i)); ok {
			domains = append(domains, name)
		}
	}
	slices.Sort(domains)
	return slices.Compact(domains), nil
}

// ownDomains are top-level names that the public Internet does not serve (RFC 6761, RFC 6762, ICANN's reservation of
// internal, and arpa, which names addresses).
var ownDomains = []string{"arpa", "internal", "invalid", "local", "localdomain", "localhost", "onion"}

// hostName returns raw in lower case if it is a host name of at least two labels (RFC 1123, without a dot at the end) that
// cannot be read as an address: resolvers take "0x7f.1" for one, which is why the last label must be a word.
func hostName(raw []byte) (name string, ok bool) {
	if len(raw) > 253 || slices.ContainsFunc(raw, func(b byte) bool { return b >= 0x80 }) {
		return "", false // to lower case, a Kelvin sign would be a k
	}
	name = strings.ToLower(string(raw))
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "", false
		}
		for _, b := range []byte(label) {
			if b != '-' && (b < '0' || b > '9') && (b < 'a' || b > 'z') {
				return "", false
			}
		}
	}
	last := labels[len(labels)-1]
	word := !strings.ContainsAny(last, "-0123456789") || strings.HasPrefix(last, "xn--")
	return name, len(labels) > 1 && len(last) > 1 && word && !slices.Contains(ownDomains, last)
}
