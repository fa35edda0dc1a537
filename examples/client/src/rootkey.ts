// The key that every certificate is proved with (PROTOCOL section 4.4).

import { IC_ROOT_KEY } from "@icp-sdk/core/agent";
import type { IcWebSocketConfig } from "./config.js";
import { fetchRootKey } from "./network.js";

/** The root key of the network that a configuration names, DER. */
export function rootKey({ rootKey, networkUrl }: Pick<IcWebSocketConfig<any>, "rootKey" | "networkUrl">): Promise<Uint8Array> {
  if (rootKey instanceof Uint8Array) return Promise.resolve(rootKey);
  if (rootKey !== "fetch" && !isLocal(networkUrl)) return Promise.resolve(mainnetRootKey());
  const fetched = fetchRootKey(networkUrl);
  fetched.catch(() => {}); // it is told of when the first message cannot be judged
  return fetched;
}

/** The root key of the Internet Computer, DER. It is known, so nobody is asked for it. */
export const mainnetRootKey = (): Uint8Array => Uint8Array.from(IC_ROOT_KEY.match(/../g)!, (byte) => parseInt(byte, 16));

/** Whether a network is on this machine: a test network, whose key nobody can know beforehand. */
export function isLocal(networkUrl: string): boolean {
  const { hostname } = new URL(networkUrl);
  return hostname === "localhost" || hostname.endsWith(".localhost") || hostname === "[::1]" || /^127(\.\d+){3}$/.test(hostname);
}
