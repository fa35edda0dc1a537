package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// A process is one of this machine, by the name of its directory in /proc; "" is none.
type process string

// thisProcess is the one in which the embedded gateway, the network and the clients are.
const thisProcess process = "self"

// use is what a process has used so far and holds now; its zero value says that nothing is known.
type use struct {
	cpu time.Duration // of all its threads, user and system, to 10 ms
	rss uint64        // bytes
}

// use reads what p uses, on Linux. Nothing is known elsewhere, nor of a process that has ended.
func (p process) use() use {
	if p == "" {
		return use{}
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%s/stat", string(p)))
	if err != nil {
		return use{}
	}
	return parseUse(b)
}

// parseUse reads the stat file of a process.
func parseUse(b []byte) use {
	// The second field is a name in brackets, which may itself hold brackets and spaces (proc_pid_stat(5)). What follows it
	// begins with field 3; CPU times are fields 14 and 15, the resident pages field 24.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	number := func(field int) (n uint64) {
		if i := field - 3; i < len(fields) {
			n, _ = strconv.ParseUint(string(fields[i]), 10, 64)
		}
		return n
	}
	// The kernel counts in 1/100 s towards programs, whatever its own clock is (USER_HZ).
	return use{cpu: time.Duration(number(14)+number(15)) * 10 * time.Millisecond, rss: number(24) * uint64(os.Getpagesize())}
}
