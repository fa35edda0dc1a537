// The interface of a canister that uses the CDK, as far as a client needs it (PROTOCOL sections 2.4 and 2.5).

import { Actor, type ActorMethod, type ActorSubclass } from "@icp-sdk/core/agent";
import { IDL } from "@icp-sdk/core/candid";
import type { Principal } from "@icp-sdk/core/principal";
import type { ClientKey } from "./frame.js";

/** What a canister with WebSockets offers: the part of its generated declarations that is used here. */
export interface _WS_CANISTER_SERVICE {
  ws_open: ActorMethod<any, any>;
  ws_message: ActorMethod<any, any>;
}

/** The messages of an application: the second argument of its ws_message, without the opt. */
export type GetApplicationMessageType<S extends _WS_CANISTER_SERVICE> = S["ws_message"] extends ActorMethod<infer Args, any>
  ? Args extends [unknown, [] | [infer Message]]
    ? Message
    : never
  : never;

const ClientKeyType = IDL.Record({ client_principal: IDL.Principal, client_nonce: IDL.Nat64 });
const OpenArgs = IDL.Record({ client_nonce: IDL.Nat64, gateway_principal: IDL.Principal });
const MessageArgs = IDL.Record({
  msg: IDL.Record({
    client_key: ClientKeyType,
    sequence_num: IDL.Nat64,
    timestamp: IDL.Nat64,
    is_service_message: IDL.Bool,
    content: IDL.Vec(IDL.Nat8),
  }),
});
const Count = IDL.Record({ last_incoming_sequence_num: IDL.Nat64 });
const ServiceMessageType = IDL.Variant({
  OpenMessage: IDL.Record({ client_key: ClientKeyType }),
  AckMessage: Count,
  KeepAliveMessage: Count,
  CloseMessage: IDL.Record({
    reason: IDL.Variant({
      WrongSequenceNumber: IDL.Null,
      InvalidServiceMessage: IDL.Null,
      KeepAliveTimeout: IDL.Null,
      ClosedByApplication: IDL.Null,
    }),
  }),
});

/** What the protocol says to a client in place of the application. */
export type ServiceMessage =
  | { OpenMessage: { client_key: ClientKey } }
  | { AckMessage: { last_incoming_sequence_num: bigint } }
  | { KeepAliveMessage: { last_incoming_sequence_num: bigint } }
  | { CloseMessage: { reason: Record<string, null> } };

export const readServiceMessage = (content: Uint8Array): ServiceMessage =>
  IDL.decode([ServiceMessageType], content)[0] as unknown as ServiceMessage;

/** Says how many messages of the canister have arrived. */
export const keepAlive = (received: bigint): Uint8Array =>
  IDL.encode([ServiceMessageType], [{ KeepAliveMessage: { last_incoming_sequence_num: received } }]);

export const openArgs = (nonce: bigint, gateway: Principal): Uint8Array =>
  IDL.encode([OpenArgs], [{ client_nonce: nonce, gateway_principal: gateway }]);

/** The arguments of ws_message. The second names the application's type to code generators alone and is always null. */
export const messageArgs = (
  client_key: ClientKey,
  sequence_num: bigint,
  now: number,
  is_service_message: boolean,
  content: Uint8Array,
): Uint8Array =>
  IDL.encode(
    [MessageArgs, IDL.Opt(IDL.Null)],
    [{ msg: { client_key, sequence_num, timestamp: BigInt(now) * 1_000_000n, is_service_message, content } }, []],
  );

/** Takes what is inside of an opt. */
class Inside extends IDL.Visitor<null, IDL.Type | undefined> {
  override visitType(): undefined {
    return undefined;
  }
  override visitOpt(_: IDL.OptClass<unknown>, inside: IDL.Type): IDL.Type {
    return inside;
  }
}

/** The Candid type of an application's messages, from its actor. */
export function messageType(actor: ActorSubclass<any>): IDL.Type {
  const method = Actor.interfaceOf(actor)._fields.find(([name]) => name === "ws_message")?.[1];
  if (!method) throw new Error("the canister's interface has no ws_message: does it use the CDK, and is canisterActor its actor?");
  const [, second] = method.argTypes;
  const type = method.argTypes.length === 2 ? second!.accept(new Inside(), null) : undefined;
  if (!type) throw new Error("the second argument of ws_message must be opt and the type of the application's messages");
  return type;
}
