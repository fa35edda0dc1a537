//go:build e2e

package opinion

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// frameOf writes a frame as gateways do.
func frameOf(key, content, cert, tree []byte) []byte {
	return mapItem("key", textItem(string(key)), "content", bytesItem(content), "cert", bytesItem(cert), "tree", bytesItem(tree)).encode()
}

// asFrames gives every case a frame: what a gateway would pass on that verifies nothing.
func asFrames(cases []*testCase) []*testCase {
	for _, c := range cases {
		m := c.reply.Messages[c.message]
		c.frame = frameOf(m.Key, m.Content, c.reply.Cert, c.reply.Tree)
	}
	return cases
}

// handshakes are cases of a session that begins in an odd way and goes on well.
func handshakes(w *world) (cases []*testCase) {
	good := newPage(w, rand.New(rand.NewPCG(1, 2)))
	good.layout = "flat"
	add := func(how string, handshake []byte) {
		c := asFrames(good.build(1))[0]
		odd := *w
		odd.handshake = handshake
		c.kind, c.part, c.how, c.world = "handshake", "handshake", how, &odd
		cases = append(cases, c)
	}
	plain := func() *item { return mapItem("gateway_principal", bytesItem(w.gateway.Bytes())) }
	for _, how := range twistKinds {
		for seed := range uint64(8) {
			if raw, did := plain().twisted(rand.New(rand.NewPCG(seed, 3)), how); did {
				add(how, raw)
			}
		}
	}
	for _, n := range []int{0, 1, 10, 29, 30, 64} {
		add(fmt.Sprint("principal of ", n), mapItem("gateway_principal", bytesItem(make([]byte, n))).encode())
	}
	add("empty", nil)
	add("frame", good.build(1)[0].reply.Cert)
	return cases
}

// disorders are cases of a session whose frames are dropped, repeated, swapped, or as they were.
func disorders(w *world) (cases []*testCase) {
	var frames [][]byte
	for i := range uint64(3) {
		frames = append(frames, onFrame(func(p *page) {
			p.nonce = i
			p.content = w.content(i == 0).entry("sequence_num", uintItem(i+1))
		})(w).frame)
	}
	for _, order := range [][]int{{0, 1, 2}, {0}, {1}, {0, 0}, {0, 2}, {0, 1, 1}, {0, 1, 0}, {0, 2, 1}, {1, 0}} {
		c := &testCase{kind: "order", how: fmt.Sprint(order), world: w, now: w.now, reply: &verify.Reply{}}
		if slices.Equal(order, []int{0, 1, 2}) {
			c.kind = "good"
		}
		for _, i := range order[:len(order)-1] {
			c.earlier = append(c.earlier, frames[i])
		}
		c.frame = frames[order[len(order)-1]]
		cases = append(cases, c)
	}
	return cases
}

// laterTimes are cases of a session whose second message is certified long before or after the first: the first one's time is what
// both take for the present, to the minute.
func laterTimes(w *world) (cases []*testCase) {
	for _, off := range []time.Duration{
		0, 4*time.Minute + 59*time.Second, 5*time.Minute + time.Second, -4*time.Minute - 59*time.Second, -5*time.Minute - time.Second,
		time.Hour, -time.Hour,
	} {
		first := onFrame(func(*page) {})(w)
		c := onFrame(func(p *page) {
			p.nonce = 1
			p.content = w.content(false).entry("sequence_num", uintItem(2))
			p.at = timeLeaf(w.now.Add(-off))
		})(w)
		c.kind, c.how, c.earlier = "time of a later message", off.String(), [][]byte{first.frame}
		if off == 0 {
			c.kind = "good"
		}
		cases = append(cases, c)
	}
	return cases
}

// serviceMessage is the payload of a message of the protocol: the number of its variant, by the hash of its name, and what is in it.
func serviceMessage(w *world, variant byte, rest ...byte) []byte {
	open := w.payload(true) // the same types, then variant 0 and a client key
	types := len(open) - 1 - 2 - len(w.client.Principal.Bytes()) - 8
	return append(append(bytes.Clone(open[:types]), variant), rest...)
}

