package caddymodule

import "golang.org/x/sys/unix"

// secretMount reports whether a file is a secret that a container was given. Kubernetes and swarms put those on a file system
// in memory that is mounted read-only, where files are readable by everybody unless the mount says otherwise.
func secretMount(path string) bool {
	var s unix.Statfs_t
	return unix.Statfs(path, &s) == nil && readOnlyMemory(uint32(s.Type), uint64(s.Flags))
}

// readOnlyMemory judges what statfs(2) says of a file system, its f_type and f_flags.
func readOnlyMemory(kind uint32, flags uint64) bool {
	return (kind == unix.TMPFS_MAGIC || kind == unix.RAMFS_MAGIC) && flags&unix.ST_RDONLY != 0
}
