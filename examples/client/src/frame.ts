// What the gateway passes on from the canister, as it is written (PROTOCOL sections 2.3 and 2.4). Nothing here is proved.

import { Principal } from "@icp-sdk/core/principal";
import { decode } from "./cbor.js";

/** The largest frame that is read, in bytes: more than a canister can answer at once. */
export const MAX_FRAME = 4 << 20;

/** One message of the canister with its proof. */
export interface Frame {
  /** Its label in the canister's tree: the gateway's principal and a number. */
  key: string;
  /** A Message, in CBOR. It is hashed as it is. */
  content: Uint8Array;
  /** A certificate of the canister's subnet. */
  cert: Uint8Array;
  /** The canister's tree, pruned. */
  tree: Uint8Array;
}

/** The session that a message belongs to. */
export interface ClientKey {
  client_principal: Principal;
  client_nonce: bigint;
}

/** What a frame's content says. */
export interface Message {
  client: ClientKey;
  sequence: bigint;
  service: boolean;
  content: Uint8Array;
}

const isBytes = (value: unknown): value is Uint8Array => value instanceof Uint8Array;

export function readFrame(bytes: Uint8Array): Frame {
  const f = decode<Partial<Record<keyof Frame, unknown>> | null>(bytes);
  if (typeof f?.key !== "string") throw new Error("a frame without a key");
  for (const part of ["content", "cert", "tree"] as const) {
    if (!isBytes(f[part])) throw new Error(`a frame without ${part}`);
  }
  return f as Frame;
}

export function readMessage(content: Uint8Array): Message {
  const m = decode<any>(content);
  const principal = m?.client_key?.client_principal;
  if (!isBytes(principal) || typeof m.is_service_message !== "boolean" || !isBytes(m.content)) {
    throw new Error("the content of a frame is not a message");
  }
  number(m.timestamp);
  return {
    client: { client_principal: Principal.fromUint8Array(principal), client_nonce: number(m.client_key.client_nonce) },
    sequence: number(m.sequence_num),
    service: m.is_service_message,
    content: m.content,
  };
}

/** A nat64 comes as a number or, if it is large, as a bigint. */
function number(value: unknown): bigint {
  const n = typeof value === "number" && Number.isSafeInteger(value) ? BigInt(value) : value;
  if (typeof n !== "bigint" || n < 0n || n >= 1n << 64n) throw new Error("a message without a number where one belongs");
  return n;
}
