// What a client sends: calls as the Internet Computer takes them, which the gateway passes on (PROTOCOL sections 2.2 and 4.3).

import { Cbor, Endpoint, Expiry, SubmitRequestType, makeNonce, type SignIdentity } from "@icp-sdk/core/agent";
import type { Principal } from "@icp-sdk/core/principal";
import type { Clock } from "./clock.js";

/** How long a call may take to arrive, in milliseconds. It is rounded down to a minute: 3 to 4 minutes are left. */
const LIFE = 240_000;

/** Signs a call of the canister and wraps it for the gateway. */
export async function envelope(
  identity: SignIdentity,
  canisterId: Principal,
  method_name: "ws_open" | "ws_message",
  arg: Uint8Array,
  clock: Clock,
): Promise<Uint8Array> {
  const signed = (await identity.transformRequest({
    endpoint: Endpoint.Call,
    request: {},
    body: {
      request_type: SubmitRequestType.Call,
      canister_id: canisterId,
      method_name,
      arg,
      sender: identity.getPrincipal(),
      ingress_expiry: Expiry.fromDeltaInMilliseconds(LIFE, -clock.ahead),
      nonce: makeNonce(),
    },
  })) as { body: unknown };
  return Cbor.encode({ envelope: signed.body });
}
