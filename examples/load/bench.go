package main

import (
	"fmt"
	"time"
)

// table is what bench runs: the works of which README tells the cost, each with the gateway and with the bare server.
func (s *scaleSettings) table() []experiment {
	scaled := func(n int) int {
		if s.quick {
			return max(n/50, 5)
		}
		return n
	}
	bursts := 20
	if s.quick {
		bursts = 2
	}
	work := func(title string, sessions int, rate float64, size int, r rig, steps stepsFunc) experiment {
		r.sessions, r.canisters, r.seed, r.polls, r.programs = sessions, 1, s.seed, s.polls, s.programs
		return experiment{
			title: title, rig: r, steps: steps,
			plan:   plan{clients: sessions, rate: rate, size: size, window: 8, opens: 500, grace: s.grace, seed: s.seed},
			course: course{sessions: sessions, rest: s.rest, idle: s.idle, talk: s.talk, bursts: bursts},
		}
	}
	const call = 200 * time.Millisecond
	clients, busy, plain, secure, talkers := scaled(100), scaled(500), scaled(2000), scaled(5000), scaled(50)
	return []experiment{
		work(fmt.Sprintf("fan-out over ws:// to %d clients, 1 KiB messages in pages of 43", clients), clients, 0, 1024, rig{plain: true, burst: 43}, (*trial).fanOut),
		work(fmt.Sprintf("%d idle sessions over ws:// while the canister is polled every 100 ms", busy), busy, 0, 64, rig{plain: true, latency: call}, (*trial).busy),
		work(fmt.Sprintf("%d idle sessions over ws://", plain), plain, 0, 64, rig{plain: true, latency: call}, (*trial).idle),
		work(fmt.Sprintf("%d idle sessions over wss://", secure), secure, 0, 64, rig{latency: call}, (*trial).idle),
		work(fmt.Sprintf("echo over ws:// to %d clients, a message a second each, on a network without latency", talkers), talkers, 1, 64, rig{plain: true}, (*trial).echoes),
	}
}
