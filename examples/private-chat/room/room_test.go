package room

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet/candid"
	"github.com/icws-gateway/caddy-icws/examples/localnet/vetkd"
	"github.com/icws-gateway/caddy-icws/verify"
)

// room opens a room of p's with more members, and forgets what they were told of it.
func (p *person) room(members ...*person) uint64 {
	p.w.Helper()
	p.told()
	p.ask("open", nil)
	p.want("room epoch 1 of " + p.name() + ": " + p.name())
	id := p.number("room")
	for _, m := range members {
		p.ask("add", map[string]any{"room": id, "who": m.key.Principal})
	}
	for _, m := range append(members, p) {
		m.told()
	}
	return id
}

func (p *person) name() string {
	for i, other := range p.w.people {
		if other == p {
			return string(rune('A' + i))
		}
	}
	return "?"
}

// getKey asks for the key of an epoch and opens it by nothing but the network's master key; nil if it was refused.
func (p *person) getKey(id, epoch uint64) []byte {
	p.w.Helper()
	transport, err := vetkd.NewTransportKey()
	if err != nil {
		p.w.Fatal(err)
	}
	p.ask("get_key", map[string]any{"room": id, "epoch": epoch, "transport_key": transport.PublicKey()})
	if p.last.ID != candid.ID("key") {
		return nil
	}
	p.want(fmt.Sprintf("key of epoch %d", epoch))
	public, err := vetkd.DerivePublic(p.w.net.VetKDPublicKey(KeyName), p.w.canister.Bytes(), Context)
	if err != nil {
		p.w.Fatal(err)
	}
	encrypted, _ := p.field(p.last, "encrypted_key").([]byte)
	key, err := transport.Open(encrypted, public, Input(id, epoch))
	if err != nil {
		p.w.Fatal(err)
	}
	return key
}

func say(id, epoch, counter uint64, text string) map[string]any {
	return map[string]any{"room": id, "epoch": epoch, "counter": counter, "ciphertext": []byte(text)}
}

// Members get the same key and what is said; others get neither.
func TestMembers(t *testing.T) {
	each(t, func(w *world) {
		a, b, stranger := w.join(), w.join(), w.join()
		id := a.room(b)
		key := a.getKey(id, 1)
		if key == nil || !bytes.Equal(b.getKey(id, 1), key) {
			w.Error("members of a room have different keys")
		}
		if other := a.getKey(a.room(), 1); other == nil || bytes.Equal(other, key) {
			w.Error("two rooms have the same key")
		}
		b.ask("say", say(id, 1, 7, "opaque"))
		a.want("B said 7 in epoch 1: opaque")
		b.want("B said 7 in epoch 1: opaque")
		stranger.want("")

		for _, request := range []struct {
			name   string
			fields map[string]any
		}{
			{"say", say(id, 1, 1, "x")},
			{"get_key", map[string]any{"room": id, "epoch": uint64(1), "transport_key": make([]byte, 48)}},
			{"add", map[string]any{"room": id, "who": stranger.key.Principal}},
			{"remove", map[string]any{"room": id, "who": b.key.Principal}},
			{"close", map[string]any{"room": id}},
		} {
			stranger.ask(request.name, request.fields)
			stranger.want(request.name + " refused: " + string(noRoom))
			request.fields["room"] = uint64(1)
			stranger.ask(request.name, request.fields)
			stranger.want(request.name + " refused: " + string(noRoom))
		}
		b.ask("add", map[string]any{"room": id, "who": stranger.key.Principal})
		b.want("add refused: " + string(notOwner))
		b.ask("remove", map[string]any{"room": id, "who": a.key.Principal})
		b.want("remove refused: " + string(notOwner))
		b.ask("close", map[string]any{"room": id})
		b.want("close refused: " + string(notOwner))
		a.ask("add", map[string]any{"room": id, "who": b.key.Principal})
		a.want("add refused: they are in the room already")
		a.ask("add", map[string]any{"room": id, "who": verify.Anonymous})
		a.want("add refused: nobody in particular cannot be in a room")
		a.ask("remove", map[string]any{"room": id, "who": stranger.key.Principal})
		a.want("remove refused: they are not in the room")
		a.ask("remove", map[string]any{"room": id, "who": a.key.Principal})
		a.want("remove refused: the owner stays: close the room instead")
		b.want("")

		// Who comes back is told where they are; who was told of the room before is told of the same.
		b.open()
		b.want("room epoch 1 of A: AB")
		if b.number("room") != id {
			w.Error("another room")
		}
		a.ask("close", map[string]any{"room": id})
		a.want("left")
		b.want("left")
		a.ask("say", say(id, 1, 1, "x"))
		a.want("say refused: " + string(noRoom))
		stranger.want("")
	})
}

