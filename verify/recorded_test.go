package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/recorded"
)

// artefact is a file of recorded bytes with what we must get from it.
type artefact struct{ recorded.Artefact }

// recordedChecks read an artefact with the function that reads it in production. What manifests call "text" are error
// bodies, which package relay reads.
var recordedChecks = map[string]func(*testing.T, *artefact){
	"root":        checkRootKey,
	"key":         checkPublicKey,
	"tree":        checkTree,
	"query":       checkQueryReply,
	"call":        checkCallReply,
	"readstate":   checkReadState,
	"certificate": func(t *testing.T, a *artefact) { a.checkCertificate(t, a.Bytes(t)) },
	"status":      checkStatusReply,
	"envelope":    checkEnvelope,
	"sig":         checkSignature,
	"wsframe":     checkFrame,
}

// artefacts returns all that there are.
func artefacts(t testing.TB) (all []*artefact) {
	t.Helper()
	for _, a := range recorded.All(t, "..") {
		all = append(all, &artefact{a})
	}
	return all
}

// recordedSeeds returns the recorded bytes of these kinds, of all without arguments: fuzz tests begin with them.
func recordedSeeds(f *testing.F, kinds ...string) (seeds [][]byte) {
	f.Helper()
	for _, a := range artefacts(f) {
		if a.Kind != "text" && (len(kinds) == 0 || slices.Contains(kinds, a.Kind)) {
			seeds = append(seeds, a.Bytes(f))
		}
	}
	return seeds
}

// recordedEnvelopes returns the recorded envelopes, parsed.
func recordedEnvelopes(f *testing.F) (all []*Envelope) {
	f.Helper()
	for _, raw := range recordedSeeds(f, "envelope") {
		all = append(all, must(ParseEnvelope(raw)))
	}
	return all
}

// recordedFrames returns the recorded frames, parsed.
func recordedFrames(f *testing.F) (all []Frame) {
	f.Helper()
	for _, raw := range recordedSeeds(f, "wsframe") {
		all = append(all, must(ParseFrame(raw)))
	}
	return all
}

// must returns v. What it is given has passed TestRecorded.
func must[V any](v V, err error) V {
	if err != nil {
		panic(err)
	}
	return v
}

// TestRecorded holds every codec and every check against the bytes of the real network.
func TestRecorded(t *testing.T) {
	listed := map[string]bool{}
	for _, a := range artefacts(t) {
		listed[a.File] = true
		check := recordedChecks[a.Kind]
		if check == nil {
			if a.Kind != "text" {
				t.Errorf("%s is of the kind %q, which nothing reads", a.File, a.Kind)
			}
			continue
		}
		t.Run(a.File, func(t *testing.T) {
			raw := a.Bytes(t)
			if sum := sha256.Sum256(raw); a.SHA256 != "" && hex.EncodeToString(sum[:]) != a.SHA256 {
				t.Fatal("the file is not the one that the manifest tells of")
			}
			before := bytes.Clone(raw)
			check(t, a)
			if !bytes.Equal(raw, before) {
				t.Error("reading changed the bytes")
			}
		})
	}
	for _, dir := range recorded.Dirs(t, "..") {
		for _, pattern := range []string{"*.bin", "*.der"} {
			files, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				// The key of the derived answers has no entry: their entries name it.
				if name := filepath.Base(f); !listed[name] && name != "derived-node-key.der" {
					t.Errorf("%s is in no manifest", f)
				}
			}
		}
	}
}

// TestRecordedSpoilt cuts and spoils every small artefact everywhere. Whatever comes of it, nothing may panic, and what is
// cut must be refused.
func TestRecordedSpoilt(t *testing.T) {
	t.Parallel()
	readers := map[string]func([]byte) error{
		"query":       func(b []byte) error { _, err := ParseQueryReply(b); return err },
		"call":        func(b []byte) error { _, err := ParseCallReply(b); return err },
		"readstate":   func(b []byte) error { _, err := ParseReadStateReply(b); return err },
		"status":      func(b []byte) error { _, err := ParseStatusReply(b); return err },
		"envelope":    func(b []byte) error { _, err := ParseEnvelope(b); return err },
		"certificate": func(b []byte) error { _, err := parseCertificate(b); return err },
		"wsframe":     func(b []byte) error { _, err := ParseFrame(b); return err },
	}
	for _, a := range artefacts(t) {
		read := readers[a.Kind]
		raw := a.Bytes(t)
		if read == nil || len(raw) > 4200 {
			continue
		}
		for i := range raw {
			if err := read(raw[:i]); err == nil {
				t.Errorf("%s cut to %d of %d bytes is accepted", a.File, i, len(raw))
			}
			spoilt := bytes.Clone(raw)
			spoilt[i] ^= 0x1f
			_ = read(spoilt) // a spoilt signature or nonce is still readable
		}
	}
}

