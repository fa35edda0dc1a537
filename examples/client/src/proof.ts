// What proves that a canister said something (PROTOCOL sections 4.4 to 4.6).

import { Certificate, blsVerify, lookup_path, reconstruct, type CreateCertificateOptions, type HashTree } from "@icp-sdk/core/agent";
import type { Principal } from "@icp-sdk/core/principal";
import { checkComplete, decode } from "./cbor.js";
import type { Frame } from "./frame.js";

/** How far the time of a certificate may lie ahead, in milliseconds. */
const MAX_AHEAD = 5 * 60_000;

/** What a certificate is held against. */
export interface Trust {
  canisterId: Principal;
  /** DER. */
  rootKey: Uint8Array;
}

/** When something was certified, and the delegation in its certificate if there is one, in milliseconds of Unix time. */
export interface Certified {
  at: number;
  delegatedAt: number | undefined;
}

/** Reads a certificate. Throws unless the network signed it, and for a subnet that the canister is on. Of any age. */
export async function verified(certificate: Uint8Array, { canisterId, rootKey }: Trust): Promise<Certificate["cert"]> {
  checkComplete(certificate);
  // Either layout of canister ranges is read. The age is judged by checkAge: a delegation may be of any.
  const { cert } = await Certificate.create({
    certificate,
    rootKey,
    principal: { canisterId },
    blsVerify: checkSignature,
    disableTimeVerification: true,
  });
  if (cert.delegation) checkComplete(cert.delegation.certificate);
  return cert;
}

/** Throws unless the canister certified the frame's content, at whatever time. Returns when. */
export async function prove(frame: Frame, trust: Trust): Promise<Certified> {
  const { tree: state, delegation } = await verified(frame.cert, trust);
  const tree = decode<HashTree>(frame.tree);
  const certified = leaf(state, ["canister", trust.canisterId.toUint8Array(), "certified_data"]);
  if (!equal(certified, await reconstruct(tree))) throw new Error("the witness is not what the canister certified");
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", frame.content as BufferSource));
  if (!equal(leaf(tree, ["websocket", frame.key]), digest)) throw new Error("the content is not what the witness has");
  const delegated = delegation && decode<{ tree: HashTree }>(delegation.certificate).tree;
  return { at: certifiedTime(state), delegatedAt: delegated && certifiedTime(delegated) };
}

/** Throws unless a certificate is of the present. All are in milliseconds. */
export function checkAge({ at, delegatedAt }: Certified, now: number, maxAge: number): void {
  if (at < now - maxAge) throw new Error(`the certificate is ${seconds(now - at)} s old`);
  const latest = Math.max(at, delegatedAt ?? at);
  if (latest > now + MAX_AHEAD) throw new Error(`a certificate is ${seconds(latest - now)} s ahead of the network's time`);
}

const seconds = (ms: number): number => Math.round(ms / 1000);

/** The leaf at a path. What is absent, pruned or no leaf is none. */
function leaf(tree: HashTree, path: (string | Uint8Array)[]): Uint8Array {
  const found = lookup_path(path, tree);
  if (!("value" in found) || !(found.value instanceof Uint8Array)) throw new Error(`nothing is certified at ${path[0]}`);
  return found.value;
}

/** The time of a certificate, in milliseconds: it has nanoseconds in unsigned LEB128. */
export function certifiedTime(state: HashTree): number {
  let ns = 0n;
  let shift = 0n;
  for (const byte of leaf(state, ["time"])) {
    ns |= BigInt(byte & 0x7f) << shift;
    shift += 7n;
    if (byte < 0x80) return Number(ns / 1_000_000n);
  }
  throw new Error("the certificate has no time");
}

const equal = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((byte, i) => byte === b[i]);

/** How many good signatures are remembered: those of a delegation and of the certificates in a page of messages. */
const REMEMBERED = 16;
const good = new Set<string>();

/** Checks a BLS signature, once while it is among the last good ones: many messages come with the same certificate. */
const checkSignature: NonNullable<CreateCertificateOptions["blsVerify"]> = async (key, signature, message) => {
  const id = [key, signature, message].map((part) => String.fromCharCode(...part)).join("|");
  if (good.has(id)) return true;
  if (!(await blsVerify(key, signature, message))) return false;
  good.add(id);
  if (good.size > REMEMBERED) good.delete(good.values().next().value!);
  return true;
};
