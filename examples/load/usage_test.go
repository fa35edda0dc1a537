package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{"nonsense"}, {"-clients", "0"}, {"-window", "0"}, {"-rate", "-1"}, {"-duration", "0s"}, {"-size", "9999999"}, {"run", "surplus"},
		{"-rate", "NaN"}, {"-rate", "Inf"}, {"-rate", "1e12"}, {"-rate", "1e-12"}, {"-churn", "1e-12"}, {"-churn", "-1"}, {"-opens", "-1"},
		{"-opens", "NaN"}, {"headofline", "-rate", "1e12"}, {"headofline", "-stalled", "-1"}, {"-size", "23"}, {"-latency", "-1s"},
		{"-canister", "bkyz2-fmaaa-aaaaa-qaaaq-cai"}, {"-root-key", "00"}, {"-ca", "x"}, {"-origin", "https://example.com"},
		{"-url", "https://localhost:1/", "-canister", "bkyz2-fmaaa-aaaaa-qaaaq-cai"}, {"-url", "localhost:1", "-canister", "bkyz2-fmaaa-aaaaa-qaaaq-cai"},
		{"-url", "ws://localhost:1/"}, {"chaos", "-url", "ws://localhost:1/", "-canister", "aaaaa-aa"},
		{"chaos", "-weather", "sunny"}, {"-resolved", "101"}, {"-resolved", "NaN"}, {"-interval", "1ms"}, {"-csv", "-", "-json"}, {"-html", "-"},
		{"-csv", "x", "-html", "x"}, {"-pid", "1"}, {"-pid", "-1"},
		{"-url", "ws://localhost:1/", "-canister", "bkyz2-fmaaa-aaaaa-qaaaq-cai", "-pid", "2147483647"}, {"headofline", "-clients", "5", "-stalled", "5"},
		{"scale", "-sessions", "0"}, {"scale", "-sessions", "10,x"}, {"scale", "-canisters", "5001"}, {"scale", "-runs", "0"}, {"scale", "-rate", "0"},
		{"scale", "-rate", "NaN"}, {"scale", "-upstream-rate", "0"}, {"scale", "-opens", "-1"}, {"scale", "-size", "23"}, {"scale", "-latency", "-1s"}, {"scale", "-idle", "0s"},
		{"scale", "-rest", "-1s"}, {"scale", "surplus"}, {"bench", "-sessions", "10"}, {"bench", "-runs", "101"}, {"bench", "-only", "no such work"}, {"bench", "-profiles", "usage_test.go"}, {"bench", "-csv", "does/not/exist"},
		{"-url", "ws://localhost:1/", "-canister", "not a principal"},
		{"-url", "ws://localhost:1/", "-canister", "bkyz2-fmaaa-aaaaa-qaaaq-cai", "-root-key", "00"},
		{"-url", "ws://localhost:1/", "-canister", "bkyz2-fmaaa-aaaaa-qaaaq-cai", "-ca", "does/not/exist"},
	} {
		var stderr bytes.Buffer
		if code := run(t.Context(), args, io.Discard, &stderr); code != 2 || stderr.Len() == 0 {
			t.Errorf("%q: exit code %d, said %q", args, code, &stderr)
		}
	}
	if code := run(t.Context(), []string{"-help"}, io.Discard, io.Discard); code != 0 {
		t.Errorf("-help: exit code %d", code)
	}
}

// A password in the address is in no page.
func TestShownWithoutPassword(t *testing.T) {
	s, err := parse([]string{"-url", "wss://me:secret@example.com/?token=secret", "-canister", "bkyz2-fmaaa-aaaaa-qaaaq-cai", "-clients", "3"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if s.command != "load run -canister=bkyz2-fmaaa-aaaaa-qaaaq-cai -clients=3 -url=wss://me:xxxxx@example.com/?token=xxxxx" || strings.Contains(fmt.Sprint(s.flags), "secret") {
		t.Errorf("%s %v", s.command, s.flags)
	}
	s.url = "http://me:secret@example.com/?token=secret"
	if _, err := s.remote(); err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}
