package verify

import (
	"bytes"
	"fmt"
	"math"
	"time"
)

var (
	errCertificateParts = fmt.Errorf("%w: certificate without tree or signature", ErrMalformed)
	errCertificateKey   = fmt.Errorf("%w: certificate with a key that clients misread", ErrMalformed)
	errCertificateTag   = fmt.Errorf("%w: certificate without self-describe tag", ErrMalformed)
	errCertificateTime  = fmt.Errorf("%w: certificate without a readable time", ErrMalformed)
	errLEB128           = fmt.Errorf("%w: leb128 number cut short or over 64 bits", ErrMalformed)
)

// Certificate is a verified certificate: a hash tree that the network signed. Read it concurrently at will.
type Certificate struct {
	tree       Tree
	time       time.Time
	root       *blsKey
	delegation *delegation // nil if the root key signed it
	flat       bool
}

// Certificate verifies a certificate in CBOR for a canister at the time now: that it is neither older than
// MaxCertificateAge nor further ahead than MaxClockSkew, that the subnet which signed it was delegated to by the root key
// for a range that holds the canister, and that the signature is good. The result keeps raw, which must not change while
// it is in use.
//
// Errors are *Error with the causes malformed, certificate_old, certificate_future, delegation, range and signature.
// Safe for concurrent use; of several equal certificates at once, one is computed.
func (a *Authority) Certificate(raw []byte, canister Principal, now time.Time) (*Certificate, error) {
	return a.certificate(a.polled, raw, canister, now)
}

// lastingCertificate is Certificate for proofs that clients send and that stay good however old they get. The certified
// time is not read.
func (a *Authority) lastingCertificate(raw []byte, canister Principal) (*Certificate, error) {
	return a.certificate(a.sent, raw, canister, time.Time{})
}

// certificate verifies a certificate. Without a time now it does not matter when it was made. What it proves goes to p.
func (a *Authority) certificate(p *proofs, raw []byte, canister Principal, now time.Time) (*Certificate, error) {
	parts, err := parseCertificateWithin(raw, p.values)
	if err != nil {
		return nil, failWith(CauseMalformed, "reading certificate", err)
	}
	c := &Certificate{root: a.key, flat: true}
	if err := c.tree.Parse(parts.tree); err != nil {
		return nil, failWith(CauseMalformed, "reading certificate tree", err)
	}
	if !now.IsZero() {
		if err := c.checkTime(now); err != nil {
			return nil, err
		}
	}
	key := a.key
	if parts.delegated {
		d, err := a.delegation(p, parts.subnet, parts.delegation)
		if err != nil {
			return nil, failWith(CauseDelegation, "checking subnet delegation", err)
		}
		// Clients in use do not mind how old it is, but refuse one that is ahead of their clock.
		if !now.IsZero() && d.time.Sub(now) > MaxClockSkew {
			return nil, fail(CauseDelegation, fmt.Sprintf("subnet delegation is %s ahead, check the clock", d.time.Sub(now).Round(time.Second)))
		}
		c.delegation, c.flat = d, inRanges(d.flat, canister)
		if !c.flat && !inRanges(d.sharded, canister) {
			return nil, fail(CauseRange, "certificate is from a subnet that does not host the canister")
		}
		key = d.key
	}
	if err := p.verifyRoot(key, c.tree.Digest(), parts.signature); err != nil {
		return nil, err
	}
	return c, nil
}

// certifiedTime returns the time in a certificate's tree. The error is errCertificateTime.
func certifiedTime(tree *Tree) (time.Time, error) {
	value, r := tree.Lookup(labelTime)
	if r != Found {
		return time.Time{}, errCertificateTime
	}
	ns, err := parseLEB128(value)
	if err != nil || ns > math.MaxInt64 {
		return time.Time{}, errCertificateTime
	}
	return time.Unix(0, int64(ns)), nil
}

// checkTime reads the certified time and compares it with now.
func (c *Certificate) checkTime(now time.Time) (err error) {
	if c.time, err = certifiedTime(&c.tree); err != nil {
		return &Error{Cause: CauseMalformed, Text: "reading certificate time", Err: err}
	}
	switch age := now.Sub(c.time); {
	case age > MaxCertificateAge:
		return fail(CauseCertificateOld, fmt.Sprintf("certificate is %s old, check the clock", age.Round(time.Second)))
	case -age > MaxClockSkew:
		return fail(CauseCertificateFuture, fmt.Sprintf("certificate is %s ahead, check the clock", (-age).Round(time.Second)))
	}
	return nil
}

// Time returns the time that the certificate states.
func (c *Certificate) Time() time.Time { return c.time }

// Lookup returns what the certificate proves about a path. The value aliases the parsed bytes and is nil unless the result
// is Found.
func (c *Certificate) Lookup(path ...[]byte) ([]byte, Lookup) { return c.tree.Lookup(path...) }

