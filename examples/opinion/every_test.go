//go:build e2e && long

package opinion

// corruptionStride: every byte of a good frame is corrupted in each way.
const corruptionStride = 1
