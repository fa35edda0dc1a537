// Package verify checks what the IC WebSocket gateway lets in and lets out: client envelopes and their signatures,
// certificates, hash trees and witnesses, and the bounded codecs for the few fixed CBOR and Candid types on the way.
//
// Everything here is a pure function over bytes, keys and a point in time. The package opens no connection, writes no log
// and reads no clock. All input is treated as hostile: depth, count and length are bounded before anything is
// allocated, remote data never drives recursion, and no input makes a function panic.
//
// Values returned from parsers alias the input unless their documentation says otherwise: keep the input unchanged for as
// long as they are in use.
package verify