// authority returns the authority of the artefact's network, nil if its root key is not known.
func (a *artefact) authority(t *testing.T) *Authority {
	t.Helper()
	switch {
	case a.Net == "mainnet" || a.Net == "root-mainnet":
		return authorityOf(t, MainnetRootKey())
	case strings.HasPrefix(a.Net, "root-"):
		return authorityOf(t, a.Beside(t, a.Net+".der"))
	}
	return nil
}

// refused reports whether the artefact must be refused, and checks that it was, for the right reason.
func (a *artefact) refused(t *testing.T, err error) bool {
	t.Helper()
	switch {
	case a.Refuse == "" && err != nil:
		t.Fatal(err)
	case a.Refuse != "" && string(CauseOf(err)) != a.Refuse:
		t.Fatalf("got %v, want it refused with the cause %s", err, a.Refuse)
	}
	return a.Refuse != ""
}

func unhexID(t *testing.T, s string) [32]byte {
	t.Helper()
	b := unhex(t, s)
	if len(b) != 32 {
		t.Fatalf("request id of %d bytes", len(b))
	}
	return [32]byte(b)
}

func checkRootKey(t *testing.T, a *artefact) {
	authority := authorityOf(t, a.Bytes(t))
	if !bytes.Equal(authority.RootKey(), a.Bytes(t)) || authority.IsMainnet() != (a.File == "root-mainnet.der") {
		t.Error("read as another key")
	}
}

func checkPublicKey(t *testing.T, a *artefact) {
	if _, err := parsePublicKey(a.Bytes(t)); err != nil {
		t.Error(err)
	}
}

func checkTree(t *testing.T, a *artefact) {
	var tree Tree
	if err := tree.Parse(a.Bytes(t)); err != nil {
		t.Fatal(err)
	}
	theirs, err := agentTree(bytes.TrimPrefix(a.Bytes(t), []byte(selfDescribeTag)))
	if err != nil {
		t.Fatal(err)
	}
	if theirs.Reconstruct() != tree.Digest() {
		t.Error("another root hash than agent-go's")
	}
}

// rejects reports whether the artefact has that reject message. An empty one must be empty there, null or missing.
func (a *artefact) rejects(t *testing.T, message string) bool {
	t.Helper()
	raw, key := a.Bytes(t), []byte("reject_message")
	if message != "" {
		return bytes.Contains(raw, []byte(message))
	}
	_, value, found := bytes.Cut(raw, key)
	return !found || slices.ContainsFunc([]string{"\x60", "\xf6", "\x82\x03\x40"}, func(empty string) bool { // the last is a leaf
		return bytes.HasPrefix(value, []byte(empty))
	})
}

func checkQueryReply(t *testing.T, a *artefact) {
	q, err := ParseQueryReply(a.Bytes(t))
	if a.refused(t, err) {
		return
	}
	if q.Replied != a.Replied || q.RejectCode != a.RejectCode || q.ErrorCode != a.ErrorCode {
		t.Errorf("read as replied %v, reject code %d, error code %q", q.Replied, q.RejectCode, q.ErrorCode)
	}
	if q.Replied != (q.Arg != nil) || q.Replied && q.RejectMessage != "" || !a.rejects(t, q.RejectMessage) {
		t.Errorf("%d bytes of answer, reject message %q", len(q.Arg), q.RejectMessage)
	}
	if a.NSig != nil && len(q.Signatures) != *a.NSig {
		t.Errorf("%d node signatures, want %d", len(q.Signatures), *a.NSig)
	}
	if a.Key == "" {
		return
	}
	der := a.Beside(t, a.Key)
	nodeKey := func(Principal) ([]byte, bool) { return der, true }
	signed := time.Unix(0, int64(q.Signatures[0].Timestamp))
	if err := q.VerifyNode(unhexID(t, a.RequestID), nodeKey, signed); err != nil {
		t.Errorf("node signature: %v", err)
	}
	if err := q.VerifyNode([32]byte{1}, nodeKey, signed); CauseOf(err) != CauseSignature {
		t.Errorf("node signature holds for another request: %v", err)
	}
}

