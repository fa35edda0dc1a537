package localnet

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

func malformed() []verify.Cause { return causes(verify.CauseMalformed) }

// candidAttacks are replies that no canister made with a compiler would give.
func candidAttacks() []Attack {
	var list []Attack
	for name, arg := range map[string]string{
		"candid record of itself":             "DIDL\x01\x6c\x01\x00\x00\x01\x00",
		"candid option of itself":             "DIDL\x01\x6e\x00\x01\x00\x01\x01\x01\x01\x01\x01\x01\x01",
		"candid vector of itself":             "DIDL\x01\x6d\x00\x01\x00\x01\x01\x01\x01\x01\x01\x01\x01",
		"candid variant of itself":            "DIDL\x01\x6b\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00",
		"candid table of a billion types":     "DIDL\xff\xff\xff\xff\x03",
		"candid record of a billion fields":   "DIDL\x01\x6c\xff\xff\xff\xff\x03",
		"candid function of a billion types":  "DIDL\x01\x6a\xff\xff\xff\xff\x03",
		"candid service of a billion methods": "DIDL\x01\x69\xff\xff\xff\xff\x03",
		"candid of a billion arguments":       "DIDL\x00\xff\xff\xff\xff\x03",
		"candid that is empty":                "",
		"candid of no arguments":              "DIDL\x00\x00",
		"candid text of an exabyte":           "DIDL\x00\x01\x71\xff\xff\xff\xff\xff\xff\xff\xff\x0f",
		"candid type unknown":                 "DIDL\x01\x40\x01\x00",
		// The right type with a vector whose elements take no bytes.
		"candid vector of a trillion nulls":  "DIDL\x03\x6b\x02\xbc\x8a\x01\x01\xc5\xfe\xd2\x01\x71\x6c\x01\xcc\xb1\xf7\xa7\x03\x02\x6d\x7f\x01\x00\x00\xff\xff\xff\xff\xff\x1f",
		"candid messages of a trillion":      string(pageTable) + "\x00\xff\xff\xff\xff\xff\x1f",
		"candid number of a megabyte":        "DIDL" + string(bytes.Repeat([]byte{0x80}, 1<<20)),
		"candid variant without alternative": string(pageTable) + "\x07",
	} {
		list = append(list, Attack{Name: name, Endpoint: "query", Causes: malformed(), arg: func(*forgery, []byte) []byte { return []byte(arg) }})
	}
	slices.SortFunc(list, func(a, b Attack) int { return strings.Compare(a.Name, b.Name) }) // a map has no order
	return append(list,
		Attack{Name: "candid cut short", Endpoint: "query", Causes: malformed(), arg: func(_ *forgery, arg []byte) []byte { return arg[:len(arg)-1] }},
		Attack{Name: "candid with more behind it", Endpoint: "query", Causes: malformed(), arg: func(_ *forgery, arg []byte) []byte { return append(arg, 0) }},
		Attack{Name: "error text of a megabyte", Endpoint: "query", arg: func(*forgery, []byte) []byte {
			return appendCandidText(append(bytes.Clone(pageTable), 1), string(bytes.Repeat([]byte("\x1b[31m"), 1<<18)))
		}},
		Attack{Name: "every message hidden", Endpoint: "query", arg: func(*forgery, []byte) []byte { return (&page{endOfQueue: true}).appendCandid(nil) }},
		Attack{Name: "queue without messages and end", Endpoint: "query", arg: func(*forgery, []byte) []byte { return (&page{}).appendCandid(nil) }},
		Attack{Name: "rejected by the canister", Endpoint: "query", reject: func(f *forgery) *Reject {
			return &Reject{CanisterReject, "IC0406", string(bytes.Repeat([]byte("no "), 1000))}
		}},
		Attack{Name: "canister not found", Endpoint: "query", reject: func(f *forgery) *Reject { return notFound(f.canister) }},
	)
}

// onAnswer is an attack by a boundary node: what it answers instead.
func onAnswer(name, endpoint string, causes []verify.Cause, lie func(*forgery, *answer, *answerMemo)) Attack {
	return Attack{Name: name, Endpoint: endpoint, Causes: causes, answer: lie}
}

// sendBody is a lie that replaces the body.
func sendBody(body string) func(*forgery, *answer, *answerMemo) {
	return func(_ *forgery, a *answer, _ *answerMemo) { a.body = []byte(body) }
}

const fiftyMegabytes = 50 << 20

// hugeBody and inflatingBody are made once, when first needed, and shared:
// answers are not written to.
var hugeBody = sync.OnceValue(func() []byte {
	head := appendText(append([]byte(selfDescribe), 0xa2), "padding")
	head = appendHead(head, majorBytes, fiftyMegabytes)
	body := append(make([]byte, 0, fiftyMegabytes+64), head...)
	return append(body[:len(head)+fiftyMegabytes], "\x66status\x67replied"...)
})

var inflatingBody = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(make([]byte, fiftyMegabytes)) // into memory: cannot fail
	z.Close()
	return b.Bytes()
})

