export { NotAcknowledgedError, type Fate } from "./acks.js";
export type { GetApplicationMessageType, _WS_CANISTER_SERVICE } from "./candid.js";
export { createWsConfig, type IcWebSocketConfig } from "./config.js";
export {
  IcWebSocketClockSkewEvent,
  IcWebSocketCloseEvent,
  IcWebSocketErrorEvent,
  IcWebSocketReconnectEvent,
  type IcWebSocketEventMap,
} from "./events.js";
export { generateRandomIdentity } from "./identity.js";
export type { CloseName, CloseReason, Retry } from "./reasons.js";
export { IcWebSocket } from "./ic-websocket.js";
