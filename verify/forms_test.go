package verify

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// form is a way to write CBOR. The network and its clients differ in all of this.
type form struct {
	open  bool // maps of indefinite length
	wide  int  // bytes of lengths and numbers at least: 0, 1, 2, 4 or 8
	typed bool // byte strings in the tag of typed arrays
	mixed *rand.Rand
}

// pairs is a map with its entries in an order.
type pairs []any

func (f form) head(dst []byte, major byte, n uint64) []byte {
	short := appendCBORHead(nil, int(major), n)
	if f.wide < len(short) {
		return append(dst, short...)
	}
	dst = append(dst, major<<5|map[int]byte{1: 24, 2: 25, 4: 26, 8: 27}[f.wide])
	for i := f.wide - 1; i >= 0; i-- {
		dst = append(dst, byte(n>>(8*i)))
	}
	return dst
}

// append writes v: a number, text, bytes, a list, pairs, nil, a boolean, or CBOR as it is.
func (f form) append(dst []byte, v any) []byte {
	switch v := v.(type) {
	case uint64:
		return f.head(dst, cborUint, v)
	case string:
		return append(f.head(dst, cborText, uint64(len(v))), v...)
	case []byte:
		if f.typed {
			dst = append(dst, 0xd8, tagTypedArray)
		}
		return append(f.head(dst, cborBytes, uint64(len(v))), v...)
	case []any:
		dst = f.head(dst, cborArray, uint64(len(v)))
		for _, x := range v {
			dst = f.append(dst, x)
		}
		return dst
	case pairs:
		order := slices.Collect(slices.Chunk(v, 2))
		if f.mixed != nil {
			f.mixed.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		}
		if f.open {
			dst = append(dst, cborOpenMap)
		} else {
			dst = f.head(dst, cborMap, uint64(len(order)))
		}
		for _, kv := range order {
			dst = f.append(form{wide: f.wide}.append(dst, kv[0]), kv[1])
		}
		if f.open {
			dst = append(dst, cborBreak)
		}
		return dst
	case nil:
		return append(dst, 0xf6)
	case rawCBOR:
		return append(dst, v...)
	}
	panic(fmt.Sprintf("cannot write %T", v))
}

// eachForm calls f with every form, in several orders, with and without the self-describe tag.
func eachForm(t *testing.T, typed bool, f func(t *testing.T, write func(v any) []byte)) {
	t.Helper()
	for _, open := range []bool{false, true} {
		for _, wide := range []int{0, 1, 2, 4, 8} {
			for _, tag := range []string{"", selfDescribeTag} {
				t.Run(fmt.Sprintf("open %v, wide %d, tag %x", open, wide, tag), func(t *testing.T) {
					for seed := range uint64(8) {
						to := form{open: open, wide: wide, typed: typed, mixed: rand.New(rand.NewPCG(seed, 0))}
						f(t, func(v any) []byte { return to.append([]byte(tag), v) })
					}
				})
			}
		}
	}
}

// further are fields that nobody knows yet, of every type that serde writes.
var further = []any{
	"next_field", uint64(7), "", nil, "Status", "replied", "zz_list", []any{uint64(1), []byte{2}, pairs{"a", nil}},
	"score", rawCBOR("\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a"), "debt", rawCBOR("\x38\x63"), "flag", rawCBOR("\xf5"), "when", rawCBOR("\xc1\x1a\x51\x4b\x67\xb0"),
	"nested", pairs{"status", "rejected", "reply", pairs{"arg", []byte("no")}}, "code", rawCBOR("\xe0"),
}

