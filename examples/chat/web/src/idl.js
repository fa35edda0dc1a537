// The Candid interface of the chat canister: what `dfx generate` would write for the Motoko and Rust canisters in
// examples/canisters, which speak the same messages.

export const idlFactory = ({ IDL }) => {
  // The canister fills in author, at and online; what a client puts there is ignored. A message without text only says
  // how many are here.
  const Message = IDL.Record({
    author: IDL.Principal,
    name: IDL.Text,
    text: IDL.Text,
    at: IDL.Nat64,
    online: IDL.Nat32,
  });
  const ClientKey = IDL.Record({ client_principal: IDL.Principal, client_nonce: IDL.Nat64 });
  const WebsocketMessage = IDL.Record({
    client_key: ClientKey,
    sequence_num: IDL.Nat64,
    timestamp: IDL.Nat64,
    is_service_message: IDL.Bool,
    content: IDL.Vec(IDL.Nat8),
  });
  const Result = IDL.Variant({ Ok: IDL.Null, Err: IDL.Text });
  const Output = IDL.Record({ client_key: ClientKey, key: IDL.Text, content: IDL.Vec(IDL.Nat8) });
  const CertifiedMessages = IDL.Record({
    messages: IDL.Vec(Output),
    cert: IDL.Vec(IDL.Nat8),
    tree: IDL.Vec(IDL.Nat8),
    is_end_of_queue: IDL.Bool,
  });
  return IDL.Service({
    ws_open: IDL.Func([IDL.Record({ client_nonce: IDL.Nat64, gateway_principal: IDL.Principal })], [Result], []),
    ws_message: IDL.Func([IDL.Record({ msg: WebsocketMessage }), IDL.Opt(Message)], [Result], []),
    ws_close: IDL.Func([IDL.Record({ client_key: ClientKey })], [Result], []),
    ws_get_messages: IDL.Func(
      [IDL.Record({ nonce: IDL.Nat64 })],
      [IDL.Variant({ Ok: CertifiedMessages, Err: IDL.Text })],
      ["query"],
    ),
  });
};