func checkCallReply(t *testing.T, a *artefact) {
	c, err := ParseCallReply(a.Bytes(t))
	if err != nil {
		t.Fatal(err)
	}
	if c.Rejected != a.Rejected {
		t.Fatalf("read as rejected %v", c.Rejected)
	}
	if !c.Rejected {
		a.checkCertificate(t, c.Certificate)
	} else if c.RejectCode != a.RejectCode || c.ErrorCode != a.ErrorCode || !a.rejects(t, c.RejectMessage) {
		t.Errorf("read as %d %q %q", c.RejectCode, c.ErrorCode, c.RejectMessage)
	}
}

func checkReadState(t *testing.T, a *artefact) {
	cert, err := ParseReadStateReply(a.Bytes(t))
	if err != nil {
		t.Fatal(err)
	}
	a.checkCertificate(t, cert)
}

func checkStatusReply(t *testing.T, a *artefact) {
	key, err := ParseStatusReply(a.Bytes(t))
	if a.refused(t, err) {
		return
	}
	if authority := a.authority(t); authority != nil && !bytes.Equal(authority.RootKey(), key) {
		t.Error("read another root key")
	}
}

// certificateTime returns the time that a certificate states, not verified.
func certificateTime(t *testing.T, raw []byte) time.Time {
	t.Helper()
	parts, err := parseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	c := new(Certificate)
	if err := c.tree.Parse(parts.tree); err != nil {
		t.Fatal(err)
	}
	value, _ := c.tree.Lookup(labelTime)
	ns, err := parseLEB128(value)
	if err != nil {
		t.Fatal(err)
	}
	return time.Unix(0, int64(ns))
}

// anyCanister returns a canister that the certificate is good for.
func anyCanister(t *testing.T, authority *Authority, raw []byte) Principal {
	t.Helper()
	parts, err := parseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !parts.delegated {
		return parsed(t, "ryjl3-tyaaa-aaaaa-aaaba-cai")
	}
	d, err := authority.newDelegation(newProofs(maxCBORValues), parts.subnet, parts.delegation)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat(d.flat, d.sharded)[0].from
}

// checkCertificate verifies a certificate at its own time and reads from it what the manifest tells.
func (a *artefact) checkCertificate(t *testing.T, raw []byte) {
	t.Helper()
	at := certificateTime(t, raw)
	authority := a.authority(t)
	if authority == nil {
		return // its structure was read
	}
	var canister Principal
	if a.Canister == "?" {
		canister = anyCanister(t, authority, raw)
	} else {
		canister = parsed(t, a.Canister)
	}
	c, err := authority.Certificate(raw, canister, at)
	if a.refused(t, err) {
		return
	}
	if !c.Time().Equal(at) {
		t.Errorf("time %s, want %s", c.Time(), at)
	}
	for _, off := range []time.Duration{-MaxClockSkew - 1, MaxCertificateAge + 1} {
		if _, err := authority.Certificate(raw, canister, at.Add(off)); err == nil {
			t.Errorf("accepted %s from its time", off)
		}
	}
	if a.Flat != nil && c.Flat() != *a.Flat {
		t.Errorf("flat %v", c.Flat())
	}
	if a.Nodes != nil {
		if keys, err := NodeKeys(c); err != nil || len(keys) < 13 {
			t.Errorf("%d node keys, %v", len(keys), err)
		}
	}
	a.checkOutcome(t, c)
	want := a.Certified
	if a.Tree != "" {
		var witness Tree
		if err := witness.Parse(a.Beside(t, a.Tree)); err != nil {
			t.Fatal(err)
		}
		digest := witness.Digest()
		want = hex.EncodeToString(digest[:])
	}
	if data, r := c.Lookup(labelCanister, canister.Bytes(), labelCertifiedData); want != "" && hex.EncodeToString(data) != want {
		t.Errorf("certified data is %s %x, want %s", r, data, want)
	}
}

