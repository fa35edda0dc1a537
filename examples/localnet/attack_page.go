package localnet

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// Attacks are all attacks, in a fixed order. The slice is the caller's.
func Attacks() []Attack {
	return slices.Concat(certificateAttacks(), pageAttacks(), candidAttacks(), answerAttacks(), callAttacks())
}

// AttackNamed finds one of Attacks by its name; ok is false if there is none.
func AttackNamed(name string) (a Attack, ok bool) {
	for _, a := range Attacks() {
		if a.Name == name {
			return a, true
		}
	}
	return Attack{}, false
}

func causes(c ...verify.Cause) []verify.Cause { return c }

// onPage is an attack by what a canister or its subnet certifies.
func onPage(name string, causes []verify.Cause, lie func(*forgery)) Attack {
	return Attack{Name: name, Endpoint: "query", Causes: causes, page: lie}
}

// atTime moves the certified time of a state.
func atTime(r *round, d time.Duration) *node {
	return r.root.with([]byte("time"), leafOf(appendLEB(nil, uint64(r.time.Add(d).UnixNano()))))
}

// forgedDelegation has the root subnet vouch for s with a state of the
// attacker's choice below /subnet/<id> and, if nested, with a delegation of
// its own. Besides that state it shows what else is named.
func forgedDelegation(s *subnet, key *blsKey, ranges []canisterRange, nested []byte, shown ...string) []byte {
	info := (*node)(nil).with([]byte("public_key"), leafOf(s.key.der)).with([]byte("type"), leafOf([]byte("application")))
	if ranges != nil {
		info = info.with([]byte("canister_ranges"), leafOf(appendRanges(nil, ranges)))
	}
	root := (*node)(nil).
		with([]byte("subnet"), mapOf((*node)(nil).with(s.id.Bytes(), mapOf(info)))).
		with([]byte("time"), leafOf(appendLEB(nil, uint64(s.net.Now().UnixNano()))))
	paths := [][][]byte{{[]byte("subnet")}}
	for _, name := range shown {
		paths = append(paths, [][]byte{[]byte(name)})
	}
	cert := (&round{key: key, root: root}).certificate(nested, paths...)
	dst := appendBytes(appendText(appendMap(nil, 2), "subnet_id"), s.id.Bytes())
	return appendBytes(appendText(dst, "certificate"), cert)
}