// answerAttacks are answers of boundary nodes to queries, calls and status.
func answerAttacks() []Attack {
	const signed = "\x6asignatures\x80"
	list := []Attack{
		onAnswer("query with unknown status", "query", malformed(), sendBody(selfDescribe+"\xa2\x66status\x65maybe"+signed)),
		onAnswer("query without status", "query", malformed(), sendBody(selfDescribe+"\xa1"+signed)),
		onAnswer("query without reply", "query", malformed(), sendBody(selfDescribe+"\xa2\x66status\x67replied"+signed)),
		onAnswer("query without argument", "query", malformed(), sendBody(selfDescribe+"\xa3\x66status\x67replied\x65reply\xa0"+signed)),
		onAnswer("query with null reply", "query", malformed(), sendBody(selfDescribe+"\xa3\x66status\x67replied\x65reply\xf6"+signed)),
		onAnswer("query with status twice", "query", malformed(), sendBody(selfDescribe+"\xa3\x66status\x67replied\x66status\x68rejected"+signed)),
		onAnswer("query rejected without code", "query", malformed(), sendBody(selfDescribe+"\xa2\x66status\x68rejected"+signed)),
		onAnswer("query reject code as bytes", "query", malformed(), sendBody(selfDescribe+"\xa3\x66status\x68rejected\x6breject_code\x43\x00\x00\x05"+signed)),
		onAnswer("query reject code as bignum", "query", malformed(), sendBody(selfDescribe+"\xa3\x66status\x68rejected\x6breject_code\xc2\x4a\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a"+signed)),
		onAnswer("query reject code as float", "query", malformed(), sendBody(selfDescribe+"\xa3\x66status\x68rejected\x6breject_code\xfb\x40\x14\x00\x00\x00\x00\x00\x00"+signed)),
		onAnswer("query reject code of 64 bits", "query", nil, sendBody(selfDescribe+"\xa4\x66status\x68rejected\x6breject_code\x1b\xff\xff\xff\xff\xff\xff\xff\xff\x6ereject_message\x60"+signed)),
		onAnswer("query with a billion signatures", "query", malformed(), sendBody(selfDescribe+"\xa1\x6asignatures\x9b\x00\x00\x00\x01\x00\x00\x00\x00")),
		onAnswer("query rejected by nobody", "query", nil, func(f *forgery, a *answer, _ *answerMemo) {
			a.body = f.net.queryRejection(&Reject{CanisterError, "IC0508", "stopped"}, []byte{0x80})
		}),
		onAnswer("query replies replayed", "query", nil, func(f *forgery, a *answer, m *answerMemo) {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.body == nil && f.page != nil {
				m.body = a.body // the first answer with messages, for ever
			}
			if m.body != nil {
				a.body = m.body
			}
		}),
		onAnswer("status with another root key", "status", nil, func(f *forgery, a *answer, _ *answerMemo) {
			a.body = bytes.Replace(a.body, f.net.root.key.der, newBLSKey(seedFor(f.net.opts.Seed, "stranger")).der, 1)
		}),
	}
	for _, endpoint := range []string{"query", "call", "status"} {
		list = append(list,
			onAnswer(endpoint+" with a page for people", endpoint, malformed(), sendBody("<!doctype html><title>502</title>")),
			onAnswer(endpoint+" with an empty body", endpoint, malformed(), sendBody("")),
			onAnswer(endpoint+" 32 deep", endpoint, malformed(), sendBody(string(bytes.Repeat([]byte("\xa1\x66status"), 32)))),
			onAnswer(endpoint+" 10,000 deep", endpoint, malformed(), sendBody(string(bytes.Repeat([]byte{0x81}, 10_000)))),
			onAnswer(endpoint+" with 10,000 deep maps", endpoint, malformed(), sendBody(string(bytes.Repeat([]byte("\xa1\x61x"), 10_000)))),
			onAnswer(endpoint+" of an exabyte", endpoint, malformed(), sendBody(selfDescribe+"\xa1\x66status\x7b\x0f\xff\xff\xff\xff\xff\xff\xff")),
			onAnswer(endpoint+" with a billion fields", endpoint, malformed(), sendBody(selfDescribe+"\xbb\x00\x00\x00\x01\x00\x00\x00\x00")),
			onAnswer(endpoint+" of 50 MB", endpoint, nil, func(_ *forgery, a *answer, _ *answerMemo) { a.body = hugeBody() }),
			onAnswer(endpoint+" that inflates to 50 MB", endpoint, nil, func(_ *forgery, a *answer, _ *answerMemo) {
				a.body = inflatingBody()
				a.header.Set("Content-Encoding", "gzip")
			}),
			onAnswer(endpoint+" dripping", endpoint, nil, func(_ *forgery, a *answer, _ *answerMemo) {
				a.drip, a.dripBytes = time.Second, 1
			}),
			onAnswer(endpoint+" cut short", endpoint, nil, func(_ *forgery, a *answer, _ *answerMemo) {
				a.truncate = max(1, len(a.body)/2)
			}),
			onAnswer(endpoint+" dropped", endpoint, nil, func(_ *forgery, a *answer, _ *answerMemo) { a.drop = true }),
			onAnswer(endpoint+" redirected", endpoint, nil, func(_ *forgery, a *answer, _ *answerMemo) {
				a.status = http.StatusTemporaryRedirect
				a.header.Set("Location", "http://127.0.0.1:9/")
			}),
			onAnswer(endpoint+" refused for a century", endpoint, nil, func(_ *forgery, a *answer, _ *answerMemo) {
				a.status = http.StatusTooManyRequests
				a.header.Set("Retry-After", "3153600000")
				a.header.Set("X-Ic-Error-Cause", "rate_limited")
			}),
			onAnswer(endpoint+" refused with nonsense", endpoint, nil, func(_ *forgery, a *answer, _ *answerMemo) {
				a.status = http.StatusServiceUnavailable
				a.header.Set("Retry-After", "-1e999")
				a.header.Set("X-Ic-Error-Cause", string(bytes.Repeat([]byte("x"), 4000)))
				a.body = bytes.Repeat([]byte("\xff"), 1<<20)
			}),
		)
	}
	return list
}
