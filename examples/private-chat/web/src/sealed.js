// How a text is encrypted: AES-GCM with the key of the epoch. What is said of it in the open (in which room and epoch, by whom, as
// which of their messages) is authenticated with it: nothing opens under another name or in another place.

import { Principal } from "@icp-sdk/core/principal";
import { join, numbers, utf8 } from "./bytes.js";

export const isProtected = true;

const NONCE = 12;

/** A sender's principal is the only part without a fixed length, and so comes last. */
const algorithm = (iv, { room, epoch, counter, sender }) => ({
  name: "AES-GCM",
  iv,
  additionalData: join(numbers(room, epoch, counter), Principal.fromText(sender).toUint8Array()),
});

/** The nonce, which is random, and what AES-GCM makes of the text. */
export async function seal(key, about, text) {
  const iv = crypto.getRandomValues(new Uint8Array(NONCE));
  return join(iv, new Uint8Array(await crypto.subtle.encrypt(algorithm(iv, about), key, utf8(text))));
}

/** The text. It throws if that is not what this sender has sealed with this key, for this place. */
export async function open(key, about, bytes) {
  let text;
  try {
    text = await crypto.subtle.decrypt(algorithm(bytes.slice(0, NONCE), about), key, bytes.slice(NONCE));
  } catch {
    throw new Error("it does not open: it was changed, moved, or made with another key");
  }
  return new TextDecoder("utf-8", { fatal: true }).decode(text);
}