// Whoever is taken out has no part in what comes then, and whoever comes later none in what was before.
func TestEpochs(t *testing.T) {
	each(t, func(w *world) {
		a, b, c := w.join(), w.join(), w.join()
		id := a.room(b)
		first := a.getKey(id, 1)
		a.ask("remove", map[string]any{"room": id, "who": b.key.Principal})
		a.want("room epoch 2 of A: A")
		b.want("left")
		for _, epoch := range []uint64{1, 2} {
			if b.getKey(id, epoch) != nil {
				w.Errorf("a removed member gets the key of epoch %d", epoch)
			}
			b.want("get_key refused: " + string(noRoom))
			b.ask("say", say(id, epoch, 1, "x"))
			b.want("say refused: " + string(noRoom))
		}
		a.ask("say", say(id, 1, 1, "late"))
		a.want("say refused: that epoch is not the present one: encrypt again with its key")
		a.ask("say", say(id, 2, 2, "two"))
		a.want("A said 2 in epoch 2: two")
		b.want("")
		second := a.getKey(id, 2)
		if second == nil || bytes.Equal(second, first) {
			w.Error("a new epoch has the key of the last one")
		}
		if again := a.getKey(id, 1); !bytes.Equal(again, first) {
			w.Error("a member of both epochs gets another key of the first")
		}

		a.ask("add", map[string]any{"room": id, "who": c.key.Principal})
		c.want("room epoch 2 of A: AC")
		if c.getKey(id, 1) != nil {
			w.Error("a member gets a key from before they came")
		}
		c.want("get_key refused: " + string(noKey))
		if !bytes.Equal(c.getKey(id, 2), second) {
			w.Error("another key for who came later")
		}
		if c.getKey(id, 3) != nil || c.getKey(id, 0) != nil {
			w.Error("a key of an epoch that is not")
		}
		c.told()
		c.ask("remove", map[string]any{"room": id, "who": c.key.Principal}) // of one's own accord
		c.want("left")
		a.ask("add", map[string]any{"room": id, "who": b.key.Principal})
		b.want("room epoch 3 of A: AB")
		if b.getKey(id, 2) != nil {
			w.Error("a key from while they were away")
		}
		b.told()
		if third := b.getKey(id, 3); third == nil || bytes.Equal(third, second) {
			w.Error("no new key for who came back")
		}
		if !bytes.Equal(b.getKey(id, 1), first) {
			w.Error("no key of an epoch that they were in")
		}
	})
}

// A member is removed while the network derives the key that they asked for: they do not get it.
func TestRemovedInFlight(t *testing.T) {
	each(t, func(w *world) {
		a, b := w.join(), w.join()
		id := a.room(b)
		transport, err := vetkd.NewTransportKey()
		if err != nil {
			w.Fatal(err)
		}
		ask := request1("get_key", map[string]any{"room": id, "epoch": uint64(1), "transport_key": transport.PublicKey()})
		b.send(ask)
		w.wait() // the canister has called the network
		b.want("")
		a.send(request1("remove", map[string]any{"room": id, "who": b.key.Principal}))
		w.wait()
		b.want("left; get_key refused: " + string(noRoom))

		// The same with a room that is closed.
		id = a.room(b)
		b.send(request1("get_key", map[string]any{"room": id, "epoch": uint64(1), "transport_key": transport.PublicKey()}))
		w.wait()
		a.send(request1("close", map[string]any{"room": id}))
		w.wait()
		b.want("left; get_key refused: " + string(noRoom))
	})
}

func TestTransportKeys(t *testing.T) {
	each(t, func(w *world) {
		a := w.join()
		id := a.room()
		identity := make([]byte, 48)
		identity[0] = 0xc0
		other := bytes.Clone(identity)
		other[47] = 1
		for _, tt := range []struct {
			name   string
			key    []byte
			reason string
		}{
			{"identity", identity, "that is not a transport key"},
			{"nothing", []byte{}, "that is not a transport key"},
			{"short", make([]byte, 47), "that is not a transport key"},
			{"long", make([]byte, 49), "that is not a transport key"},
			// What only the network can tell.
			{"identity with more in it", other, "the network gave no key: ask again later"},
			{"on no curve", bytes.Repeat([]byte{1}, 48), "the network gave no key: ask again later"},
		} {
			a.ask("get_key", map[string]any{"room": id, "epoch": uint64(1), "transport_key": tt.key})
			if got := a.told(); got != "get_key refused: "+tt.reason {
				w.Errorf("%s: %s", tt.name, got)
			}
		}
	})
}

