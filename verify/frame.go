package verify

import "strconv"

// nonceDigits is the length of the nonce in a message key, padded with zeros.
const nonceDigits = 20

// appendMessageKey appends the key under which a canister certifies a message: "<gateway>_<nonce, 20 digits>".
func appendMessageKey(dst []byte, gateway string, nonce uint64) []byte {
	dst = append(append(dst, gateway...), '_')
	start := len(dst)
	dst = strconv.AppendUint(dst, nonce, 10)
	pad := nonceDigits - (len(dst) - start)
	dst = append(dst, "00000000000000000000"[:pad]...)
	copy(dst[start+pad:], dst[start:])
	copy(dst[start:], "00000000000000000000"[:pad])
	return dst
}
