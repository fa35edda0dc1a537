// What proves that a canister said something (PROTOCOL sections 4.4 to 4.6).

import { Cbor, Certificate, blsVerify, lookup_path, reconstruct, type CreateCertificateOptions, type HashTree } from "@icp-sdk/core/agent";
import type { Principal } from "@icp-sdk/core/principal";
import type { Frame } from "./frame.js";

/** How far the time of a certificate may lie ahead, in milliseconds. */
const MAX_AHEAD = 5 * 60_000;

/** What a frame is held against. */
export interface Trust {
  canisterId: Principal;
  /** DER. */
  rootKey: Uint8Array;
  /** The oldest certificate that is accepted, in milliseconds. */
  maxAge: number;
  /** The present, in milliseconds of Unix time. */
  now: number;
}

/** Throws unless the canister certified the frame's content, lately. Returns when, in milliseconds of Unix time. */
export async function prove(frame: Frame, trust: Trust): Promise<number> {
  const { canisterId, rootKey } = trust;
  // Signature, delegation, and that the delegation covers the canister, in either layout of ranges. Time is judged below: a
  // delegation may be of any age.
  const certificate = await Certificate.create({
    certificate: frame.cert,
    rootKey,
    principal: { canisterId },
    blsVerify: checkSignature,
    disableTimeVerification: true,
  });
  const { tree: state, delegation } = certificate.cert;
  const certifiedAt = certifiedTime(state);
  if (certifiedAt < trust.now - trust.maxAge) throw new Error(`the certificate is ${seconds(trust.now - certifiedAt)} s old`);
  checkNotAhead(certifiedAt, trust.now);
  if (delegation) checkNotAhead(certifiedTime(Cbor.decode<{ tree: HashTree }>(delegation.certificate).tree), trust.now);
  const tree = Cbor.decode<HashTree>(frame.tree);
  const certified = leaf(state, ["canister", canisterId.toUint8Array(), "certified_data"]);
  if (!equal(certified, await reconstruct(tree))) throw new Error("the witness is not what the canister certified");
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", frame.content as BufferSource));
  if (!equal(leaf(tree, ["websocket", frame.key]), digest)) throw new Error("the content is not what the witness has");
  return certifiedAt;
}

function checkNotAhead(certifiedAt: number, now: number): void {
  if (certifiedAt > now + MAX_AHEAD) throw new Error(`a certificate is ${seconds(certifiedAt - now)} s ahead of this clock`);
}

const seconds = (ms: number): number => Math.round(ms / 1000);

/** The leaf at a path. What is absent, pruned or no leaf is none. */
function leaf(tree: HashTree, path: (string | Uint8Array)[]): Uint8Array {
  const found = lookup_path(path, tree);
  if (!("value" in found) || !(found.value instanceof Uint8Array)) throw new Error(`nothing is certified at ${path[0]}`);
  return found.value;
}

/** The time of a certificate, in milliseconds: it has nanoseconds in unsigned LEB128. */
function certifiedTime(state: HashTree): number {
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