func TestBounds(t *testing.T) {
	each(t, func(w *world) {
		a, b := w.join(), w.join()
		id := a.room(b)
		for i := range maxKeysPerHour {
			if a.getKey(id, 1) == nil {
				w.Fatalf("key %d: %s", i+1, a.told())
			}
		}
		a.getKey(id, 1)
		a.want("get_key refused: you have asked for too many keys: wait an hour")
		if b.getKey(id, 1) == nil {
			w.Error("somebody else's keys count")
		}
		w.net.Advance(time.Hour)
		w.next = 0 // everybody fell silent, and the queue ended
		a.open()
		a.told()
		if a.getKey(id, 1) == nil {
			w.Errorf("an hour later: %s", a.told())
		}
		a.ask("say", say(id, 1, 1, ""))
		a.want("say refused: a message has from 1 to 8000 bytes")
		a.ask("say", say(id, 1, 1, string(make([]byte, maxCiphertext+1))))
		a.want("say refused: a message has from 1 to 8000 bytes")
		a.ask("say", say(id, 1, 1, string(make([]byte, maxCiphertext))))
		a.want("A said 1 in epoch 1: " + string(make([]byte, maxCiphertext)))
		for range maxRoomsOfOwner - 1 {
			a.room()
		}
		a.ask("open", nil)
		a.want("open refused: you have too many rooms: close one first")
		for i := 2; i < maxMembers; i++ {
			a.send(request1("add", map[string]any{"room": id, "who": verify.SelfAuthenticating([]byte{byte(i)})}))
			w.wait()
		}
		a.told()
		a.ask("add", map[string]any{"room": id, "who": verify.SelfAuthenticating([]byte("one more"))})
		a.want("add refused: the room is full: open another one")
	})
}

// What no page sends ends the session in words, and the canister goes on.
func TestHostileMessages(t *testing.T) {
	each(t, func(w *world) {
		for name, payload := range map[string][]byte{
			"nothing":               nil,
			"no Candid":             []byte("hello"),
			"a record":              candid.Encode(candid.Fields(map[string]any{"room": uint64(1)})),
			"another case":          request1("destroy", nil),
			"a case of ours":        request1("said", say(1, 1, 1, "x")),
			"a field missing":       request1("say", map[string]any{"room": uint64(1), "epoch": uint64(1), "counter": uint64(1)}),
			"a field of other type": request1("close", map[string]any{"room": "one"}),
			"too long":              request1("say", say(1, 1, 1, string(make([]byte, maxMessage)))),
			"a vector that is huge": []byte("DIDL\x02\x6d\x01\x6c\x00\x01\x00\xff\xff\xff\xff\x0f"),
			"a record in itself":    []byte("DIDL\x01\x6c\x01\x00\x00\x01\x00"),
		} {
			a := w.join()
			a.send(payload)
			w.wait()
			if got := a.told(); got != "closed" {
				w.Errorf("%s: %q", name, got)
			}
		}
		a := w.join()
		a.room()
	})
}

// The public key that the canister tells is the one that clients derive by themselves.
func TestPublicKey(t *testing.T) {
	each(t, func(w *world) {
		signer := newSigner(w.T)
		r := w.submit(signer, "public_key", candid.Encode(nil))
		w.wait()
		w.wait()
		_, body := w.post(signer, r, "v3", "call") // again: the outcome
		reply, err := verify.ParseCallReply(body)
		if err != nil {
			w.Fatal(err)
		}
		_, id, err := r.Sign(signer)
		if err != nil {
			w.Fatal(err)
		}
		out, err := w.authority.Outcome(reply.Certificate, w.canister, id, w.net.Now())
		if err != nil || out.Status != verify.CallReplied {
			w.Fatalf("%v: %+v", err, out)
		}
		got, err := candid.Read(out.Reply)
		if err != nil {
			w.Fatal(err)
		}
		want, err := vetkd.DerivePublic(w.net.VetKDPublicKey(KeyName), w.canister.Bytes(), Context)
		if err != nil {
			w.Fatal(err)
		}
		if key, _ := got.([]byte); !bytes.Equal(key, want) {
			w.Errorf("%x, not %x", got, want)
		}
	})
}

// An upgrade forgets the rooms, and no room that is opened later has the keys of one before.
func TestUpgrade(t *testing.T) {
	each(t, func(w *world) {
		a := w.join()
		before := a.room()
		key := a.getKey(before, 1)
		if err := w.net.Upgrade(w.canister); err != nil {
			w.Fatal(err)
		}
		w.next = 0
		a.open()
		a.want("")
		a.ask("say", say(before, 1, 1, "x"))
		a.want("say refused: " + string(noRoom))
		if after := a.room(); after <= before || bytes.Equal(a.getKey(after, 1), key) {
			w.Errorf("room %d after room %d", after, before)
		}
	})
}
