package relay

import (
	"strings"
	"testing"
)

const (
	someClient  = "hdd57-x5wau-ghaxl-ycgjs-eerui-woutf-epm4a-4g3ii-6ivzn-jdvek-fae"
	someGateway = "im7ks-pqbai-bqibi-ga4ea-scqlb-qgq4d-yqcej-bgfav-cylrq-gi2dm-oae"
)

// Every text that a CDK answers with, old ones included, becomes a close code and a text that says what happened.
func TestCDKErrors(t *testing.T) {
	for _, tc := range []struct {
		open   bool
		text   string
		reason CloseReason
		code   int
		want   string
	}{
		{true, "Anonymous principal is not allowed", CanisterRefused, 1011, "Anonymous principal"},
		{true, "anonymous principal cannot open a connection", CanisterRefused, 1011, "anonymous principal"},
		{true, "Client with key " + someClient + " already has an open connection", CanisterRefused, 1011, "already has an open"},
		{true, "Outgoing message to client num not initialized for client key " + someClient, CanisterRefused, 1011, "not initialized"},
		{true, "principal is not one of the authorized gateways that have been registered during CDK initialization", CanisterRefused, 1011, "does not list this gateway"},
		{true, "no gateway registered with principal " + someGateway, CanisterRefused, 1011, "does not list this gateway"},
		{true, "caller is the registered gateway which can't open a connection for itself", CanisterRefused, 1011, "for itself"},
		{false, "Client with principal " + someClient + " doesn't have an open connection", Forgotten, 1012, "no longer knows"},
		{false, "client with principal " + someClient + " doesn't have an open connection", Forgotten, 1012, "no longer knows"},
		{false, "Client with principal " + someClient + " has a different key than the one used in the message", Superseded, 1008, "newer connection"},
		{false, "Expected incoming sequence number 4 but got 6", CanisterRefused, 1011, "sequence number 4 but got 6"},
		{false, "incoming client's message does not have the expected sequence number. Expected: 4, actual: 6. Client removed.", CanisterRefused, 1011, "Expected: 4, actual: 6"},
		{false, "Error decoding service message content: unexpected end", CanisterRefused, 1011, "decoding service message"},
		{false, "Invalid service message", CanisterRefused, 1011, "Invalid service message"},
		{false, "Invalid received service message", CanisterRefused, 1011, "Invalid received service message"},
		{false, "Expected incoming message to client num not initialized for client key " + someClient, CanisterRefused, 1011, "not initialized"},
		{false, "text of \x00 control\nand ünusual bytes", CanisterRefused, 1011, "text of ? control and ?nusual bytes"},
	} {
		c := refused((&envelope{open: tc.open}).method(), tc.text)
		if c.reason != tc.reason || c.reason.Code() != tc.code || !strings.Contains(c.text, tc.want) || len(c.text) > maxCloseText {
			t.Errorf("%q becomes %d %s %q, want %d %s and %q", tc.text, c.reason.Code(), c.reason, c.text, tc.code, tc.reason, tc.want)
		}
	}
}

// Of the refusals of a CDK some say that the canister has no session of this client any more, so that no ws_close is needed. After
// the others it has.
func TestCDKErrorsThatRemove(t *testing.T) {
	for text, removed := range map[string]bool{
		"Client with principal " + someClient + " doesn't have an open connection":                                      true,
		"client with principal " + someClient + " doesn't have an open connection":                                      true,
		"Client with principal " + someClient + " has a different key than the one used in the message":                 true,
		"Expected incoming sequence number 4 but got 6":                                                                 true,
		"incoming client's message does not have the expected sequence number. Expected: 4, actual: 6. Client removed.": true,
		"Error decoding service message content: unexpected end":                                                        false,
		"Invalid service message": false,
		"Expected incoming message to client num not initialized for client key " + someClient:                false,
		"principal is not one of the authorized gateways that have been registered during CDK initialization": false,
	} {
		if c := refused(methodMessage, text); c.removed != removed {
			t.Errorf("%q: removed %v", text, c.removed)
		}
	}
	if c := refused(methodOpen, "Expected incoming sequence number 4 but got 6"); c.removed {
		t.Error("a refused ws_open removes nothing")
	}
}

func TestRejects(t *testing.T) {
	for _, tc := range []struct {
		code            uint64
		errorCode, text string
		want            int
		words           string
		passing, final  bool
	}{
		{1, "", "internal fault", 1011, "rejected: internal fault", false, false},
		{2, "", "ingress history is full", 1013, "IC is busy: ingress history is full", true, false},
		{2, "IC0207", "Canister x is out of cycles", 1013, "out of cycles", true, false},
		{2, "", "Canister x is out of cycles", 1013, "out of cycles", true, false},
		{3, "", "no such canister", 1011, "does not exist", false, true},
		{3, "IC0301", "Canister x not found", 1011, "does not exist", false, true},
		{4, "IC0406", "go away", 1011, "rejected: go away", false, false},
		{5, "IC0508", "Canister x is stopped", 1013, "stopped", true, false},
		{5, "IC0509", "Canister x is stopping", 1013, "stopping", true, false},
		{5, "IC0537", "Canister x has no wasm module", 1013, "no module", true, false},
		{5, "IC0536", "Canister x has no update method 'ws_open'", 1011, "does not use the IC WebSocket CDK", false, true},
		{5, "IC0503", "Error from Canister bkyz2-fmaaa-aaaaa-qaaaq-cai: Canister called `ic0.trap` with message: 'out of luck'", 1011, "trapped: out of luck", false, false},
		{5, "", "", 1011, "trapped", false, false},
		{9, "", "from the future", 1011, "rejected: from the future", false, false},
		{1<<64 - 1, "IC9999", strings.Repeat("x", 5000), 1011, "rejected: xxx", false, false},
	} {
		got := diagnose(tc.code, tc.errorCode, tc.text)
		if got.reason.Code() != tc.want || !strings.Contains(got.text, tc.words) || got.passing != tc.passing || got.final != tc.final {
			t.Errorf("reject %d %s %q: %d %q, passing %v, final %v", tc.code, tc.errorCode, tc.text, got.reason.Code(), got.text, got.passing, got.final)
		}
	}
}
