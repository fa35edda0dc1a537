// The interface of the canister in ../../canister and ../../room, as far as a client needs it.

import { Actor } from "@icp-sdk/core/agent";

const service = ({ IDL }) => {
  const blob = IDL.Vec(IDL.Nat8);
  const room = { room: IDL.Nat64 };
  const epoch = { ...room, epoch: IDL.Nat64 };
  const Message = IDL.Variant({
    // From clients.
    open: IDL.Null,
    add: IDL.Record({ ...room, who: IDL.Principal }),
    remove: IDL.Record({ ...room, who: IDL.Principal }),
    close: IDL.Record(room),
    get_key: IDL.Record({ ...epoch, transport_key: blob }),
    say: IDL.Record({ ...epoch, counter: IDL.Nat64, ciphertext: blob }),
    // From the canister.
    room: IDL.Record({ ...epoch, owner: IDL.Principal, members: IDL.Vec(IDL.Principal) }),
    left: IDL.Record(room),
    key: IDL.Record({ ...epoch, encrypted_key: blob }),
    said: IDL.Record({ ...epoch, sender: IDL.Principal, counter: IDL.Nat64, at: IDL.Nat64, ciphertext: blob }),
    refused: IDL.Record({ ...room, request: IDL.Text, reason: IDL.Text }),
  });
  const ClientKey = IDL.Record({ client_principal: IDL.Principal, client_nonce: IDL.Nat64 });
  const WebsocketMessage = IDL.Record({
    client_key: ClientKey,
    sequence_num: IDL.Nat64,
    timestamp: IDL.Nat64,
    is_service_message: IDL.Bool,
    content: blob,
  });
  const Result = IDL.Variant({ Ok: IDL.Null, Err: IDL.Text });
  return IDL.Service({
    ws_open: IDL.Func([IDL.Record({ client_nonce: IDL.Nat64, gateway_principal: IDL.Principal })], [Result], []),
    ws_message: IDL.Func([IDL.Record({ msg: WebsocketMessage }), IDL.Opt(Message)], [Result], []),
  });
};

/** The actor, from which the client reads the type of messages. Nothing is called through it. */
export const actor = (canisterId) => Actor.createActor(service, { agent: {}, canisterId });
