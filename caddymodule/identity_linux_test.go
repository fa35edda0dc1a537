package caddymodule

import "testing"

// The numbers are what statfs(2) of Linux 6 says of files on such file systems.
func TestReadOnlyMemory(t *testing.T) {
	for name, test := range map[string]struct {
		kind  uint32
		flags uint64
		want  bool
	}{
		"tmpfs mounted ro, as Kubernetes and swarms mount secrets": {0x1021994, 0x1021, true},
		"ramfs mounted ro,nosuid, as systemd mounts credentials":   {0x858458f6, 0x1023, true},
		"tmpfs mounted rw, as /dev/shm is":                         {0x1021994, 0x1020, false},
		"ext4 mounted rw":                                          {0xef53, 0x1020, false},
		"ext4 mounted ro":                                          {0xef53, 0x1021, false},
	} {
		if got := readOnlyMemory(test.kind, test.flags); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
