package client_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/certification/hashtree"
	"github.com/aviate-labs/agent-go/leb128"
	bls12381 "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/fxamacker/cbor/v2"
	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/examples/pipe"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// forger is a network of one canister whose root key the test holds, made from agent-go's trees and gnark's curve, so
// that what the client accepts was not encoded by the code that it uses to decode.
type forger struct {
	secret   *big.Int
	rootKey  []byte // DER
	canister verify.Principal
	gateway  verify.Principal
}

// blsKeyPrefix is the DER head of a BLS12-381 public key in G2 (interface specification, section "Certificate").
const blsKeyPrefix = "\x30\x81\x82\x30\x1d\x06\x0d\x2b\x06\x01\x04\x01\x82\xdc\x7c\x05\x03\x01\x02\x01\x06\x0c\x2b\x06\x01\x04\x01\x82\xdc\x7c\x05\x03\x02\x01\x03\x61\x00"

func newForger(t testing.TB) *forger {
	t.Helper()
	f := &forger{secret: big.NewInt(0x1c5_1c5_1c5)}
	_, _, _, g2 := bls12381.Generators()
	key := new(bls12381.G2Affine).ScalarMultiplication(&g2, f.secret).Bytes()
	f.rootKey = append([]byte(blsKeyPrefix), key[:]...)
	var err error
	if f.canister, err = verify.ParsePrincipal("bkyz2-fmaaa-aaaaa-qaaaq-cai"); err != nil {
		t.Fatal(err)
	}
	if f.gateway, err = verify.ParsePrincipal("im7ks-pqbai-bqibi-ga4ea-scqlb-qgq4d-yqcej-bgfav-cylrq-gi2dm-oae"); err != nil {
		t.Fatal(err)
	}
	return f
}

func label(name string, sub hashtree.Node) hashtree.Node {
	return hashtree.Labeled{Label: hashtree.Label(name), Tree: sub}
}

func mustCBOR(v any) []byte {
	b, err := cbor.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func mustTree(n hashtree.Node) cbor.RawMessage {
	b, err := hashtree.Serialize(n)
	if err != nil {
		panic(err)
	}
	return b
}

// message describes one frame. Its zero fields are filled in by frame.
type message struct {
	key       verify.ClientKey
	nonce     uint64
	sequence  uint64
	service   bool
	content   []byte
	certTime  time.Time
	gateway   verify.Principal // of the key; zero: the forger's
	canister  verify.Principal // of the certificate; zero: the forger's
	tamper    bool             // change the content after it was certified
	secret    *big.Int         // sign with another key
	witnessOf []byte           // certify this in place of the witness root
}

// frame makes the canister frame of a message.
func (f *forger) frame(m message) []byte {
	gateway, canister, secret := f.gateway, f.canister, f.secret
	if m.gateway != (verify.Principal{}) {
		gateway = m.gateway
	}
	if m.canister != (verify.Principal{}) {
		canister = m.canister
	}
	if m.secret != nil {
		secret = m.secret
	}
	if m.certTime.IsZero() {
		m.certTime = time.Now()
	}
	key := fmt.Sprintf("%s_%020d", gateway, m.nonce)
	content := mustCBOR(struct {
		ClientKey struct {
			Principal []byte `cbor:"client_principal"`
			Nonce     uint64 `cbor:"client_nonce"`
		} `cbor:"client_key"`
		Sequence  uint64 `cbor:"sequence_num"`
		Timestamp uint64 `cbor:"timestamp"`
		Service   bool   `cbor:"is_service_message"`
		Content   []byte `cbor:"content"`
	}{
		ClientKey: struct {
			Principal []byte `cbor:"client_principal"`
			Nonce     uint64 `cbor:"client_nonce"`
		}{m.key.Principal.Bytes(), m.key.Nonce},
		Sequence: m.sequence, Timestamp: uint64(m.certTime.UnixNano()), Service: m.service, Content: m.content,
	})
	leaf := sha256.Sum256(content)
	witness := label("websocket", label(key, hashtree.Leaf(leaf[:])))
	root := witness.Reconstruct()
	if m.witnessOf != nil {
		root = sha256.Sum256(m.witnessOf)
	}
	stamp, err := leb128.EncodeUnsigned(big.NewInt(m.certTime.UnixNano()))
	if err != nil {
		panic(err)
	}
	state := hashtree.Fork{
		LeftTree:  label("canister", label(string(canister.Bytes()), label("certified_data", hashtree.Leaf(root[:])))),
		RightTree: label("time", hashtree.Leaf(stamp)),
	}
	digest := state.Reconstruct()
	point, err := bls12381.HashToG1(append([]byte("\x0dic-state-root"), digest[:]...), []byte("BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"))
	if err != nil {
		panic(err)
	}
	signature := new(bls12381.G1Affine).ScalarMultiplication(&point, secret).Bytes()
	cert := append([]byte("\xd9\xd9\xf7"), mustCBOR(map[string]any{"tree": mustTree(state), "signature": signature[:]})...)
	if m.tamper {
		content[len(content)-1] ^= 1
	}
	return mustCBOR(map[string]any{"key": key, "content": content, "cert": cert, "tree": []byte(mustTree(witness))})
}

// serviceTable is the type table of service messages as the JavaScript Candid library writes it.
const serviceTable = "4449444c066c02fa80a2940568bbd1eacd0e786c01ebb49ce903006c01d888abb90a786b04cdc2dabb047fc9c68ea0057fd7aba29c0a7f999dafab0d7f6c01c49ff4e40f036b04fdbd95cc0101bfd397b409028ff2d1ef0a049eb7f0ad0b020105"

// service makes a service payload: the variant's index (0 open, 1 keep-alive, 2 close, 3 ack) and its value.
func service(variant byte, value ...byte) []byte {
	table, err := hex.DecodeString(serviceTable)
	if err != nil {
		panic(err)
	}
	return append(append(table, variant), value...)
}

func openPayload(k verify.ClientKey) []byte {
	value := append([]byte{1, byte(len(k.Principal.Bytes()))}, k.Principal.Bytes()...)
	return service(0, binary.LittleEndian.AppendUint64(value, k.Nonce)...)
}

func ackPayload(last uint64) []byte {
	return service(3, binary.LittleEndian.AppendUint64(nil, last)...)
}

// Reasons of a CloseMessage, by field hash.
const closedByApplication, keepAliveTimeout = 0, 3

func closePayload(reason byte) []byte { return service(2, reason) }

// script is what the gateway of a test does with one connection after the upgrade.
type script func(t *testing.T, f *forger, ws *websocket.Conn)

// serve runs a gateway with the given script and returns its URL. The server and its connections end with the test.
func (f *forger) serve(t *testing.T, run script) string {
	t.Helper()
	handler, wait := f.handler(t, run)
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.Close()
		wait()
	})
	return "ws" + strings.TrimPrefix(server.URL, "http")
}

