package tap

import (
	"fmt"

	"github.com/icws-gateway/caddy-icws/verify"
)

// describe says what a gateway can tell of a message, and finds the payload of
// the application in it. Both alias the message.
func describe(from Side, message []byte) (what string, payload []byte) {
	if from == FromClient {
		return describeEnvelope(message)
	}
	if gateway, err := verify.ParseHandshake(message); err == nil {
		return fmt.Sprintf("handshake of the gateway %s", gateway), nil
	}
	f, err := verify.ParseFrame(message)
	if err != nil {
		return "not understood", nil
	}
	m, err := verify.ParseContent(f.Content)
	if err != nil {
		return "not understood", nil
	}
	return describeMessage(fmt.Sprintf("to %s", m.Client.Principal), &m)
}

func describeEnvelope(message []byte) (string, []byte) {
	e, err := verify.ParseClientFrame(message)
	if err != nil {
		return "not understood", nil
	}
	by := fmt.Sprintf("%s signed by %s", e.MethodName, e.Sender)
	if e.MethodName != "ws_message" {
		return by, nil
	}
	m, err := verify.DecodeMessageArg(e.Arg)
	if err != nil {
		return by, nil
	}
	return describeMessage(by, m)
}

func describeMessage(what string, m *verify.WebsocketMessage) (string, []byte) {
	if !m.Service {
		return fmt.Sprintf("%s, message %d", what, m.Sequence), m.Content
	}
	kind := "of the protocol"
	if s, err := verify.DecodeServiceMessage(m.Content); err == nil {
		kind = string(s.Kind)
	}
	return fmt.Sprintf("%s, message %d, %s", what, m.Sequence, kind), nil
}
