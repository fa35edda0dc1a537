// What is asked of the network itself, beside the gateway (PROTOCOL section 4.1).

import { Cbor, Expiry } from "@icp-sdk/core/agent";
import { Principal } from "@icp-sdk/core/principal";
import { decode } from "./cbor.js";
import { certifiedTime, verified, type Trust } from "./proof.js";

/** The longest answer that is read, in bytes. Real ones are below 4 kB. */
const MAX_ANSWER = 64 << 10;
/** How long an answer may take, in milliseconds. */
const PATIENCE = 10_000;

/** Asks a test network for its root key. Whoever answers is trusted: never use it for mainnet. */
export async function fetchRootKey(networkUrl: string): Promise<Uint8Array> {
  const { root_key } = await ask(new URL("/api/v2/status", networkUrl));
  if (!(root_key instanceof Uint8Array)) throw new Error(`${networkUrl} names no root key`);
  return root_key;
}

/** Asks the network for its time, which is certified, in milliseconds of Unix time. It is of the past, see Clock. */
export async function fetchTime(networkUrl: string, trust: Trust): Promise<number> {
  const content = {
    request_type: "read_state",
    sender: Principal.anonymous(),
    paths: [[new TextEncoder().encode("time")]],
    ingress_expiry: Expiry.fromDeltaInMilliseconds(PATIENCE), // the network does not look at it where the sender is anonymous
  };
  const { certificate } = await ask(new URL(`/api/v3/canister/${trust.canisterId.toText()}/read_state`, networkUrl), {
    method: "POST",
    headers: { "content-type": "application/cbor" },
    body: Cbor.encode({ content }) as BufferSource,
  });
  if (!(certificate instanceof Uint8Array)) throw new Error(`${networkUrl} gives no certificate`);
  return certifiedTime((await verified(certificate, trust)).tree);
}

async function ask(url: URL, request?: RequestInit): Promise<Record<string, unknown>> {
  const answer = await fetch(url, { ...request, signal: AbortSignal.timeout(PATIENCE) });
  if (!answer.ok) throw new Error(`${url} answers ${answer.status}`);
  return decode<Record<string, unknown> | null>(await body(url, answer)) ?? {};
}

/** Reads a body up to MAX_ANSWER. */
async function body(url: URL, answer: Response): Promise<Uint8Array> {
  const all = new Uint8Array(MAX_ANSWER);
  let length = 0;
  const reader = answer.body?.getReader();
  if (!reader) return new Uint8Array();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return all.slice(0, length);
    if (length + value.length > MAX_ANSWER) {
      await reader.cancel();
      throw new Error(`${url} answers more than ${MAX_ANSWER} bytes`);
    }
    all.set(value, length);
    length += value.length;
  }
}