func certificateAttacks() []Attack {
	list := []Attack{
		onPage("certificate from the future", causes(verify.CauseCertificateFuture), func(f *forgery) {
			f.page.cert = f.sign(atTime(f.round, 10*time.Minute))
		}),
		onPage("certificate of the past", causes(verify.CauseCertificateOld), func(f *forgery) {
			f.page.cert = f.sign(atTime(f.round, -10*time.Minute))
		}),
		// Good still, but not any more when a client reads it.
		onPage("certificate of almost five minutes", causes(verify.CauseCertificateOld), func(f *forgery) {
			f.page.cert = f.sign(atTime(f.round, -4*time.Minute-45*time.Second))
		}),
		// The signature holds, but clients written in JavaScript stumble.
		onPage("certificate with a bignum inside", causes(verify.CauseMalformed), func(f *forgery) {
			f.page.cert = bytes.Replace(f.page.cert, []byte("\x64tree\x83\x01"), []byte("\x64tree\x83\xc2\x41\x01"), 1)
		}),
		onPage("certificate of no time", causes(verify.CauseMalformed, verify.CauseCertificateOld), func(f *forgery) {
			f.page.cert = f.sign(f.round.root.without([]byte("time")))
		}),
		onPage("certificate of an endless time", causes(verify.CauseMalformed, verify.CauseCertificateFuture), func(f *forgery) {
			f.page.cert = f.sign(f.round.root.with([]byte("time"), leafOf(bytes.Repeat([]byte{0x80}, 100_000))))
		}),
		onPage("certificate of another canister", causes(verify.CauseCertifiedData), func(f *forgery) {
			data, _ := f.round.root.lookup([]byte("canister"), f.canister.Bytes(), []byte("certified_data"))
			info := (*node)(nil).with([]byte("certified_data"), leafOf(data))
			other := canisterID(0x80000000001fffff)
			root := f.round.root.with([]byte("canister"), mapOf((*node)(nil).with(other.Bytes(), mapOf(info))))
			f.page.cert = (&round{key: f.subnet.key, root: root}).dataCertificate(f.subnet.delegation(f.layout, f.canister), other)
		}),
		onPage("certificate of other data", causes(verify.CauseCertifiedData), func(f *forgery) {
			f.page.cert = f.certify(hashOf([]byte("other data")))
		}),
		onPage("certificate signed by a stranger", causes(verify.CauseSignature), func(f *forgery) {
			key := newBLSKey(seedFor(f.net.opts.Seed, "stranger"))
			f.page.cert = (&round{key: key, root: f.round.root}).dataCertificate(f.subnet.delegation(f.layout, f.canister), f.canister)
		}),
		onPage("certificate signed with the point at infinity", causes(verify.CauseSignature, verify.CauseMalformed), func(f *forgery) {
			f.page.cert = bytes.Replace(f.page.cert, f.round.sign(), append([]byte{0xc0}, make([]byte, 47)...), 1)
		}),
		onPage("certificate signed with no point", causes(verify.CauseSignature, verify.CauseMalformed), func(f *forgery) {
			f.page.cert = bytes.Replace(f.page.cert, f.round.sign(), bytes.Repeat([]byte{0xff}, 48), 1)
		}),
		onPage("certificate 10,000 deep", causes(verify.CauseMalformed), func(f *forgery) {
			f.page.cert = append([]byte(selfDescribe+"\xa2\x64tree"), deepTree(10_000)...)
		}),
		onPage("certificate of an exabyte", causes(verify.CauseMalformed), func(f *forgery) {
			f.page.cert = []byte(selfDescribe + "\xa2\x64tree\x82\x03\x5b\x0f\xff\xff\xff\xff\xff\xff\xff")
		}),
		onPage("certificate that is empty", causes(verify.CauseMalformed), func(f *forgery) { f.page.cert = nil }),
	}
	delegated := []Attack{
		onPage("delegation of another subnet", causes(verify.CauseRange, verify.CauseSignature), func(f *forgery) {
			f.page.cert = f.delegated(f.stranger().vouched.flat)
		}),
		onPage("certificate by another subnet", causes(verify.CauseRange), func(f *forgery) {
			s := f.stranger()
			f.page.cert = (&round{key: s.key, root: f.round.root}).dataCertificate(s.vouched.flat, f.canister)
		}),
		onPage("delegation for other canisters", causes(verify.CauseRange), func(f *forgery) {
			ranges := []canisterRange{{canisterID(1), canisterID(2)}}
			f.page.cert = f.delegated(forgedDelegation(f.subnet, f.net.root.key, ranges, nil, "time"))
		}),
		onPage("delegation without ranges", causes(verify.CauseRange, verify.CauseDelegation, verify.CauseMalformed), func(f *forgery) {
			f.page.cert = f.delegated(forgedDelegation(f.subnet, f.net.root.key, nil, nil, "time"))
		}),
		onPage("delegation with its range reversed", causes(verify.CauseRange, verify.CauseDelegation, verify.CauseMalformed), func(f *forgery) {
			last := f.subnet.ranges[len(f.subnet.ranges)-1]
			f.page.cert = f.delegated(forgedDelegation(f.subnet, f.net.root.key, []canisterRange{{last.to, last.from}}, nil, "time"))
		}),
		// The signature holds, but clients in use insist on the time.
		onPage("delegation without its time", causes(verify.CauseDelegation), func(f *forgery) {
			f.page.cert = f.delegated(forgedDelegation(f.subnet, f.net.root.key, f.subnet.ranges, nil))
		}),
		onPage("delegation by a stranger", causes(verify.CauseSignature), func(f *forgery) {
			f.page.cert = f.delegated(forgedDelegation(f.subnet, newBLSKey(seedFor(f.net.opts.Seed, "stranger")), f.subnet.ranges, nil, "time"))
		}),
		onPage("delegation within a delegation", causes(verify.CauseDelegation, verify.CauseMalformed), func(f *forgery) {
			s := f.stranger()
			f.page.cert = f.delegated(forgedDelegation(f.subnet, s.key, f.subnet.ranges, s.vouched.flat, "time"))
		}),
		onPage("delegation left out", causes(verify.CauseSignature), func(f *forgery) { f.page.cert = f.delegated(nil) }),
	}
	for i := range delegated {
		delegated[i].Delegated = true
	}
	return append(list, delegated...)
}

// deepTree is a hash tree of nested labels that ends in the middle.
func deepTree(depth int) []byte { return bytes.Repeat([]byte{0x83, 0x02, 0x41, 'x'}, depth) }