// serveInMemory is serve without sockets, for synctest bubbles. The options get what dials it.
func (f *forger) serveInMemory(t *testing.T, o *client.Options, run script) string {
	t.Helper()
	handler, wait := f.handler(t, run)
	l := pipe.Listen()
	o.NetDial = l.Dial
	server := &http.Server{Handler: handler}
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		_ = server.Close()
		served.Wait()
		wait()
	})
	return "ws://gateway.test"
}

// handler upgrades every request and plays the script. wait waits until none plays any more.
func (f *forger) handler(t *testing.T, run script) (h http.Handler, wait func()) {
	upgrader := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	var running sync.WaitGroup
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		running.Add(1) // before the hijack: until then closing the server waits for this handler
		defer running.Done()
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		_ = ws.SetReadDeadline(time.Now().Add(patience))
		run(t, f, ws)
	}), running.Wait
}

// handshake sends the gateway's first frame.
func (f *forger) handshake(ws *websocket.Conn) error {
	return ws.WriteMessage(websocket.BinaryMessage, mustCBOR(map[string]any{"gateway_principal": f.gateway.Bytes()}))
}

// envelope reads a client frame with the verify package's parser, which has golden vectors of its own.
func (f *forger) envelope(ws *websocket.Conn) (*verify.Envelope, error) {
	_, frame, err := ws.ReadMessage()
	if err != nil {
		return nil, err
	}
	e, err := verify.ParseClientFrame(frame)
	if err != nil {
		return nil, err
	}
	if _, err := verify.VerifySender(e, time.Now(), nil, nil); err != nil {
		return nil, err
	}
	return e, nil
}

// open shakes hands, reads the ws_open and answers it with the OpenMessage. It returns the client's key.
func (f *forger) open(t *testing.T, ws *websocket.Conn) verify.ClientKey {
	t.Helper()
	key := f.greet(t, ws)
	f.send(ws, message{key: key, nonce: 7, sequence: 1, service: true, content: openPayload(key)})
	return key
}

// greet is open without the answer.
func (f *forger) greet(t *testing.T, ws *websocket.Conn) verify.ClientKey {
	t.Helper()
	if err := f.handshake(ws); err != nil {
		t.Errorf("handshake: %v", err)
	}
	e, err := f.envelope(ws)
	if err != nil {
		t.Errorf("ws_open: %v", err)
		return verify.ClientKey{}
	}
	nonce, gateway, err := verify.DecodeOpenArg(e.Arg)
	if err != nil || gateway != f.gateway || e.MethodName != "ws_open" {
		t.Errorf("ws_open: method %s, gateway %v, %v", e.MethodName, gateway, err)
	}
	return verify.ClientKey{Principal: e.Sender, Nonce: nonce}
}

// send writes one frame; a client that has gone is no error here.
func (f *forger) send(ws *websocket.Conn, m message) {
	_ = ws.WriteMessage(websocket.BinaryMessage, f.frame(m))
}

// message reads one ws_message.
func (f *forger) message(ws *websocket.Conn) (*verify.WebsocketMessage, error) {
	e, err := f.envelope(ws)
	if err != nil {
		return nil, err
	}
	return verify.DecodeMessageArg(e.Arg)
}

// wait reads until the client closes and returns its close code and text.
func wait(ws *websocket.Conn) (int, string) {
	for {
		if _, _, err := ws.ReadMessage(); err != nil {
			var c *websocket.CloseError
			if errors.As(err, &c) {
				return c.Code, c.Text
			}
			return 0, err.Error()
		}
	}
}
