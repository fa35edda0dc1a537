//go:build !linux

package caddymodule

// secretMount reports whether a file is a secret that a container was given. Containers run Linux.
func secretMount(string) bool { return false }