// Subnet returns the subnet that signed the certificate. Without a delegation that is the root subnet, delegated is false,
// and the principal is the one derived from the root key.
func (c *Certificate) Subnet() (subnet Principal, delegated bool) {
	if c.delegation == nil {
		return SelfAuthenticating(c.root.der()), false
	}
	return c.delegation.subnet, true
}

// Flat reports whether clients in use can verify the certificate: it has no delegation, or one that lists the canister's
// range at /subnet/<id>/canister_ranges. The newer sharded layout, /canister_ranges/<id>/<shard>, is unknown to them.
func (c *Certificate) Flat() bool { return c.flat }

// Labels of the state tree.
var (
	labelTime           = []byte("time")
	labelSubnet         = []byte("subnet")
	labelPublicKey      = []byte("public_key")
	labelType           = []byte("type")
	labelCanisterRanges = []byte("canister_ranges")
	labelCanister       = []byte("canister")
	labelCertifiedData  = []byte("certified_data")
	labelNode           = []byte("node")
	labelRequestStatus  = []byte("request_status")
	labelWebsocket      = []byte("websocket")
)

// certificateParts is a certificate as it lies in its CBOR.
type certificateParts struct {
	tree, signature []byte
	delegated       bool
	subnet          Principal
	delegation      []byte // the certificate in the delegation
	from, to        int    // where in the input the value of the delegation lies
}

// parseCertificate reads the outer CBOR of a certificate. Everything aliases raw.
//
// Nothing signs the encoding of a certificate, and it reaches clients as it came. So whoever passes one on could write it
// in a way that we read and clients do not: with a bignum for a node's kind, with lengths of 64 bits, without the
// self-describe tag, or with a key that JavaScript takes for an object's prototype. The forms that replicas write are the
// only ones accepted.
func parseCertificate(raw []byte) (certificateParts, error) {
	return parseCertificateWithin(raw, maxCBORValues)
}

// parseCertificateWithin is parseCertificate for one of at most that many values.
func parseCertificateWithin(raw []byte, values int) (p certificateParts, err error) {
	c := cborReader{buf: raw, form: shortForm, limit: values}
	if !bytes.HasPrefix(raw, []byte(selfDescribeTag)) {
		c.fail(errCertificateTag)
	}
	c.selfDescribe()
	for m := c.fields(); m.next(); {
		switch string(m.key) {
		case "tree":
			p.tree = c.raw()
		case "signature":
			p.signature = c.bytes()
		case "delegation":
			if c.null() {
				continue
			}
			p.delegated = true
			p.from = len(raw) - len(c.buf)
			p.readDelegation(&c)
			p.to = len(raw) - len(c.buf)
		case "__proto__":
			c.fail(errCertificateKey)
		default:
			c.skip()
		}
	}
	if err := c.done(); err != nil {
		return p, err
	}
	if p.tree == nil || p.signature == nil {
		return p, errCertificateParts
	}
	return p, nil
}

// readDelegation reads the value of a certificate's delegation.
func (p *certificateParts) readDelegation(c *cborReader) {
	named := false
	for m := c.fields(); m.next(); {
		switch string(m.key) {
		case "subnet_id":
			p.subnet = c.principal()
			named = true
		case "certificate":
			p.delegation = c.bytes()
		default:
			c.skip()
		}
	}
	if !named || p.delegation == nil {
		c.fail(errDelegationParts)
	}
}

// ReplaceDelegation returns the certificate cert with the delegation of the certificate donor in place of its own. A
// delegation is not covered by the signature of the certificate around it, so a certificate whose delegation clients in
// use do not understand can be given one that they do. The result shares no memory with the arguments.
//
// Both must have a delegation, for the same subnet; nothing is verified, so pass the result to Authority.Certificate.
func ReplaceDelegation(cert, donor []byte) ([]byte, error) {
	old, err := parseCertificate(cert)
	if err != nil {
		return nil, failWith(CauseMalformed, "reading certificate", err)
	}
	other, err := parseCertificate(donor)
	if err != nil {
		return nil, failWith(CauseMalformed, "reading certificate to take the delegation from", err)
	}
	if !old.delegated || !other.delegated {
		return nil, fail(CauseDelegation, "replacing delegation: a certificate has none")
	}
	if old.subnet != other.subnet {
		return nil, fail(CauseDelegation, "replacing delegation: the certificates are from different subnets")
	}
	out := make([]byte, 0, len(cert)-(old.to-old.from)+other.to-other.from)
	out = append(out, cert[:old.from]...)
	out = append(out, donor[other.from:other.to]...)
	return append(out, cert[old.to:]...), nil
}

// parseLEB128 decodes an unsigned LEB128 number that fills b.
func parseLEB128(b []byte) (v uint64, err error) {
	for i, x := range b {
		if i == 9 && x > 1 || i > 9 {
			return 0, errLEB128
		}
		v |= uint64(x&0x7f) << (7 * i)
		if x < 0x80 {
			if i != len(b)-1 {
				return 0, errLEB128
			}
			return v, nil
		}
	}
	return 0, errLEB128
}
