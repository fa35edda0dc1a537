package caddymodule

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestReadInterface(t *testing.T) {
	four := `ws_open : (A) -> (B); ws_message : (A, opt C) -> (B); ws_close : (A) -> (B); ws_get_messages : (A) -> (B) query;`
	chat, err := os.ReadFile("../examples/canisters/chat.did")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		did     string
		missing []string
		old     bool
		unknown bool
	}{
		"the chat canister's":      {did: string(chat)},
		"in one line":              {did: "service:{" + four + "}"},
		"with arguments":           {did: "service : (record { owner : principal }, nat) -> {" + four + "}"},
		"with a name":              {did: "service chat : {" + four + "}"},
		"by a type":                {did: "type S = service {" + four + "}; service : S"},
		"quoted names":             {did: `service : { "ws_open" : (A) -> (B); "ws_message" : F; ws_close:F; ws_get_messages:F }`},
		"last without a sign":      {did: "service : {" + strings.TrimSuffix(four, ";") + "}"},
		"comments between":         {did: "service /* : { /* */ } */ : { // }\n" + four + "}"},
		"none":                     {did: `service : { greet : (text) -> (text) query }`, missing: socketMethods},
		"empty service":            {did: `service : {}`, missing: socketMethods},
		"one less":                 {did: "service : {" + strings.Replace(four, "ws_close", "close", 1) + "}", missing: []string{"ws_close"}},
		"in a comment":             {did: "service : { // ws_open : F;\n /* ws_close : F; */ ws_message : F; ws_get_messages : F }", missing: []string{"ws_open", "ws_close"}},
		"in a string":              {did: `service : { a : (record { "ws_open" : text; x : text }) -> (); "; ws_close : " : F; ws_message : F; ws_get_messages : F }`, missing: []string{"ws_open", "ws_close"}},
		"names of arguments":       {did: `service : { a : (ws_open : text, ws_close : nat) -> (); ws_message : F; ws_get_messages : F }`, missing: []string{"ws_open", "ws_close"}},
		"fields of a record":       {did: `type T = record { ws_open : text; ws_close : text }; service : { ws_message : F; ws_get_messages : F }`, missing: []string{"ws_open", "ws_close"}},
		"service in an argument":   {did: `service : (service {` + four + `}) -> { a : (service {` + four + `}) -> () }`, missing: socketMethods},
		"proof of concept":         {did: `service : { ws_register : (blob) -> (nat64); ws_open : F; ws_message : F; ws_close : F; ws_get_messages : F }`, old: true},
		"imports":                  {did: `import service "base.did"; service : { a : () -> () }`, missing: socketMethods, unknown: true},
		"no service":               {did: `type T = nat;`, missing: socketMethods, unknown: true},
		"nothing":                  {did: ``, missing: socketMethods, unknown: true},
		"open comment":             {did: `service : { ` + four + ` /* `},
		"open string":              {did: `service : { ` + four + ` "`},
		"string of one escape":     {did: `service : { ` + four + ` "\`},
		"too many brackets closed": {did: `}})) service : { ` + four + ` }}}`},
		"no Candid":                {did: "\x00\xff\x7fELF{}{};:\"", missing: socketMethods, unknown: true},
	} {
		got := readInterface([]byte(test.did))
		if !slices.Equal(got.missing, test.missing) || got.old != test.old || got.unknown != test.unknown {
			t.Errorf("%s: %+v, want missing %q, old %v, unknown %v", name, got, test.missing, test.old, test.unknown)
		}
	}
}

// The text may be megabytes of whatever a stranger wrote: each byte is looked at a bounded number of times. A quadratic
// reader would not end.
func TestReadInterfaceOfAStranger(t *testing.T) {
	for _, unit := range []string{"/*", "*/", "//", "\"", "\\", "\"\\", "{", "}", "service : {", "ws_open :", "a", " ", "/* \" // */"} {
		readInterface([]byte(strings.Repeat(unit, 2<<20/len(unit))))
	}
}

func FuzzReadInterface(f *testing.F) {
	f.Add([]byte(`service : { ws_open : F; /* " */ "ws_close" : (nat) -> () }`))
	f.Fuzz(func(t *testing.T, did []byte) {
		s := readInterface(did)
		if len(s.missing) > len(socketMethods) {
			t.Errorf("%+v", s)
		}
	})
}
