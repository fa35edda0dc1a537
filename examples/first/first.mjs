// The smallest client: opens one session, prints what the canister says, and answers the first message.
//
// Usage: node first.mjs <gateway, wss://...> <canister id> <network, https://icp-api.io>

import { Actor, HttpAgent } from "@dfinity/agent";
import { IDL } from "@dfinity/candid";
import { IcWebSocket, createWsConfig, generateRandomIdentity } from "ic-websocket-js";
import { WebSocket } from "ws";

// A browser has these. Node has them from version 22 on, some of them.
globalThis.WebSocket ??= WebSocket;
globalThis.ErrorEvent ??= class ErrorEvent extends Event {
  constructor(type, init = {}) {
    super(type);
    this.error = init.error;
    this.message = init.message ?? String(init.error ?? "");
  }
};

const [gateway, canisterId, network] = process.argv.slice(2);
if (!network) {
  console.error("usage: node first.mjs <gateway, wss://...> <canister id> <network, https://icp-api.io>");
  process.exit(2);
}

// What the messages of the application are: the canister's own type. The rest of the interface is the CDK's.
const AppMessage = IDL.Record({ text: IDL.Text });

const ClientKey = IDL.Record({ client_principal: IDL.Principal, client_nonce: IDL.Nat64 });
const Result = IDL.Variant({ Ok: IDL.Null, Err: IDL.Text });
const Message = IDL.Record({
  client_key: ClientKey, sequence_num: IDL.Nat64, timestamp: IDL.Nat64, is_service_message: IDL.Bool, content: IDL.Vec(IDL.Nat8),
});
const Page = IDL.Record({
  messages: IDL.Vec(IDL.Record({ client_key: ClientKey, key: IDL.Text, content: IDL.Vec(IDL.Nat8) })),
  cert: IDL.Vec(IDL.Nat8), tree: IDL.Vec(IDL.Nat8), is_end_of_queue: IDL.Bool,
});
const service = () => IDL.Service({
  ws_open: IDL.Func([IDL.Record({ client_nonce: IDL.Nat64, gateway_principal: IDL.Principal })], [Result], []),
  ws_message: IDL.Func([IDL.Record({ msg: Message }), IDL.Opt(AppMessage)], [Result], []),
  ws_close: IDL.Func([IDL.Record({ client_key: ClientKey })], [Result], []),
  ws_get_messages: IDL.Func([IDL.Record({ nonce: IDL.Nat64 })], [IDL.Variant({ Ok: Page, Err: IDL.Text })], ["query"]),
});

const identity = generateRandomIdentity(); // of the person who is logged in, in an application
const canisterActor = Actor.createActor(service, { agent: HttpAgent.createSync({ host: network, identity }), canisterId });

const ws = new IcWebSocket(gateway, undefined, createWsConfig({ canisterId, canisterActor, identity, networkUrl: network }));
let answered = false;
ws.onopen = () => console.log("open");
ws.onmessage = ({ data }) => {
  console.log(`the canister says "${data.text}"`);
  if (answered) {
    ws.close();
    return;
  }
  answered = true;
  ws.send({ text: "hello" });
};
ws.onerror = ({ error }) => console.error("error:", error ?? "no connection: is the address right, and does Node trust its certificate?");
ws.onclose = ({ code, reason }) => {
  console.log(`closed: ${code} ${reason}`);
  process.exit(answered ? 0 : 1);
};