// Whatever form and order an answer to a query has, it says the same, and the node's signature is of what it says.
func TestQueryReplyForms(t *testing.T) {
	t.Parallel()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, 32))
	der := slices.Concat(nodeKeyPrefix, key.Public().(ed25519.PublicKey))
	node := SelfAuthenticating(der)
	now := time.Unix(1_800_000_000, 5)
	id := [32]byte{1, 2, 3}
	for name, tt := range map[string]struct {
		body pairs
		want QueryReply
	}{
		"replied":          {pairs{"status", "replied", "reply", pairs{"arg", []byte("DIDL\x00\x00")}}, QueryReply{Replied: true, Arg: []byte("DIDL\x00\x00")}},
		"replied, nothing": {pairs{"status", "replied", "reply", pairs{"arg", []byte{}}}, QueryReply{Replied: true, Arg: []byte{}}},
		"rejected": {
			pairs{"status", "rejected", "error_code", "IC0536", "reject_code", uint64(5), "reject_message", "no such method"},
			QueryReply{RejectCode: 5, RejectMessage: "no such method", ErrorCode: "IC0536", hasErrorCode: true},
		},
		"rejected, no words": {
			pairs{"status", "rejected", "error_code", "IC0406", "reject_code", uint64(4), "reject_message", ""},
			QueryReply{RejectCode: 4, ErrorCode: "IC0406", hasErrorCode: true},
		},
		"rejected, null error code": {
			pairs{"status", "rejected", "error_code", nil, "reject_code", uint64(4), "reject_message", "x"}, QueryReply{RejectCode: 4, RejectMessage: "x"},
		},
		"rejected, empty error code": {
			pairs{"status", "rejected", "error_code", "", "reject_code", uint64(4), "reject_message", "x"},
			QueryReply{RejectCode: 4, RejectMessage: "x", hasErrorCode: true},
		},
		"rejected, no error code": {
			pairs{"status", "rejected", "reject_code", uint64(1), "reject_message", "\u00fc\u20ac"}, QueryReply{RejectCode: 1, RejectMessage: "\u00fc\u20ac"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			hash := tt.want.signedHash(id, uint64(now.UnixNano()))
			signature := pairs{
				"timestamp", uint64(now.UnixNano()), "signature", ed25519.Sign(key, append([]byte("\x0bic-response"), hash[:]...)),
				"identity", node.Bytes(), "more", pairs{"x", []any{}},
			}
			body := append(append(slices.Clone(tt.body), "signatures", []any{signature}), further...)
			eachForm(t, false, func(t *testing.T, write func(any) []byte) {
				raw := write(body)
				q, err := ParseQueryReply(raw)
				if err != nil {
					t.Fatalf("%v\n%x", err, raw)
				}
				if q.Replied != tt.want.Replied || !bytes.Equal(q.Arg, tt.want.Arg) || (q.Arg == nil) == q.Replied || q.RejectCode != tt.want.RejectCode ||
					q.RejectMessage != tt.want.RejectMessage || q.ErrorCode != tt.want.ErrorCode || q.hasErrorCode != tt.want.hasErrorCode {
					t.Errorf("read %+v\n%x", q, raw)
				}
				if err := q.VerifyNode(id, func(p Principal) ([]byte, bool) { return der, p == node }, now); err != nil {
					t.Errorf("%v\n%x", err, raw)
				}
				for cut := range raw {
					if _, err := ParseQueryReply(raw[:cut]); err == nil {
						t.Fatalf("cut at %d it is accepted: %x", cut, raw)
					}
				}
			})
		})
	}
}

