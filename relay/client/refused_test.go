package client_test

import (
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// Every way in which a frame may be wrong ends the session with the SDK's code and text, and nothing of it is delivered.
func TestRefusedFrames(t *testing.T) {
	f := newForger(t)
	tests := []struct {
		name string
		// first answers ws_open; nil for a proper OpenMessage. next comes after that.
		first, next func(key verify.ClientKey) message
		raw         func(ws *websocket.Conn) // sent in place of next
		err         error
		cause       verify.Cause
		text        string
	}{
		{name: "application message first", err: client.ErrService, text: client.TextReceive,
			first: func(k verify.ClientKey) message { return message{key: k, sequence: 1, content: []byte("x")} }},
		{name: "acknowledgement first", err: client.ErrService, text: client.TextService,
			first: func(k verify.ClientKey) message {
				return message{key: k, sequence: 1, service: true, content: ackPayload(0)}
			}},
		{name: "open message for another key", err: client.ErrClientKey, text: client.TextService,
			first: func(k verify.ClientKey) message {
				other := k
				other.Nonce++
				return message{key: k, sequence: 1, service: true, content: openPayload(other)}
			}},
		{name: "sequence from 2", err: client.ErrSequence, text: client.TextReceive,
			first: func(k verify.ClientKey) message {
				return message{key: k, sequence: 2, service: true, content: openPayload(k)}
			}},
		{name: "second open message", err: client.ErrService, text: client.TextService,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 8, sequence: 2, service: true, content: openPayload(k)}
			}},
		{name: "keep-alive from the canister", err: client.ErrService, text: client.TextService,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 8, sequence: 2, service: true, content: service(1, make([]byte, 8)...)}
			}},
		{name: "garbage as service message", err: client.ErrService, cause: verify.CauseMalformed, text: client.TextService,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 8, sequence: 2, service: true, content: []byte("DIDL")}
			}},
		{name: "acknowledgement of an unsent message", err: client.ErrAck, text: client.TextAck,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 8, sequence: 2, service: true, content: ackPayload(1)}
			}},
		{name: "repeated", err: client.ErrSequence, text: client.TextReceive,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 7, sequence: 1, service: true, content: openPayload(k)}
			}},
		{name: "nonce does not rise", err: client.ErrQueue, text: client.TextReceive,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 7, sequence: 2, content: []byte("x")}
			}},
		{name: "another client's", err: client.ErrClientKey, text: client.TextReceive,
			next: func(k verify.ClientKey) message {
				k.Nonce++
				return message{key: k, nonce: 8, sequence: 2, content: []byte("x")}
			}},
		{name: "another gateway's queue", err: client.ErrVerification, cause: verify.CauseKey, text: client.TextReceive,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 8, sequence: 2, content: []byte("x"), gateway: k.Principal}
			}},
		{name: "another canister's certificate", err: client.ErrVerification, cause: verify.CauseCertifiedData, text: client.TextReceive,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 8, sequence: 2, content: []byte("x"), canister: k.Principal}
			}},
		{name: "content altered", err: client.ErrVerification, cause: verify.CauseWitness, text: client.TextReceive,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 8, sequence: 2, content: []byte("x"), tamper: true}
			}},
		{name: "witness not certified", err: client.ErrVerification, cause: verify.CauseCertifiedData, text: client.TextReceive,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 8, sequence: 2, content: []byte("x"), witnessOf: []byte("another")}
			}},
		{name: "another root key", err: client.ErrVerification, cause: verify.CauseSignature, text: client.TextReceive,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 8, sequence: 2, content: []byte("x"), secret: big.NewInt(99)}
			}},
		{name: "six minutes old", err: client.ErrVerification, cause: verify.CauseCertificateOld, text: client.TextReceive,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 8, sequence: 2, content: []byte("x"), certTime: time.Now().Add(-6 * time.Minute)}
			}},
		{name: "six minutes ahead", err: client.ErrVerification, cause: verify.CauseCertificateFuture, text: client.TextReceive,
			next: func(k verify.ClientKey) message {
				return message{key: k, nonce: 8, sequence: 2, content: []byte("x"), certTime: time.Now().Add(6 * time.Minute)}
			}},
		{name: "text frame", err: client.ErrTextFrame, text: client.TextReceive,
			raw: func(ws *websocket.Conn) { _ = ws.WriteMessage(websocket.TextMessage, []byte("hello")) }},
		{name: "empty frame", err: client.ErrVerification, cause: verify.CauseMalformed, text: client.TextReceive,
			raw: func(ws *websocket.Conn) { _ = ws.WriteMessage(websocket.BinaryMessage, nil) }},
		{name: "garbage", err: client.ErrVerification, cause: verify.CauseMalformed, text: client.TextReceive,
			raw: func(ws *websocket.Conn) { _ = ws.WriteMessage(websocket.BinaryMessage, []byte{0xa4, 0x63}) }},
		{name: "empty tree", err: client.ErrVerification, cause: verify.CauseMalformed, text: client.TextReceive,
			raw: func(ws *websocket.Conn) {
				_ = ws.WriteMessage(websocket.BinaryMessage, mustCBOR(map[string]any{"key": "k", "content": []byte("c"), "cert": []byte("c"), "tree": []byte{}}))
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ended := make(chan [2]any, 1)
			url := f.serve(t, func(t *testing.T, f *forger, ws *websocket.Conn) {
				key := f.greet(t, ws)
				first := message{key: key, nonce: 7, sequence: 1, service: true, content: openPayload(key)}
				if tt.first != nil {
					first = tt.first(key)
				}
				f.send(ws, first)
				if tt.next != nil {
					f.send(ws, tt.next(key))
				}
				if tt.raw != nil {
					tt.raw(ws)
				}
				code, text := wait(ws)
				ended <- [2]any{code, text}
			})
			ctx := timeout(t)
			c, err := client.Dial(ctx, url, f.options())
			if tt.first == nil {
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				var m client.Message
				if m, err = c.Receive(ctx); err == nil {
					t.Fatalf("delivered %q", m.Payload)
				}
			}
			var end *client.CloseError
			if !errors.As(err, &end) || !end.Local || end.Code != client.CodeProtocol || end.Text != tt.text || !errors.Is(err, tt.err) {
				t.Errorf("got %v", err)
			}
			if tt.cause != "" && verify.CauseOf(err) != tt.cause {
				t.Errorf("cause %q, want %q: %v", verify.CauseOf(err), tt.cause, err)
			}
			if got := <-ended; got != [2]any{client.CodeProtocol, tt.text} {
				t.Errorf("the gateway was told %v", got)
			}
		})
	}
}

func TestHandshakeRefused(t *testing.T) {
	f := newForger(t)
	for name, frame := range map[string][]byte{
		"empty principal": mustCBOR(map[string]any{"gateway_principal": []byte{}}),
		"text principal":  mustCBOR(map[string]any{"gateway_principal": f.gateway.String()}),
		"not cbor":        []byte("hello"),
		"text frame":      nil,
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan [2]any, 1)
			url := f.serve(t, func(_ *testing.T, _ *forger, ws *websocket.Conn) {
				kind := websocket.BinaryMessage
				if frame == nil {
					kind = websocket.TextMessage
				}
				_ = ws.WriteMessage(kind, frame)
				code, text := wait(ws)
				ended <- [2]any{code, text}
			})
			_, err := client.Dial(timeout(t), url, f.options())
			if !errors.Is(err, client.ErrHandshake) {
				t.Errorf("got %v", err)
			}
			if got := <-ended; got != [2]any{4000, "Handshake message error"} {
				t.Errorf("the gateway was told %v", got)
			}
		})
	}
}