// afterOpening makes a case of an open session that then gets a message of the protocol.
func afterOpening(w *world, how string, payload []byte) *testCase {
	opening := onFrame(func(p *page) { p.content = w.content(true) })(w)
	c := onFrame(func(p *page) {
		p.nonce = 1
		p.content = w.content(true).entry("sequence_num", uintItem(2)).entry("content", bytesItem(payload))
	})(w)
	c.kind, c.how, c.earlier = "service", how, [][]byte{opening.frame}
	return c
}

// serviceMessages are cases of each message of the protocol.
func serviceMessages(w *world) (cases []*testCase) {
	count := func(n byte) []byte { return []byte{n, 0, 0, 0, 0, 0, 0, 0} }
	for reason := range byte(5) {
		cases = append(cases, afterOpening(w, fmt.Sprint("close ", reason), serviceMessage(w, 2, reason)))
	}
	other := w.payload(true)
	other[len(other)-1] ^= 1
	return append(cases,
		afterOpening(w, "ack", serviceMessage(w, 3, count(0)...)), afterOpening(w, "ack of more", serviceMessage(w, 3, count(1)...)),
		afterOpening(w, "keep-alive", serviceMessage(w, 1, count(0)...)), afterOpening(w, "unknown", serviceMessage(w, 4)),
		afterOpening(w, "open again", w.payload(true)), afterOpening(w, "open of another", other), afterOpening(w, "nothing", nil))
}

// outcome is what an application sees: a close code with its text, or nothing.
func outcome(verdict string) string {
	how, _, _ := strings.Cut(verdict, ":")
	return how
}

// TestClientAgrees has the same frames judged by the published SDK and by the client of this repository, good ones and
// damaged ones: what one accepts the other accepts, and what ends one ends the other with the same code and text.
func TestClientAgrees(t *testing.T) {
	prepareClients(t)
	seed, n := number(t, "ICWS_OPINION_SEED", 20261126), int(number(t, "ICWS_OPINION_N", 1500))
	w := newWorld()
	var pages []*testCase
	for i := uint64(0); len(pages) < n/3; i++ {
		pages = append(pages, asFrames(randomPage(w, rand.New(rand.NewPCG(seed, i))))...)
	}
	t.Run("pages", func(t *testing.T) { agree(t, seed, pages) })
	t.Run("handshakes", func(t *testing.T) { agree(t, seed, handshakes(w)) })
	t.Run("order", func(t *testing.T) { agree(t, seed, disorders(w)) })
	t.Run("service", func(t *testing.T) { agree(t, seed, serviceMessages(w)) })
	t.Run("time", func(t *testing.T) { agree(t, seed, laterTimes(w)) })
	t.Run("corruption", func(t *testing.T) {
		c := onFrame(func(*page) {})(w)
		agree(t, seed, corrupted(recording{w, w.now, [][]byte{c.frame}}, corruptionStride))
	})
	for _, r := range recordings(t) {
		for i := range r.frames {
			t.Run(fmt.Sprintf("recorded %s frame %d", r.now.Format(time.DateOnly), i+1), func(t *testing.T) {
				agree(t, seed, corrupted(recording{r.world, r.now, r.frames[:i+1]}, corruptionStride))
			})
		}
	}
}

// sides are those that are compared. The SDK reserves memory by what a length says: with little it ends sooner.
func sides() []opinions {
	every := func(c *testCase) bool { return true }
	return append(ourClient(every), opinions{"sdk", "sdk", []string{"node", "--max-old-space-size=256", "opinion.mjs"}, nil, every})
}

