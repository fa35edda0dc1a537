package verify

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"time"
)

// nodeKeyPrefix is the DER that precedes the 32 bytes of an Ed25519 key.
var nodeKeyPrefix, _ = hex.DecodeString("302a300506032b6570032100")

// NodeKeys returns the public keys, in DER form, of the nodes of the subnet that signed the certificate, which must come
// from a read_state of the path ["subnet"] and name at least one. The result aliases nothing. The error is an *Error with
// the cause node or malformed.
func NodeKeys(c *Certificate) (map[Principal][]byte, error) {
	at, err := c.subnetNodes()
	if err != nil {
		return nil, err
	}
	keys := make(map[Principal][]byte)
	for label, child := range c.tree.children(at) {
		node, err := PrincipalFromBytes(label)
		if err != nil {
			return nil, failWith(CauseMalformed, "reading node keys", err)
		}
		i, r := c.tree.findFrom(child, labelPublicKey)
		if r != Found || c.tree.nodes[i].kind != treeLeaf {
			continue // pruned away: not asked for
		}
		der := c.tree.span(i)
		if raw, ok := bytes.CutPrefix(der, nodeKeyPrefix); !ok || len(raw) != ed25519.PublicKeySize {
			continue // a key of another type can sign nothing that we could check
		}
		keys[node] = bytes.Clone(der)
	}
	if len(keys) == 0 {
		return nil, fail(CauseNode, "certificate has no node keys")
	}
	return keys, nil
}

// subnetNodes finds the nodes of the certificate's own subnet.
func (c *Certificate) subnetNodes() (uint32, error) {
	subnet, delegated := c.Subnet()
	if at, r := c.tree.find(labelSubnet, subnet.Bytes(), labelNode); r == Found {
		return at, nil
	}
	// A local network may give its only subnet any name. Only the subnet's own nodes are in its state, so a certificate
	// that the root key signed can be taken at its word if it names the nodes of one subnet alone.
	if subnets, r := c.tree.find(labelSubnet); r == Found && !delegated {
		var found []uint32
		for _, child := range c.tree.children(subnets) {
			if at, r := c.tree.findFrom(child, labelNode); r == Found {
				found = append(found, at)
			}
		}
		if len(found) == 1 {
			return found[0], nil
		}
	}
	return 0, fail(CauseNode, "certificate does not name the nodes of its subnet")
}

// VerifyNode checks that nodes of the subnet signed this answer to the query with the given request id: at least one
// signature, every one good, from different nodes, and not further from now than MaxCertificateAge and MaxClockSkew allow.
// nodeKeyDER returns the key of a node in DER form, as in NodeKeys.
//
// Errors are *Error: cause node if a node is not known (keys may have changed: fetch them again), certificate_old and
// certificate_future for the time, and signature.
func (q *QueryReply) VerifyNode(requestID [32]byte, nodeKeyDER func(Principal) ([]byte, bool), now time.Time) error {
	if len(q.Signatures) == 0 {
		return fail(CauseSignature, "answer has no node signature")
	}
	for i, s := range q.Signatures {
		if slices.ContainsFunc(q.Signatures[:i], func(o NodeSignature) bool { return o.Node == s.Node }) {
			return fail(CauseSignature, "answer is signed twice by one node")
		}
		if s.Timestamp > math.MaxInt64 {
			return fail(CauseCertificateFuture, "node signature has an impossible time")
		}
		switch age := now.Sub(time.Unix(0, int64(s.Timestamp))); {
		case age > MaxCertificateAge:
			return fail(CauseCertificateOld, fmt.Sprintf("node signature is %s old, check the clock", age.Round(time.Second)))
		case -age > MaxClockSkew:
			return fail(CauseCertificateFuture, fmt.Sprintf("node signature is %s ahead, check the clock", (-age).Round(time.Second)))
		}
		der, ok := nodeKeyDER(s.Node)
		if !ok {
			return fail(CauseNode, "answer is signed by an unknown node")
		}
		key, ok := bytes.CutPrefix(der, nodeKeyPrefix)
		if !ok || len(key) != ed25519.PublicKeySize {
			return fail(CauseNode, "answer is signed by a node with a key of another type")
		}
		hash := q.signedHash(requestID, s.Timestamp)
		if !ed25519.Verify(key, append([]byte("\x0bic-response"), hash[:]...), s.Signature) {
			return fail(CauseSignature, "node signature does not verify")
		}
	}
	return nil
}

// signedHash returns the representation-independent hash of the answer, which nodes sign.
func (q *QueryReply) signedHash(requestID [32]byte, timestamp uint64) [32]byte {
	leb := func(n uint64) []byte { return binary.AppendUvarint(nil, n) } // shortest unsigned LEB128
	rows := [][]byte{
		hashRow("request_id", requestID[:]),
		hashRow("timestamp", leb(timestamp)),
	}
	if q.Replied {
		reply := sha256.Sum256(hashRow("arg", q.Arg))
		row := hashRow("reply", nil)
		copy(row[sha256.Size:], reply[:]) // the value of a map is its hash, not the hash of that
		rows = append(rows, hashRow("status", []byte("replied")), row)
	} else {
		rows = append(rows,
			hashRow("status", []byte("rejected")),
			hashRow("reject_code", leb(q.RejectCode)),
			hashRow("reject_message", []byte(q.RejectMessage)),
		)
		if q.hasErrorCode {
			rows = append(rows, hashRow("error_code", []byte(q.ErrorCode)))
		}
	}
	slices.SortFunc(rows, bytes.Compare)
	return sha256.Sum256(slices.Concat(rows...))
}

// hashRow returns H(name) followed by H(value).
func hashRow(name string, value []byte) []byte {
	n, v := sha256.Sum256([]byte(name)), sha256.Sum256(value)
	return append(n[:], v[:]...)
}
