import { Secp256k1KeyIdentity } from "@icp-sdk/core/identity/secp256k1";

/** A new key, for somebody who is not logged in. It lives as long as whoever called keeps it. */
export const generateRandomIdentity = (): Secp256k1KeyIdentity => Secp256k1KeyIdentity.generate();
