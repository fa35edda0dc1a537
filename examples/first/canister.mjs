// The Candid interface of the canister, as `icp` and `dfx` generate it. The SDK reads the type of the application's messages off
// the second argument of ws_message; the rest is the CDK's.

/** The type of the application's messages: put yours here. */
const message = (IDL) => IDL.Record({ text: IDL.Text });

export const idlFactory = ({ IDL }, AppMessage = message(IDL)) => {
  const ClientKey = IDL.Record({ client_principal: IDL.Principal, client_nonce: IDL.Nat64 });
  const Result = IDL.Variant({ Ok: IDL.Null, Err: IDL.Text });
  const Message = IDL.Record({
    client_key: ClientKey,
    sequence_num: IDL.Nat64,
    timestamp: IDL.Nat64,
    is_service_message: IDL.Bool,
    content: IDL.Vec(IDL.Nat8),
  });
  const Page = IDL.Record({
    messages: IDL.Vec(IDL.Record({ client_key: ClientKey, key: IDL.Text, content: IDL.Vec(IDL.Nat8) })),
    cert: IDL.Vec(IDL.Nat8),
    tree: IDL.Vec(IDL.Nat8),
    is_end_of_queue: IDL.Bool,
  });
  return IDL.Service({
    ws_open: IDL.Func([IDL.Record({ client_nonce: IDL.Nat64, gateway_principal: IDL.Principal })], [Result], []),
    ws_message: IDL.Func([IDL.Record({ msg: Message }), IDL.Opt(AppMessage)], [Result], []),
    ws_close: IDL.Func([IDL.Record({ client_key: ClientKey })], [Result], []),
    ws_get_messages: IDL.Func([IDL.Record({ nonce: IDL.Nat64 })], [IDL.Variant({ Ok: Page, Err: IDL.Text })], ["query"]),
  });
};
