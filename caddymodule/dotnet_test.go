package caddymodule

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/certification"
	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/verify"
)

// dotnet is the client for .NET and Unity, EdjCase.ICP.WebSockets, as far as its bytes go. It writes the envelope and each
// delegation as maps of indefinite length, with its own order of fields, without a tag and without a nonce, good for 30
// seconds; its ws_message has one argument; and of what it receives it demands the tag on certificates and witnesses and
// that there be none on frames. Nothing here is made by this project's encoders.
type dotnet struct {
	t       *testing.T
	conn    *websocket.Conn
	gateway verify.Principal

	canister      verify.Principal
	root, session ed25519.PrivateKey
	nonce         uint64
	out, in       uint64 // sequence numbers
}

// The CBOR that System.Formats.Cbor writes: heads as short as they go.
func dotnetHead(major byte, n uint64) []byte {
	switch m := major << 5; {
	case n < 24:
		return []byte{m | byte(n)}
	case n < 1<<8:
		return []byte{m | 24, byte(n)}
	case n < 1<<16:
		return binary.BigEndian.AppendUint16([]byte{m | 25}, uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32([]byte{m | 26}, uint32(n))
	default:
		return binary.BigEndian.AppendUint64([]byte{m | 27}, n)
	}
}

func dotnetText(s string) []byte  { return append(dotnetHead(3, uint64(len(s))), s...) }
func dotnetBytes(b []byte) []byte { return append(dotnetHead(2, uint64(len(b))), b...) }
func dotnetUint(n uint64) []byte  { return dotnetHead(0, n) }

// dotnetMap writes a map, of indefinite length if open. kv are keys and encoded values in turn.
func dotnetMap(open bool, kv ...[]byte) []byte {
	out := []byte{0xbf}
	if !open {
		out = dotnetHead(5, uint64(len(kv)/2))
	}
	out = append(out, bytes.Join(kv, nil)...)
	if open {
		out = append(out, 0xff)
	}
	return out
}

func dotnetKey(key ed25519.PrivateKey) []byte {
	return append([]byte("\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"), key.Public().(ed25519.PublicKey)...)
}

// call sends a ws_open or ws_message.
func (d *dotnet) call(method string, arg []byte) {
	d.t.Helper()
	now := time.Now()
	sender := verify.SelfAuthenticating(dotnetKey(d.root))
	expiry := uint64(now.Add(30 * time.Second).UnixNano())
	until := uint64(now.Add(time.Hour).UnixNano())

	delegation := d.hash(map[string]any{"pubkey": dotnetKey(d.session), "expiration": until, "targets": []any{d.canister.Bytes()}})
	id := d.hash(map[string]any{"request_type": "call", "canister_id": d.canister.Bytes(), "method_name": method, "arg": arg,
		"sender": sender.Bytes(), "ingress_expiry": expiry})
	content := dotnetMap(false,
		dotnetText("request_type"), dotnetText("call"),
		dotnetText("canister_id"), dotnetBytes(d.canister.Bytes()),
		dotnetText("method_name"), dotnetText(method),
		dotnetText("arg"), dotnetBytes(arg),
		dotnetText("sender"), dotnetBytes(sender.Bytes()),
		dotnetText("ingress_expiry"), dotnetUint(expiry))
	chain := append(dotnetHead(4, 1), dotnetMap(false,
		dotnetText("delegation"), dotnetMap(true,
			dotnetText("pubkey"), dotnetBytes(dotnetKey(d.session)),
			dotnetText("expiration"), dotnetUint(until),
			dotnetText("targets"), append(dotnetHead(4, 1), dotnetBytes(d.canister.Bytes())...)),
		dotnetText("signature"), dotnetBytes(ed25519.Sign(d.root, append([]byte("\x1aic-request-auth-delegation"), delegation[:]...))))...)
	frame := dotnetMap(false, dotnetText("envelope"), dotnetMap(true,
		dotnetText("content"), content,
		dotnetText("sender_pubkey"), dotnetBytes(dotnetKey(d.root)),
		dotnetText("sender_delegation"), chain,
		dotnetText("sender_sig"), dotnetBytes(ed25519.Sign(d.session, append([]byte("\x0aic-request"), id[:]...)))))
	if err := d.conn.WriteMessage(websocket.BinaryMessage, frame); err != nil {
		d.t.Fatal(err)
	}
}

func (d *dotnet) hash(m map[string]any) [32]byte {
	d.t.Helper()
	h, err := certification.HashAny(m)
	if err != nil {
		d.t.Fatal(err)
	}
	return h
}

// Candid as that client orders its type tables: the outermost type first.

func (d *dotnet) principal(p verify.Principal) []byte {
	b := p.Bytes()
	return append([]byte{1, byte(len(b))}, b...)
}

func (d *dotnet) open() {
	arg := []byte("DIDL\x01\x6c\x02\xf3\xee\xc6\xb4\x02\x68\xbb\xd1\xea\xcd\x0e\x78\x01\x00")
	arg = append(arg, d.principal(d.gateway)...)
	d.call("ws_open", binary.LittleEndian.AppendUint64(arg, d.nonce))
}

func (d *dotnet) send(service bool, content []byte) {
	d.out++
	arg := []byte("DIDL\x04" +
		"\x6c\x01\xc1\xb4\xcc\x02\x01" + // record { msg : 1 }
		"\x6c\x05\x88\xec\xfb\xa7\x01\x78\xb9\x9a\xde\xcb\x01\x02\xeb\xb4\x9c\xe9\x03\x03\xd6\xa9\xbb\xae\x0a\x78\xe8\xf5\xc3\xbe\x0a\x7e" +
		"\x6d\x7b" + // vec nat8
		"\x6c\x02\xfa\x80\xa2\x94\x05\x68\xbb\xd1\xea\xcd\x0e\x78" + // the client key
		"\x01\x00") // one argument
	arg = binary.LittleEndian.AppendUint64(arg, d.out)
	arg = append(binary.AppendUvarint(arg, uint64(len(content))), content...)
	arg = append(arg, d.principal(verify.SelfAuthenticating(dotnetKey(d.root)))...)
	arg = binary.LittleEndian.AppendUint64(arg, d.nonce)
	arg = binary.LittleEndian.AppendUint64(arg, uint64(time.Now().UnixNano()))
	flag := byte(0)
	if service {
		flag = 1
	}
	d.call("ws_message", append(arg, flag))
}

// keepAlive answers an acknowledgement with a variant of one alternative.
func (d *dotnet) keepAlive() {
	arg := []byte("DIDL\x02\x6b\x01\xff\xfb\x95\xb4\x09\x01\x6c\x01\xd8\x88\xab\xb9\x0a\x78\x01\x00\x00")
	copy(arg[7:], binary.AppendUvarint(nil, 2525358527)) // the id of KeepAliveMessage
	d.send(true, binary.LittleEndian.AppendUint64(arg, d.in))
}

// receive reads a frame and checks it as that client does, and that it is proved.
func (d *dotnet) receive(authority *verify.Authority, now time.Time) verify.WebsocketMessage {
	d.t.Helper()
	if err := d.conn.SetReadDeadline(time.Now().Add(hung)); err != nil {
		d.t.Fatal(err)
	}
	kind, raw, err := d.conn.ReadMessage()
	if err != nil {
		d.t.Fatal(err)
	}
	frame, err := verify.ParseFrame(raw)
	if err != nil {
		d.t.Fatal(err)
	}
	tag := []byte("\xd9\xd9\xf7")
	if kind != websocket.BinaryMessage || bytes.HasPrefix(raw, tag) || !bytes.HasPrefix(frame.Cert, tag) || !bytes.HasPrefix(frame.Tree, tag) {
		d.t.Errorf("frame tagged %v, certificate %v, witness %v", bytes.HasPrefix(raw, tag), bytes.HasPrefix(frame.Cert, tag), bytes.HasPrefix(frame.Tree, tag))
	}
	v, err := authority.VerifyFrame(frame, d.canister, d.gateway, now)
	if err != nil {
		d.t.Fatal(err)
	}
	if d.in++; v.Message.Sequence != d.in || v.Message.Client.Nonce != d.nonce {
		d.t.Errorf("message %d of nonce %d, want %d of %d", v.Message.Sequence, v.Message.Client.Nonce, d.in, d.nonce)
	}
	return v.Message
}

// receiveService reads a frame that holds a service message.
func (d *dotnet) receiveService(authority *verify.Authority, now time.Time, want verify.ServiceKind) {
	d.t.Helper()
	m := d.receive(authority, now)
	s, err := verify.DecodeServiceMessage(m.Content)
	if err != nil || !m.Service || s.Kind != want {
		d.t.Fatalf("got %+v (service %v), %v, want %s", s, m.Service, err, want)
	}
}

// TestDotNetClient lets the client for .NET and Unity open, talk, and answer an acknowledgement.
func TestDotNetClient(t *testing.T) {
	w := newWorld(t, 0)
	canister := w.net.Install(localnet.NewCDK(localnet.CDKOptions{AckInterval: 10 * time.Second, KeepAliveTimeout: 5 * time.Second}))
	at := newSocket(t)
	mustLoad(t, fmt.Sprintf("http://127.0.0.1 {\n\tbind unix/%s\n\ticws /ws %s {\n\t\t%s\n\t\tpoll_interval 20ms\n\t\tdrain_timeout 100ms\n\t}\n}\n", at, canister, w.network()))

	dialer := websocket.Dialer{NetDialContext: at.dialContext}
	conn, _, err := dialer.DialContext(t.Context(), "ws://127.0.0.1/ws", http.Header{}) // and no Origin
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, handshake, err := conn.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(handshake, []byte("\xd9\xd9\xf7")) {
		t.Errorf("untagged handshake %x", handshake)
	}
	d := &dotnet{
		t: t, conn: conn, canister: canister, nonce: 0xfedcba9876543210,
		root: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)), session: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32)),
	}
	if d.gateway, err = verify.ParseHandshake(handshake); err != nil {
		t.Fatal(err)
	}
	d.open()
	d.receiveService(w.authority, w.net.Now(), verify.ServiceOpen)
	hello := []byte("DIDL\x00\x01\x71\x05hello") // "hello" : text
	d.send(false, hello)
	if m := d.receive(w.authority, w.net.Now()); m.Service || !bytes.Equal(m.Content, hello) {
		t.Errorf("echo %x", m.Content)
	}
	w.net.Advance(10 * time.Second)
	d.receiveService(w.authority, w.net.Now(), verify.ServiceAck)
	d.keepAlive()
	d.send(false, hello) // is echoed only if the canister took what came before
	if m := d.receive(w.authority, w.net.Now()); !bytes.Equal(m.Content, hello) {
		t.Errorf("echo after the acknowledgement %x", m.Content)
	}
	w.net.Advance(6 * time.Second) // the canister removes who did not answer
	d.send(false, hello)
	if m := d.receive(w.authority, w.net.Now()); m.Service || !bytes.Equal(m.Content, hello) {
		t.Errorf("echo after the keep-alive check %x", m.Content)
	}
}
