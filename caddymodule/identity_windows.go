package caddymodule

import "io/fs"

// readableByOthers cannot be told from mode bits on Windows, where access lists decide.
func readableByOthers(fs.FileInfo) bool { return false }
