// A page as somebody begins one: what the package's types and its hook are for.

import { Actor, HttpAgent, type ActorMethod, type ActorSubclass } from "@icp-sdk/core/agent";
import type { IDL } from "@icp-sdk/core/candid";
import type { Principal } from "@icp-sdk/core/principal";
import { createWsConfig, generateRandomIdentity, type IcWebSocketConfig } from "@icws-gateway/client";
import { useIcWebSocket } from "@icws-gateway/client/react";
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";

interface Key {
  client_principal: Principal;
  client_nonce: bigint;
}
interface Message {
  client_key: Key;
  sequence_num: bigint;
  timestamp: bigint;
  is_service_message: boolean;
  content: Uint8Array | number[];
}
type Result = { Ok: null } | { Err: string };
interface _SERVICE {
  ws_open: ActorMethod<[{ client_nonce: bigint; gateway_principal: Principal }], Result>;
  ws_message: ActorMethod<[{ msg: Message }, [] | [{ text: string }]], Result>;
}

const idlFactory: IDL.InterfaceFactory = ({ IDL }) => {
  const Result = IDL.Variant({ Ok: IDL.Null, Err: IDL.Text });
  const Key = IDL.Record({ client_principal: IDL.Principal, client_nonce: IDL.Nat64 });
  const Message = IDL.Record({
    client_key: Key,
    sequence_num: IDL.Nat64,
    timestamp: IDL.Nat64,
    is_service_message: IDL.Bool,
    content: IDL.Vec(IDL.Nat8),
  });
  return IDL.Service({
    ws_open: IDL.Func([IDL.Record({ client_nonce: IDL.Nat64, gateway_principal: IDL.Principal })], [Result], []),
    ws_message: IDL.Func([IDL.Record({ msg: Message }), IDL.Opt(IDL.Record({ text: IDL.Text }))], [Result], []),
  });
};

const canisterId = "bkyz2-fmaaa-aaaaa-qaaaq-cai";
const networkUrl = "https://icp-api.io";
const identity = generateRandomIdentity();
const canisterActor: ActorSubclass<_SERVICE> = Actor.createActor(idlFactory, { agent: HttpAgent.createSync({ host: networkUrl }), canisterId });

export function Chat({ config }: { config: IcWebSocketConfig<_SERVICE> | undefined }) {
  const [texts, setTexts] = useState<string[]>([]);
  const { ws, status, closeReason } = useIcWebSocket(["wss://one.example/ws", "wss://two.example/ws"], config, {
    onmessage: ({ data }) => setTexts((before) => [...before, data.text]),
    onclockskew: ({ ahead }) => console.warn(`the clock is ${ahead} ms ahead`),
  });
  // @ts-expect-error: of another type than the canister's messages
  const wrong = () => ws?.send({ text: 7 });
  return (
    <button disabled={status !== "open"} onDoubleClick={wrong} onClick={() => void ws?.send({ text: "hello" })}>
      {closeReason?.text ?? texts.join()}
    </button>
  );
}

const config = createWsConfig({ canisterId, canisterActor, identity, networkUrl });
createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <Chat config={config} />
  </StrictMode>,
);
