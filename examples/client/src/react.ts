// An IC WebSocket for as long as a component is on the page. React is asked for nothing else.

import { useEffect, useRef, useState } from "react";
import type { GetApplicationMessageType, _WS_CANISTER_SERVICE } from "./candid.js";
import type { IcWebSocketConfig } from "./config.js";
import { EVENTS, type IcWebSocketEventMap } from "./events.js";
import { IcWebSocket } from "./ic-websocket.js";
import type { CloseReason } from "./reasons.js";

/** What is called for each event: onmessage, onreopened... Each call is of the function that was given last. */
export type IcWebSocketHandlers<ApplicationMessageType> = {
  [Type in keyof IcWebSocketEventMap<unknown> as `on${Type}`]?: (event: IcWebSocketEventMap<ApplicationMessageType>[Type]) => void;
};

/** Where a session is: "idle" as long as there is none at all, "closed" once nothing comes back. */
export type IcWebSocketStatus = "idle" | "connecting" | "open" | "reconnecting" | "closed";

/** What a component knows of its session. */
export interface IcWebSocketState<S extends _WS_CANISTER_SERVICE, ApplicationMessageType> {
  /** To send with. It stays the same through reconnects. */
  ws: IcWebSocket<S, ApplicationMessageType> | undefined;
  status: IcWebSocketStatus;
  /** How the last session ended, if there is none. */
  closeReason: CloseReason | undefined;
}

/**
 * Opens an IC WebSocket when the component is mounted and closes it when it goes. Another one is opened if the gateway, the
 * canister, the network or the identity changes, and not for a configuration that is merely written anew in each render.
 *
 * @param url as for IcWebSocket
 * @param config as for IcWebSocket; undefined while there is none yet, as before a login
 * @param handlers messages come here: a state would keep the last of several alone
 */
export function useIcWebSocket<S extends _WS_CANISTER_SERVICE, ApplicationMessageType = GetApplicationMessageType<S>>(
  url: string | readonly string[],
  config: IcWebSocketConfig<S> | undefined,
  handlers: IcWebSocketHandlers<ApplicationMessageType> = {},
): IcWebSocketState<S, ApplicationMessageType> {
  type State = IcWebSocketState<S, ApplicationMessageType>;
  const [state, setState] = useState<State>({ ws: undefined, status: "idle", closeReason: undefined });
  const latest = useRef(handlers);
  useEffect(() => void (latest.current = handlers));
  const about = config && [url, config.canisterId, config.networkUrl].join(" ");
  useEffect(() => {
    if (!config) return;
    let ws: IcWebSocket<S, ApplicationMessageType> | undefined;
    let isGone = false;
    const know = (status: IcWebSocketStatus, closeReason?: CloseReason) => isGone || setState({ ws, status, closeReason });
    const start = () => {
      ws = new IcWebSocket<S, ApplicationMessageType>(url, undefined, config);
      ws.addEventListener("open", () => know("open"));
      ws.addEventListener("reconnecting", ({ closeReason }) => know("reconnecting", closeReason));
      ws.addEventListener("close", ({ closeReason }) => know("closed", closeReason));
      for (const type of EVENTS) {
        ws.addEventListener(type, (event) => isGone || (latest.current[`on${type}`] as ((event: Event) => void) | undefined)?.(event));
      }
      know("connecting");
    };
    // Strict mode mounts twice, at once: the first of the two is gone before it would open anything.
    queueMicrotask(() => {
      if (isGone) return;
      try {
        start();
      } catch (error) {
        setState(() => {
          throw error; // to the error boundary, as if it had been thrown while rendering
        });
      }
    });
    return () => {
      isGone = true;
      ws?.close();
      setState({ ws: undefined, status: "idle", closeReason: undefined });
    };
  }, [about, config?.identity]);
  return state;
}
