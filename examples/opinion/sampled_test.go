//go:build e2e && !long

package opinion

// corruptionStride is how many bytes of a good frame lie between those that are corrupted in one way. The build tag long leaves none out.
const corruptionStride = 13
