// Package candid reads and writes the values that canisters of the local
// network exchange. It shares nothing with the Candid of package verify, whose
// writing it meets in every test: a wrong belief would otherwise be on both
// sides. What it reads may come from anybody: depth, number of values and
// lengths are bounded, and nothing panics.
package candid
