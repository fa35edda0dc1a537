//go:build unix

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// roomForFiles reports an error if this system does not let the process have as many sockets as it needs. Go raises the soft
// limit by itself.
func (s *scaleSettings) roomForFiles() error {
	const besides = 500 // connections with the network, and what a process has anyway
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return nil // not known
	}
	if need := uint64(s.most() + besides); uint64(limit.Max) < need {
		return fmt.Errorf("%d sessions need %d open files, this system allows %d: raise the limit (ulimit -Hn, as root), or ask for fewer -sessions",
			s.most(), need, limit.Max)
	}
	return nil
}
