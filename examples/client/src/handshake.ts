// The first frame of a connection: the gateway says who it is (PROTOCOL section 2.1).

import { Principal } from "@icp-sdk/core/principal";
import { decode } from "./cbor.js";

/** The longest principal there is, in bytes. */
const MAX_PRINCIPAL = 29;

/** Reads the gateway's principal. Throws on everything else. */
export function readHandshake(frame: Uint8Array): Principal {
  const id = decode<{ gateway_principal?: unknown } | null>(frame)?.gateway_principal;
  if (!(id instanceof Uint8Array) || id.length === 0 || id.length > MAX_PRINCIPAL) {
    throw new Error("the first frame does not name the gateway's principal");
  }
  return Principal.fromUint8Array(id);
}