func pageAttacks() []Attack {
	list := []Attack{
		onPage("witness without the key", causes(verify.CauseWitness), func(f *forgery) {
			root := f.round.root.digest
			tree := appendBytes([]byte(selfDescribe+"\x83\x02"), websocketLabel)
			f.page.tree, f.page.cert = appendPruned(tree, root), f.certify(labeledDigest(websocketLabel, root))
		}),
		onPage("witness of other messages", causes(verify.CauseWitness), func(f *forgery) {
			messages := f.page.messages
			f.seal([]cdkMessage{{key: messages[0].key + "0", content: []byte("x")}})
			f.page.messages = messages
		}),
		onPage("witness with the leaf at websocket", causes(verify.CauseWitness), func(f *forgery) {
			leaf := hashOf(f.page.messages[0].content)
			tree := appendBytes([]byte(selfDescribe+"\x83\x02"), websocketLabel)
			f.page.messages = f.page.messages[:1]
			f.page.tree = appendBytes(append(tree, 0x82, 0x03), leaf[:])
			f.page.cert = f.certify(labeledDigest(websocketLabel, leafDigest(leaf[:])))
		}),
		onPage("witness with labels in disorder", causes(verify.CauseMalformed, verify.CauseWitness, verify.CauseCertifiedData), func(f *forgery) {
			m := f.page.messages[0]
			leaf := hashOf(m.content)
			a, b := newLabeled([]byte(m.key), leafOf(leaf[:])), newLabeled([]byte("!"), leafOf(leaf[:]))
			fork := newFork(0, a, b)
			tree := appendBytes([]byte(selfDescribe+"\x83\x02"), websocketLabel)
			f.page.messages, f.page.tree = f.page.messages[:1], fork.appendAll(tree)
			f.page.cert = f.certify(labeledDigest(websocketLabel, fork.digest))
		}),
		onPage("witness that is empty", causes(verify.CauseMalformed, verify.CauseWitness), func(f *forgery) { f.page.tree = nil }),
		onPage("witness of an empty array", causes(verify.CauseMalformed, verify.CauseWitness), func(f *forgery) { f.page.tree = []byte{0x80} }),
		onPage("witness 10,000 deep", causes(verify.CauseMalformed), func(f *forgery) {
			f.page.tree = append([]byte(selfDescribe), deepTree(10_000)...)
		}),
		onPage("witness 32 forks deep", nil, func(f *forgery) { f.bury(32) }),
		onPage("witness of an exabyte", causes(verify.CauseMalformed), func(f *forgery) {
			f.page.tree = []byte(selfDescribe + "\x83\x02\x49websocket\x82\x03\x5b\x0f\xff\xff\xff\xff\xff\xff\xff")
		}),
		onPage("content altered", causes(verify.CauseWitness), func(f *forgery) {
			f.page.messages = slices.Clone(f.page.messages)
			m := &f.page.messages[0]
			m.content = bytes.Clone(m.content)
			m.content[len(m.content)-1] ^= 1
		}),
		onPage("nonce repeated", causes(verify.CauseNonce), func(f *forgery) {
			f.page.messages = append(slices.Clone(f.page.messages), f.page.messages[len(f.page.messages)-1])
		}),
		onPage("nonce skipped", causes(verify.CauseNonce), func(f *forgery) {
			list := slices.Clone(f.page.messages)
			gateway, nonce := splitKey(list[len(list)-1].key)
			last := list[len(list)-1]
			last.key = messageKey(gateway, nonce+2)
			f.seal(append(list, last))
		}),
		onPage("nonces backwards", causes(verify.CauseNonce), func(f *forgery) {
			list := slices.Clone(f.page.messages)
			gateway, nonce := splitKey(list[len(list)-1].key)
			last := list[len(list)-1]
			last.key = messageKey(gateway, nonce+1)
			list = append(list, last)
			f.seal(list)
			slices.Reverse(f.page.messages)
		}),
		onPage("nonce at the end of numbers", causes(verify.CauseNonce), func(f *forgery) {
			last := f.page.messages[len(f.page.messages)-1]
			gateway, _ := splitKey(last.key)
			first := last
			first.key, last.key = messageKey(gateway, 1<<64-1), messageKey(gateway, 0)
			f.seal([]cdkMessage{first, last})
		}),
		onPage("messages from before the nonce", causes(verify.CauseNonce), func(f *forgery) {
			// Pages asked from 0 cannot lie this way: the first message serves twice.
			first := f.all[0]
			if f.nonce == 0 {
				f.seal([]cdkMessage{first})
				f.page.messages = []cdkMessage{first, first}
				return
			}
			f.seal([]cdkMessage{first})
		}),
		onPage("keys of another gateway", causes(verify.CauseKey), func(f *forgery) {
			list := slices.Clone(f.page.messages)
			for i := range list {
				_, nonce := splitKey(list[i].key)
				list[i].key = messageKey(f.canister, nonce)
			}
			f.seal(list)
		}),
		onPage("keys with signs", causes(verify.CauseKey), func(f *forgery) { f.rekey("+0000000000000000001") }),
		onPage("keys without number", causes(verify.CauseKey), func(f *forgery) { f.rekey("") }),
		onPage("keys of a megabyte", causes(verify.CauseKey, verify.CauseMalformed), func(f *forgery) { f.rekey(strings.Repeat("0", 1<<20)) }),
		onPage("endless queue", nil, func(f *forgery) { f.page.endOfQueue = false }),
		onPage("page of 5,000 messages", nil, func(f *forgery) {
			m := f.page.messages[0]
			gateway, nonce := splitKey(m.key)
			var list []cdkMessage
			for i := range uint64(5000) {
				k := otherClient(m.client)
				list = append(list, cdkMessage{client: k, key: messageKey(gateway, nonce+i), content: appendMessageContent(nil, k, i+1, 0, false, nil)})
			}
			f.seal(list)
		}),
	}
	for _, p := range []struct {
		name   string
		causes []verify.Cause
		change func(*cdkMessage)
	}{
		{"client keys swapped outside", causes(verify.CauseClientKey), func(m *cdkMessage) { m.client = otherClient(m.client) }},
		{"client keys swapped inside", causes(verify.CauseClientKey), func(m *cdkMessage) {
			m.content = appendMessageContent([]byte(selfDescribe), otherClient(m.client), 1, 0, false, []byte("x"))
		}},
		{"content that is empty", causes(verify.CauseMalformed), func(m *cdkMessage) { m.content = nil }},
		{"content that is text", causes(verify.CauseMalformed), func(m *cdkMessage) { m.content = []byte("<html>") }},
		{"content 10,000 deep", causes(verify.CauseMalformed), func(m *cdkMessage) { m.content = bytes.Repeat([]byte{0x81}, 10_000) }},
		{"content of an exabyte", causes(verify.CauseMalformed), func(m *cdkMessage) { m.content = []byte("\xa1\x67content\x5b\x0f\xff\xff\xff\xff\xff\xff\xff") }},
		{"content with more behind it", causes(verify.CauseMalformed), func(m *cdkMessage) { m.content = append(bytes.Clone(m.content), 0) }},
	} {
		a := onPage(p.name, p.causes, func(f *forgery) {
			list := slices.Clone(f.page.messages)
			for i := range list {
				p.change(&list[i])
			}
			f.seal(list)
		})
		a.Poison = true
		list = append(list, a)
	}
	// What is certified and addressed as it should be, and still no use to a
	// client: sequence numbers that jump or repeat, a service message that is none.
	for _, p := range []struct {
		name   string
		change func(*verify.WebsocketMessage)
	}{
		{"sequence number skipped", func(m *verify.WebsocketMessage) { m.Sequence++ }},
		{"sequence number at the end of numbers", func(m *verify.WebsocketMessage) { m.Sequence = 1<<64 - 1 }},
		{"service message of garbage", func(m *verify.WebsocketMessage) {
			m.Service, m.Content = true, []byte("DIDL\x01\x6c\x01\x00\x00\x01\x00")
		}},
	} {
		list = append(list, onPage(p.name, nil, func(f *forgery) {
			messages := slices.Clone(f.page.messages)
			for i := range messages {
				w, err := readContent(messages[i].content)
				if err != nil { // another attack was here before
					continue
				}
				p.change(&w)
				messages[i].content = appendMessageContent([]byte(selfDescribe), w.Client, w.Sequence, w.Timestamp, w.Service, w.Content)
			}
			f.seal(messages)
		}))
	}
	return list
}

