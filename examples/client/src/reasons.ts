// Why a session ended. The codes of a gateway are those of the README of caddy-icws, "When a session ends"; 4000 and 4001 with
// their texts are those of the SDK (PROTOCOL section 1).

/** Whether a new session can help: never, at once, or after a first pause that is longer. */
export type Retry = "never" | "soon" | "later";

/** What ended a session. Names are stable, texts are for people. */
export type CloseName =
  // Of the gateway, by code.
  | "normal" // 1000: the canister or the application closed
  | "going_away" // 1001: the instance ends, or its operator closed the session
  | "protocol_error" // 1002: this client does not speak the protocol
  | "unsupported_data" // 1003: the same
  | "no_code" // 1005: gateways that give no code
  | "connection_lost" // 1006: the connection broke, or was refused before it was a WebSocket
  | "refused" // 1008: repeating cannot cure it
  | "too_large" // 1009: a message was too large
  | "failed" // 1011: the canister failed, or the gateway did
  | "session_over" // 1012: a new session may be opened at once
  | "try_later" // 1013: something is full, slow or stopped
  // Of this client, code 4000.
  | "open_timeout"
  | "bad_handshake"
  | "bad_message"
  | "bad_service_message"
  | "bad_ack"
  | "ack_timeout"
  | "send_failed"
  | "keep_alive_failed"
  | "removed_by_canister"
  // Of this client, code 4001: the canister closed on purpose.
  | "closed_by_canister"
  // Any other code.
  | "other";

/** The end of a session. */
export interface CloseReason {
  readonly name: CloseName;
  /** The code of the close frame; 1005 and 1006 stand for none, as in every WebSocket. */
  readonly code: number;
  /** What the other side gave as its reason, or this client as its own. */
  readonly text: string;
  readonly retry: Retry;
}

const byCode: Readonly<Record<number, readonly [CloseName, Retry]>> = {
  1000: ["normal", "never"],
  1001: ["going_away", "soon"],
  1002: ["protocol_error", "never"],
  1003: ["unsupported_data", "never"],
  1005: ["no_code", "soon"],
  1006: ["connection_lost", "soon"],
  1008: ["refused", "never"],
  1009: ["too_large", "soon"],
  1011: ["failed", "soon"],
  1012: ["session_over", "soon"],
  1013: ["try_later", "later"],
  4001: ["closed_by_canister", "never"],
};

/** Reads what a close event says. */
export function closeReason(code: number, text: string): CloseReason {
  const [name, retry] = byCode[code] ?? ["other", "soon"];
  return { name, code, text, retry };
}

/**
 * Ends of a ws_open that was not answered which a wrong clock can be behind: what the network does not take, this gateway refuses,
 * and others say nothing about.
 */
export const mayBeTheClock = ({ name }: CloseReason): boolean => ["refused", "no_code", "connection_lost", "open_timeout"].includes(name);

const own = (name: CloseName, code: number, text: string, retry: Retry): CloseReason => ({ name, code, text, retry });

/** The ends that this client decides on, as the SDK words them. */
export const ends = {
  closed: own("normal", 1000, "", "never"),
  openTimeout: own("open_timeout", 4000, "Open connection timeout", "soon"),
  handshake: own("bad_handshake", 4000, "Handshake message error", "soon"),
  message: own("bad_message", 4000, "Error receiving message", "soon"),
  service: own("bad_service_message", 4000, "Service message error", "soon"),
  ack: own("bad_ack", 4000, "Ack message error", "soon"),
  ackTimeout: own("ack_timeout", 4000, "Ack message timeout", "soon"),
  send: own("send_failed", 4000, "Message sending failed", "soon"),
  keepAlive: own("keep_alive_failed", 4000, "Keep alive message was not sent", "soon"),
  removed: own("removed_by_canister", 4000, "Received close message from canister", "soon"),
  byCanister: own("closed_by_canister", 4001, "ClosedByApplication", "never"),
} as const;
