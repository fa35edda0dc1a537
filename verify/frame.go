package verify

import "strconv"

// nonceDigits is the length of the nonce in a message key, padded with zeros.
const nonceDigits = 20

// appendMessageKey appends the key under which a canister certifies a message: "<gateway>_<nonce, 20 digits>".
func appendMessageKey(dst []byte, gateway string, nonce uint64) []byte {
	var buf [nonceDigits]byte
	digits := strconv.AppendUint(buf[:0], nonce, 10)
	dst = append(append(dst, gateway...), '_')
	dst = append(dst, "00000000000000000000"[len(digits):]...)
	return append(dst, digits...)
}

// Heads of the fields of a client frame, a CBOR map of four entries.
const (
	headKey     = "\xa4\x63key"
	headContent = "\x67content"
	headCert    = "\x64cert"
	headTree    = "\x64tree"
)

// AppendFrame appends the frame that brings message i to its client: the CBOR map {key, content, cert, tree}, untagged, with
// the witness pruned to this message, so that it is small and does not disclose the keys of other clients' messages. It
// allocates only if dst has less than FrameSize(i) bytes to spare.
func (p *Page) AppendFrame(dst []byte, i int) []byte {
	m := &p.Messages[i]
	dst = appendCBORText(append(dst, headKey...), m.Key)
	dst = appendCBORBytes(append(dst, headContent...), m.Content)
	dst = appendCBORBytes(append(dst, headCert...), p.cert)
	dst = appendCBORHead(append(dst, headTree...), cborBytes, uint64(p.tree.prunedSize(p.leaves[i])))
	return p.tree.appendPruned(dst, p.leaves[i])
}

// FrameSize returns the size of the frame of message i in bytes.
func (p *Page) FrameSize(i int) int {
	m := &p.Messages[i]
	return len(headKey) + cborSize(len(m.Key)) + len(headContent) + cborSize(len(m.Content)) +
		len(headCert) + cborSize(len(p.cert)) + len(headTree) + cborSize(p.tree.prunedSize(p.leaves[i]))
}

// SetCertificate puts another certificate into the frames to come, one that states the same but that more clients can verify:
// the result of ReplaceDelegation. The page keeps cert. Flat becomes true.
func (p *Page) SetCertificate(cert []byte) {
	p.cert, p.Flat = cert, true
}

// Certificate returns the certificate that goes into the frames. It aliases the Reply, or what was given to SetCertificate.
func (p *Page) Certificate() []byte { return p.cert }
