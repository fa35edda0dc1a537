package verify

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