// splitKey takes a message key apart.
func splitKey(key string) (gateway verify.Principal, nonce uint64) {
	text, digits, _ := strings.Cut(key, "_")
	gateway, _ = verify.ParsePrincipal(text)
	for _, c := range digits {
		nonce = nonce*10 + uint64(c-'0')
	}
	return gateway, nonce
}

// rekey gives all messages keys that end with suffix instead of the number.
func (f *forgery) rekey(suffix string) {
	list := slices.Clone(f.page.messages)[:1]
	text, _, _ := strings.Cut(list[0].key, "_")
	list[0].key = text + "_" + suffix
	f.seal(list)
}

// bury puts the messages below a number of forks with nothing else of note: a
// witness deeper than some readers expect, and true.
func (f *forgery) bury(forks int) {
	list := f.page.messages
	var tree witnessTree = rbWitness{}
	var keys []string
	for _, m := range list {
		leaf := hashOf(m.content)
		tree = tree.with(m.key, leaf[:])
		keys = append(keys, m.key)
	}
	inner := tree.(rbWitness).root
	digest, head := inner.digest, []byte(nil)
	pruned := hashOf([]byte("nothing of note"))
	var tail []byte
	for range forks {
		head = append(head, 0x83, 0x01)
		tail = append(tail, appendPruned(nil, pruned)...)
		digest = forkDigest(digest, pruned)
	}
	dst := appendBytes([]byte(selfDescribe+"\x83\x02"), websocketLabel)
	dst = inner.appendRange(append(dst, head...), keys[0], keys[len(keys)-1])
	f.page.tree, f.page.cert = append(dst, tail...), f.certify(labeledDigest(websocketLabel, digest))
}
