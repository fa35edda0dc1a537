// What a session needs to know.

import type { ActorSubclass, SignIdentity } from "@icp-sdk/core/agent";
import type { Principal } from "@icp-sdk/core/principal";
import type { _WS_CANISTER_SERVICE } from "./candid.js";

/** The configuration of an IcWebSocket. */
export interface IcWebSocketConfig<S extends _WS_CANISTER_SERVICE> {
  /** The canister to talk to. */
  canisterId: string | Principal;
  /** Its actor, from which the type of messages is read. Nothing is called through it. */
  canisterActor: ActorSubclass<S>;
  /** Signs every message. The canister sees its principal. It must not be anonymous. */
  identity: SignIdentity;
  /** The network: https://icp-api.io, or that of a test network, such as http://localhost:8000. */
  networkUrl: string;
  /** How often the canister acknowledges, in milliseconds, as it was initialized. Default: 300,000. */
  ackMessageIntervalMs?: number;
  /** How old the certificate of a message may be, in minutes. Default: 5. */
  maxCertificateAgeInMinutes?: number;

  /**
   * The root key of the network, DER, or "fetch" to ask networkUrl for it, which only suits test networks: whoever answers is
   * trusted. Default: mainnet's, which is built in, and "fetch" where networkUrl is on this machine.
   */
  rootKey?: Uint8Array | "fetch";
  /** Whether a new session is opened after one that ended for a reason that a new one can cure. Default: true. */
  reconnect?: boolean;
  /** The WebSocket to use where there is no global one: Node.js 20 has none, the package ws has. */
  WebSocket?: new (url: string, protocols?: string | string[]) => any;
}

/** Lets TypeScript infer the type of a configuration. */
export const createWsConfig = <S extends _WS_CANISTER_SERVICE>(config: IcWebSocketConfig<S>): IcWebSocketConfig<S> => config;