// agree compares the two clients over all cases, but for listed differences.
func agree(t *testing.T, seed uint64, cases []*testCase) {
	t.Helper()
	for i, c := range cases {
		c.number = i
	}
	verdicts := askOf(t, cases, sides())
	accepted, listed := 0, map[string]int{}
	type alike struct{ name, what string }
	count := map[alike]int{}
	for i, c := range cases {
		sdk := outcome(verdicts[i]["sdk"])
		if sdk == "" {
			accepted++
		} else if c.kind == "good" && !strings.HasPrefix(sdk, "4001") {
			t.Errorf("the SDK refuses a good frame: %q\n%s", verdicts[i]["sdk"], c.line())
		}
		for _, name := range ours {
			if outcome(verdicts[i][name]) == sdk && sdk != endedProcess {
				continue
			}
			if d := clientDifference(c, verdicts[i]["sdk"], verdicts[i][name]); d != nil {
				listed[d.name]++
				continue
			}
			key := alike{c.name(), fmt.Sprintf("sdk %q, %s %q", verdicts[i]["sdk"], name, verdicts[i][name])}
			if count[key]++; count[key] == 1 {
				t.Errorf("case %d of seed %d: %s: %s", i, seed, c.name(), key.what)
			}
		}
	}
	t.Logf("%d cases, the SDK accepts %d, listed differences %v", len(cases), accepted, listed)
}

// clientKnown is a difference between the SDK and the client that is meant.
type clientKnown struct {
	name, reason string
	match        func(c *testCase, sdk, client string) bool
	make         func(w *world) *testCase // a case that shows it
}

// saying matches what the client says of a frame.
func saying(texts ...string) func(*testCase, string, string) bool {
	return func(_ *testCase, _, client string) bool {
		return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(client, text) })
	}
}

// onFrame makes a case of a page in which change has made something odd.
func onFrame(change func(p *page)) func(w *world) *testCase {
	return func(w *world) *testCase {
		p := newPage(w, rand.New(rand.NewPCG(5, 5)))
		p.layout, p.service = "flat", false
		p.content = w.content(false)
		change(p)
		return asFrames(p.build(1))[0]
	}
}

// onHandshake makes a case with another handshake.
func onHandshake(handshake func(w *world) []byte) func(w *world) *testCase {
	return func(w *world) *testCase {
		odd := *w
		odd.handshake = handshake(w)
		return onFrame(func(*page) {})(&odd)
	}
}

