// The key that every certificate is proved with (PROTOCOL section 4.4).

import { Cbor, IC_ROOT_KEY } from "@icp-sdk/core/agent";

/** The root key of the Internet Computer, DER. It is known, so nobody is asked for it. */
export const mainnetRootKey = (): Uint8Array => Uint8Array.from(IC_ROOT_KEY.match(/../g)!, (byte) => parseInt(byte, 16));

/** Whether a network is on this machine: a test network, whose key nobody can know beforehand. */
export function isLocal(networkUrl: string): boolean {
  const { hostname } = new URL(networkUrl);
  return hostname === "localhost" || hostname.endsWith(".localhost") || hostname === "[::1]" || /^127(\.\d+){3}$/.test(hostname);
}

/** The longest status of a network that is read, in bytes. Real ones are below 1 kB. */
const MAX_STATUS = 64 << 10;

/** How long the answer may take, in milliseconds. */
const PATIENCE = 30_000;

/** Asks a test network for its root key (PROTOCOL section 4.1). Whoever answers is trusted: never use it for mainnet. */
export async function fetchRootKey(networkUrl: string): Promise<Uint8Array> {
  const url = new URL("/api/v2/status", networkUrl);
  const answer = await fetch(url, { signal: AbortSignal.timeout(PATIENCE) });
  if (!answer.ok) throw new Error(`${url} answers ${answer.status}`);
  const body = new Uint8Array(await answer.arrayBuffer());
  if (body.length > MAX_STATUS) throw new Error(`${url} answers ${body.length} bytes`);
  const key = Cbor.decode<{ root_key?: unknown } | null>(body)?.root_key;
  if (!(key instanceof Uint8Array)) throw new Error(`${url} names no root key`);
  return key;
}
