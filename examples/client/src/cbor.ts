// Reading CBOR that comes from elsewhere (PROTOCOL section 2).

import { Cbor } from "@icp-sdk/core/agent";

/** Reads a value. Throws where it is cut off, see checkComplete. */
export function decode<T>(bytes: Uint8Array): T {
  checkComplete(bytes);
  return Cbor.decode<T>(bytes);
}

/** How many bytes hold the number of a head whose lower five bits are 24 and more. */
const WIDTHS = [1, 2, 4, 8];

/**
 * Throws if the last string or number goes beyond the end. @icp-sdk/core takes what is left for a string that should be longer. No
 * proof can be forged by that, but bytes that were damaged on their way would be read as if they were not.
 */
export function checkComplete(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) {
    const head = bytes[at++]!;
    const width = WIDTHS[(head & 31) - 24];
    let n = head & 31;
    if (width) {
      n = 0;
      for (const end = at + width; at < end; at++) n = n * 256 + (bytes[at] ?? 0);
    }
    const isString = head >> 5 === 2 || head >> 5 === 3;
    if (isString && (head & 31) !== 31) at += n; // 31: in parts, each of which is a string
    if (at > bytes.length) throw new Error("a value that is cut off");
  }
}