// clientDifferences are all that are known. Each is shown by a case of its own: one that is gone is to be struck out.
var clientDifferences = []clientKnown{
	{
		"sharded ranges", "the SDK's agent reads the older layout of canister ranges alone, which the network is about to drop",
		func(c *testCase, _, client string) bool { return c.layout == "sharded" && client == "" },
		onFrame(func(p *page) { p.layout = "sharded" }),
	},
	{
		"a clock that is wrong", "the SDK holds certificates against this device's clock alone; the first message of a session is not older than the session, so the client corrects its clock by it",
		func(c *testCase, _, client string) bool {
			return (c.kind == "time" && is(c.part, "certificate", "odd") || c.how == "clock") && client == ""
		},
		func(w *world) *testCase {
			c := onFrame(func(p *page) { p.at = timeLeaf(w.now.Add(-6 * time.Minute)) })(w)
			c.how = "clock"
			return c
		},
	},
	{
		"recipient", "the SDK does not look at whose message it is: a gateway could give one client the messages of another",
		saying("a message for another session"),
		onFrame(func(p *page) {
			p.content.entry("client_key", mapItem("client_principal", bytesItem(p.w.client.Principal.Bytes()), "client_nonce", uintItem(1)))
		}),
	},
	{
		"a leaf in place of the queue", "the SDK takes a lone leaf at websocket for whatever message it is shown with; no canister writes one, and it would prove no place in a queue",
		saying("nothing is certified at websocket"),
		onFrame(func(p *page) {
			p.shape = inTree("witness", func(t *node) *node {
				return t.each(func(t *node) *node {
					if t.kind != nLabeled || string(t.b) != "websocket" {
						return t
					}
					var message *node
					t.each(func(t *node) *node {
						if t.kind == nLeaf {
							message = t
						}
						return t
					})
					return labeled("websocket", message)
				})
			})
		}),
	},
	{
		"ack of what was not sent", "the SDK looks at the number of an ack only while it waits for one",
		saying("the canister acknowledges message"),
		func(w *world) *testCase {
			return afterOpening(w, "ack of more", serviceMessage(w, 3, 1, 0, 0, 0, 0, 0, 0, 0))
		},
	},
	{
		"fields of a message", "the SDK reads numbers out of texts and does not look at the time, the client's key or the types of what it does not use; canisters write them all",
		saying("the content of a frame is not a message", "a message without a number where one belongs"),
		onFrame(func(p *page) { p.content.entry("timestamp", &item{major: mNeg, n: 1}) }),
	},
	{
		"CBOR that nobody writes", "floats, bignums, tags, strings in parts and names that are no texts are read by the SDK's two decoders, each in its way, and not by @icp-sdk/core; no canister, replica or gateway writes them",
		saying("Failed to decode CBOR"),
		onFrame(func(p *page) { p.content.entry("sequence_num", rawItem(0xc2, 0x41, 1)) }),
	},
	{
		"names of entries", "the SDK's decoder does not read a text whose length takes eight bytes, and takes an entry named __proto__ for more than an entry",
		func(c *testCase, _, client string) bool {
			return is(c.how, "wide", "__proto__") && client == ""
		},
		func(w *world) *testCase {
			c := onHandshake(func(w *world) []byte {
				name := append(appendHead(nil, mText, 17, 8), "gateway_principal"...)
				return bytesItem(w.gateway.Bytes()).append(append([]byte{0xa1}, name...), nil)
			})(w)
			c.part, c.how = "handshake", "wide"
			return c
		},
	},
	{
		"bytes after the end", "what comes after the end of a CBOR value is no part of it, and of nothing that is signed; the SDK refuses it if it is the beginning of another value",
		func(c *testCase, _, client string) bool {
			return (c.how == "trail" || c.how == fmt.Sprint("twice at ", len(c.frame)-2)) && client == ""
		},
		func(w *world) *testCase {
			c := onFrame(func(p *page) {
				p.bytes = func(part string, b []byte) []byte {
					if part == "certificate" {
						b = append(b, 0xa1)
					}
					return b
				}
			})(w)
			c.part, c.how = "certificate", "trail"
			return c
		},
	},
	{
		"lengths that end the process", "the SDK reserves memory by what a length says, before it looks whether there is as much: a page of it ends as well; the client refuses such a frame",
		func(_ *testCase, sdk, client string) bool {
			return sdk == endedProcess && strings.HasPrefix(client, "4000 Error receiving message")
		},
		func(w *world) *testCase {
			c := onFrame(func(*page) {})(w)
			c.how = "longer"
			at := bytes.LastIndex(c.frame, []byte("dtree")) + len("dtree")
			c.frame[at] += 2 // the length of the witness takes four bytes, which are those of its beginning
			return c
		},
	},
	{
		"long principals", "there are none of more than 29 bytes; the SDK signs a ws_open for them, which no network takes",
		saying("does not name the gateway's principal"),
		onHandshake(func(*world) []byte { return mapItem("gateway_principal", bytesItem(make([]byte, 30))).encode() }),
	},
}

func clientDifference(c *testCase, sdk, client string) *clientKnown {
	for i := range clientDifferences {
		if clientDifferences[i].match(c, sdk, client) {
			return &clientDifferences[i]
		}
	}
	return nil
}

// TestClientDifferences shows that the listed differences between the SDK and the client are there.
func TestClientDifferences(t *testing.T) {
	prepareClients(t)
	w := newWorld()
	var cases []*testCase
	for i, d := range clientDifferences {
		c := d.make(w)
		c.number, c.kind = i, "directed"
		cases = append(cases, c)
	}
	verdicts := askOf(t, cases, sides())
	for i, d := range clientDifferences {
		t.Run(d.name, func(t *testing.T) {
			for _, name := range ours {
				sdk, client := verdicts[i]["sdk"], verdicts[i][name]
				if outcome(sdk) == outcome(client) {
					t.Errorf("%s does not differ any more, strike the difference out or correct it: both say %q, %q\nlisted because %s", name, sdk, client, d.reason)
				} else if found := clientDifference(cases[i], sdk, client); found == nil || found.name != d.name {
					t.Errorf("%s: the case is not one of this difference: sdk %q, client %q, %v", name, sdk, client, found)
				}
			}
		})
	}
}