// The other answers of hosts.
func TestReplyForms(t *testing.T) {
	eachForm(t, false, func(t *testing.T, write func(any) []byte) {
		with := func(p pairs) []byte { return write(append(slices.Clone(p), further[4:]...)) } // "Status" is not "status"
		c, err := ParseCallReply(with(pairs{"status", "replied", "certificate", []byte("cert")}))
		if err != nil || c.Rejected || string(c.Certificate) != "cert" {
			t.Errorf("replied: %+v, %v", c, err)
		}
		for name, p := range map[string]pairs{
			"in time":  {"status", "non_replicated_rejection", "error_code", "IC0508", "reject_code", uint64(5), "reject_message", ""},
			"v2":       {"error_code", "IC0508", "reject_code", uint64(5), "reject_message", ""},
			"v2, null": {"error_code", "IC0508", "reject_code", uint64(5), "reject_message", nil},
		} {
			if c, err := ParseCallReply(with(p)); err != nil || !c.Rejected || c.RejectCode != 5 || c.ErrorCode != "IC0508" || c.RejectMessage != "" {
				t.Errorf("%s: %+v, %v", name, c, err)
			}
		}
		if cert, err := ParseReadStateReply(with(pairs{"certificate", []byte("cert")})); err != nil || string(cert) != "cert" {
			t.Errorf("read_state: %q, %v", cert, err)
		}
		if key, err := ParseStatusReply(with(pairs{"root_key", MainnetRootKey(), "replica_health_status", "healthy"})); err != nil || !bytes.Equal(key, MainnetRootKey()) {
			t.Errorf("status: %x, %v", key, err)
		}
		for _, p := range []pairs{{"replica_health_status", "healthy"}, {"root_key", nil}} {
			if _, err := ParseStatusReply(with(p)); CauseOf(err) != CauseMalformed || !strings.Contains(err.Error(), "no root_key in it") {
				t.Errorf("status without a key: %v", err)
			}
		}
	})
}

// Whatever form and order an envelope has, it is the same request of the same sender, and is passed on byte for byte.
func TestEnvelopeForms(t *testing.T) {
	root, session := ed25519FromSeed(t, 1), ed25519FromSeed(t, 2)
	canister := parsed(t, vectorCanister)
	chain := chainOf(t, func(_ int, d *SignedDelegation) { d.Targets = []Principal{Anonymous, canister} }, root, session)
	sender := SelfAuthenticating(root.PublicKey())
	content := pairs{
		"request_type", "call", "canister_id", canister.Bytes(), "method_name", "ws_open", "arg", []byte("DIDL"), "sender", sender.Bytes(),
		"ingress_expiry", uint64(goldenTime.Add(3 * time.Minute).UnixNano()), "nonce", make([]byte, 16),
		"sender_info", pairs{"info", []byte{1}, "signer", canister.Bytes(), "sig", []byte{2}},
	}
	id, err := hashCBOR(form{}.append(nil, content), maxHashValues)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := session.Sign(requestMessage(id))
	if err != nil {
		t.Fatal(err)
	}
	targets := []any{}
	for _, p := range chain[0].Targets {
		targets = append(targets, p.Bytes())
	}
	envelope := pairs{
		"content", content, "sender_pubkey", root.PublicKey(), "sender_sig", signature,
		"sender_delegation", []any{pairs{
			"delegation", pairs{"pubkey", session.PublicKey(), "expiration", uint64(chain[0].Expiration.UnixNano()), "targets", targets, "permissions", nil},
			"signature", chain[0].Signature,
		}},
	}
	for _, typed := range []bool{false, true} {
		eachForm(t, typed, func(t *testing.T, write func(any) []byte) {
			raw := write(envelope)
			e, err := ParseEnvelope(raw)
			if err != nil {
				t.Fatalf("%v\n%x", err, raw)
			}
			if e.RequestID != id || e.Sender != sender || e.Canister != canister || e.MethodName != "ws_open" || !bytes.HasSuffix(raw, e.Raw) {
				t.Errorf("read %+v\n%x", e, raw)
			}
			if _, err := VerifySender(e, goldenTime, nil, nil); err != nil {
				t.Errorf("%v\n%x", err, raw)
			}
			framed, err := ParseClientFrame(write(pairs{"more", []any{uint64(1)}, "envelope", rawCBOR(raw)}))
			if err != nil || !bytes.Equal(framed.Raw, e.Raw) {
				t.Errorf("in a frame: %v\n%x", err, raw)
			}
		})
	}
}
