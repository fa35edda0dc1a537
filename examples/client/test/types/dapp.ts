// A front end as it was written for ic-websocket-js, with generated declarations. It has to compile with another import alone.

import type { ActorMethod, ActorSubclass, SignIdentity } from "@icp-sdk/core/agent";
import type { Principal } from "@icp-sdk/core/principal";
import {
  IcWebSocket,
  createWsConfig,
  generateRandomIdentity,
  type IcWebSocketConfig,
  type IcWebSocketReconnectEvent,
} from "@icws-gateway/client";

interface AppMessage {
  text: string;
}
interface ClientKey {
  client_principal: Principal;
  client_nonce: bigint;
}
interface WebsocketMessage {
  client_key: ClientKey;
  sequence_num: bigint;
  timestamp: bigint;
  is_service_message: boolean;
  content: Uint8Array | number[];
}
type Result = { Ok: null } | { Err: string };
interface _SERVICE {
  ws_open: ActorMethod<[{ client_nonce: bigint; gateway_principal: Principal }], Result>;
  ws_message: ActorMethod<[{ msg: WebsocketMessage }, [] | [AppMessage]], Result>;
  ws_close: ActorMethod<[{ client_key: ClientKey }], Result>;
  ping: ActorMethod<[], string>;
}

export function connect(backend: ActorSubclass<_SERVICE>, canisterId: string, who?: SignIdentity): IcWebSocket<_SERVICE> {
  const config: IcWebSocketConfig<_SERVICE> = createWsConfig({
    canisterId,
    canisterActor: backend,
    identity: who ?? generateRandomIdentity(),
    networkUrl: "https://icp-api.io",
    ackMessageIntervalMs: 300_000,
    maxCertificateAgeInMinutes: 5,
  });
  const ws = new IcWebSocket("wss://gateway.example/ws", undefined, config);
  ws.onopen = () => ws.send({ text: "hello" });
  ws.onmessage = async (event) => {
    const message: AppMessage = event.data;
    if (message.text === "bye" && ws.readyState === ws.OPEN && ws.isConnectionEstablished()) ws.close();
  };
  ws.onerror = (event: ErrorEvent) => console.error(event.error);
  ws.onclose = (event: CloseEvent) => console.log(event.code, event.reason, ws.getPrincipal().toText());
  // @ts-expect-error: of another type than the canister's messages
  ws.onopen = () => ws.send({ text: 7 });
  return ws;
}

// What the SDK has not.
export async function more(ws: IcWebSocket<_SERVICE>): Promise<string> {
  ws.onreconnecting = ({ closeReason, delay }) => console.log(closeReason.name, closeReason.text, delay);
  ws.onclose = ({ closeReason }) => console.log(closeReason.retry);
  await ws.send({ text: "acknowledged" });
  return ws.canisterId.toText();
}

export function listen(ws: IcWebSocket<_SERVICE>): EventTarget {
  const again = ({ delay, failed }: IcWebSocketReconnectEvent) => console.log(delay + failed);
  ws.addEventListener("open", function () {
    void this.send({ text: "hello" });
  });
  ws.addEventListener("message", ({ data }) => console.log(data.text.length), { passive: true });
  ws.addEventListener("clockskew", ({ ahead }) => console.log(ahead / 60_000));
  ws.addEventListener("close", { handleEvent: ({ closeReason }) => console.log(closeReason.name) }, { once: true });
  ws.addEventListener("reconnecting", again);
  ws.removeEventListener("reconnecting", again);
  // @ts-expect-error: no event has this name
  ws.addEventListener("reconnect", again);
  // @ts-expect-error: nor here
  ws.removeEventListener("reconnect", again);
  // @ts-expect-error: the event has no delay
  ws.addEventListener("open", again);
  // @ts-expect-error: the canister's messages have no such field
  ws.addEventListener("message", ({ data }) => data.txt);
  // @ts-expect-error: the same of a handler
  ws.onmessage = ({ data }) => data.txt;
  return ws;
}
