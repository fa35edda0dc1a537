package verify

import (
	"encoding/hex"
	"errors"
	"testing"

	"github.com/aviate-labs/agent-go/candid"
)

func TestServiceMessageGolden(t *testing.T) {
	key := goldenKey(t)
	for _, tc := range []struct {
		value string
		want  ServiceMessage
	}{
		{"00 011d" + hex.EncodeToString(key.Principal.Bytes()) + "0807060504030201", ServiceMessage{Kind: ServiceOpen, Client: key}},
		{"03 0200000000000000", ServiceMessage{Kind: ServiceAck, LastIncoming: 2}},
		{"01 0300000000000000", ServiceMessage{Kind: ServiceKeepAlive, LastIncoming: 3}},
		{"02 00", ServiceMessage{Kind: ServiceClose, Reason: ReasonClosedByApplication}},
		{"02 01", ServiceMessage{Kind: ServiceClose, Reason: ReasonInvalidServiceMessage}},
		{"02 02", ServiceMessage{Kind: ServiceClose, Reason: ReasonWrongSequenceNumber}},
		{"02 03", ServiceMessage{Kind: ServiceClose, Reason: ReasonKeepAliveTimeout}},
	} {
		b := unhex(t, goldenServiceTypes+tc.value)
		if got, err := DecodeServiceMessage(b); got != tc.want || err != nil {
			t.Errorf("%s: got %+v, %v, want %+v", tc.value, got, err, tc.want)
		}
		for n := range b {
			if got, err := DecodeServiceMessage(b[:n]); !errors.Is(err, ErrMalformed) || got != (ServiceMessage{}) {
				t.Errorf("%s cut at %d: got %+v, %v", tc.value, n, got, err)
			}
		}
	}
	wantHex(t, "keep-alive", AppendKeepAlive(nil, 3), goldenServiceTypes+"010300000000000000")
}

func TestServiceMessageAgainstAgentGo(t *testing.T) {
	type last struct {
		Last uint64 `ic:"last_incoming_sequence_num"`
	}
	type reason struct {
		Later *struct{} `ic:"SomethingLater,variant"`
	}
	type service struct {
		Ack   *last `ic:"AckMessage,variant"`
		Alive *last `ic:"KeepAliveMessage,variant"`
		Later *last `ic:"SomethingLater,variant"`
		Close *struct {
			Reason reason `ic:"reason"`
		} `ic:"CloseMessage,variant"`
	}
	got, err := DecodeServiceMessage(mustMarshal(t, service{Ack: &last{9}}))
	if want := (ServiceMessage{Kind: ServiceAck, LastIncoming: 9}); got != want || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := DecodeServiceMessage(mustMarshal(t, service{Later: &last{9}})); !errors.Is(err, ErrMalformed) {
		t.Errorf("unknown kind: got %+v, %v", got, err)
	}
	var closing service
	closing.Close = &struct {
		Reason reason `ic:"reason"`
	}{reason{Later: &struct{}{}}}
	if got, err := DecodeServiceMessage(mustMarshal(t, closing)); err != nil || got.Reason != ReasonUnknown {
		t.Errorf("unknown reason: got %+v, %v", got, err)
	}
	var back struct {
		Ack   *last `ic:"AckMessage,variant"`
		Alive *last `ic:"KeepAliveMessage,variant"`
	}
	if err := candid.Unmarshal(AppendKeepAlive(nil, 8), []any{&back}); err != nil || back.Alive == nil || back.Alive.Last != 8 {
		t.Errorf("agent-go reads %+v, %v", back, err)
	}
}
