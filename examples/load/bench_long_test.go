//go:build long

package main

import "testing"

// Every work of the table is done by both servers.
func TestBench(t *testing.T) {
	gateway, bare, _ := compared(t, "bench")
	for _, name := range []string{
		"fan-out over ws:// to 5 clients, 1 KiB messages in pages of 43: delivered",
		"echo over ws:// to 5 clients, a message a second each, on a network without latency: echo: delivered",
	} {
		if gateway[name] == 0 || bare[name] == 0 {
			t.Errorf("%s: gateway %g, bare server %g", name, gateway[name], bare[name])
		}
	}
	if name := "fan-out over ws:// to 5 clients, 1 KiB messages in pages of 43: delivered"; gateway[name] != 5*43*2 || bare[name] != 5*43*2 {
		t.Errorf("%s: gateway %g, bare server %g", name, gateway[name], bare[name])
	}
}
