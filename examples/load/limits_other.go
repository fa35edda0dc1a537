//go:build !unix

package main

// roomForFiles finds nothing: there is no limit of open files here.
func (s *scaleSettings) roomForFiles() error { return nil }
