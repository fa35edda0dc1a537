//go:build !windows

package caddymodule

import "io/fs"

// readableByOthers reports whether users other than the owner and the group may read a file.
func readableByOthers(info fs.FileInfo) bool { return info.Mode().Perm()&0o004 != 0 }