// checkOutcome reads what became of the artefact's request, if it is about one.
func (a *artefact) checkOutcome(t *testing.T, c *Certificate) {
	t.Helper()
	var id [32]byte
	switch {
	case a.RequestOf != "":
		e, err := ParseEnvelope(a.Beside(t, a.RequestOf))
		if err != nil {
			t.Fatal(err)
		}
		id = e.RequestID
	case a.RequestID != "":
		id = unhexID(t, a.RequestID)
	default:
		return
	}
	o, err := c.Outcome(id)
	if err != nil {
		t.Fatal(err)
	}
	if string(o.Status) != a.Outcome || o.RejectCode != a.RejectCode || o.ErrorCode != a.ErrorCode {
		t.Errorf("outcome %s, reject code %d, error code %q", o.Status, o.RejectCode, o.ErrorCode)
	}
	if (o.Status == CallReplied) != (o.Reply != nil) || o.Status != CallRejected && o.RejectMessage != "" || !a.rejects(t, o.RejectMessage) {
		t.Errorf("outcome %s with %d bytes of reply and reject message %q", o.Status, len(o.Reply), o.RejectMessage)
	}
	id[0] ^= 1
	if o, err := c.Outcome(id); err == nil && o.Status != CallUnknown {
		t.Errorf("outcome of another request: %s", o.Status)
	}
}

func checkEnvelope(t *testing.T, a *artefact) {
	raw := a.Bytes(t)
	e, err := ParseEnvelope(raw)
	if err != nil {
		t.Fatal(err)
	}
	if a.RequestID != "" && e.RequestID != unhexID(t, a.RequestID) {
		t.Errorf("request id %x", e.RequestID)
	}
	if !bytes.HasSuffix(raw, e.Raw) || len(raw)-len(e.Raw) > len(selfDescribeTag) {
		t.Error("what would be relayed is not what came")
	}
	framed, err := ParseClientFrame(AppendClientFrame(nil, raw))
	if err != nil || !bytes.Equal(framed.Raw, e.Raw) {
		t.Errorf("in a client's frame: %v", err)
	}
	if !a.Signed {
		return
	}
	authority := authorityOf(t, MainnetRootKey())
	now := time.Unix(0, int64(e.IngressExpiry)).Add(-2 * time.Minute)
	if err := e.CheckExpiry(now); err != nil {
		t.Error(err)
	}
	chain, err := VerifySender(e, now, authority, nil)
	if err != nil {
		t.Fatal(err)
	}
	e.Signature = bytes.Clone(e.Signature)
	e.Signature[len(e.Signature)-1] ^= 1
	for _, cached := range []*SenderChain{nil, chain} {
		if _, err := VerifySender(e, now, authority, cached); err == nil {
			t.Error("a spoilt signature is accepted")
		}
	}
}

func checkSignature(t *testing.T, a *artefact) {
	key, err := parsePublicKey(a.Beside(t, a.Key))
	if err != nil {
		t.Fatal(err)
	}
	msg := unhex(t, a.Msg)
	if err := key.verify(msg, a.Bytes(t), a.authority(t), time.Time{}); err != nil {
		t.Error(err)
	}
	msg[len(msg)-1] ^= 1
	if err := key.verify(msg, a.Bytes(t), a.authority(t), time.Time{}); err == nil {
		t.Error("verifies for another message")
	}
}

func checkFrame(t *testing.T, a *artefact) {
	f, err := ParseFrame(a.Bytes(t))
	if err != nil {
		t.Fatal(err)
	}
	authority, canister, gateway := a.authority(t), parsed(t, a.Canister), parsed(t, a.Gateway)
	at := certificateTime(t, f.Cert)
	v, err := authority.VerifyFrame(f, canister, gateway, at)
	if a.refused(t, err) {
		return
	}
	if v.Nonce != a.Nonce || !v.Time.Equal(at) {
		t.Errorf("nonce %d at %s, want %d at %s", v.Nonce, v.Time, a.Nonce, at)
	}
	if v.Message.Service {
		if _, err := DecodeServiceMessage(v.Message.Content); err != nil {
			t.Error(err)
		}
	}
	// As the canister's answer to a poll, and passed on: what the gateway sends must prove the same.
	reply := &Reply{Messages: []Message{{Client: v.Message.Client, Key: f.Key, Content: f.Content}}, Cert: f.Cert, Tree: f.Tree, EndOfQueue: true}
	page, err := authority.Page(reply, Want{Canister: canister, Gateway: gateway, Nonce: a.Nonce}, at)
	if err != nil {
		t.Fatal(err)
	}
	if m := page.Messages[0]; m.Poison != nil || m.Sequence != v.Message.Sequence {
		t.Errorf("as a page: sequence number %d, %v", m.Sequence, m.Poison)
	}
	sent, err := ParseFrame(page.AppendFrame(nil, 0))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := authority.VerifyFrame(sent, canister, gateway, at); err != nil || again.Nonce != v.Nonce {
		t.Errorf("as passed on: %v", err)
	}
}
