// The events of browsers that Node.js lacks, and our own.

import type { CloseReason } from "./reasons.js";

/** The end, after which nothing more comes. */
export class IcWebSocketCloseEvent extends Event implements CloseEvent {
  readonly code: number;
  readonly reason: string;
  readonly wasClean: boolean;

  constructor(readonly closeReason: CloseReason) {
    super("close");
    this.code = closeReason.code;
    this.reason = closeReason.text;
    this.wasClean = closeReason.code !== 1006;
  }
}

/** Something went wrong. If it is the end, a close event follows. */
export class IcWebSocketErrorEvent extends Event implements ErrorEvent {
  readonly message: string;
  readonly filename = "";
  readonly lineno = 0;
  readonly colno = 0;

  constructor(readonly error: Error) {
    super("error");
    this.message = error.message;
  }
}

/** A session ended, and the next one is on its way ("reconnecting"), or there is a new one after that ("reopened"). */
export class IcWebSocketReconnectEvent extends Event {
  constructor(
    type: "reconnecting" | "reopened",
    /** How the last session ended. */
    readonly closeReason: CloseReason,
    /** How many attempts have failed in a row. */
    readonly failed: number,
    /** Until the next attempt, in milliseconds; 0 once there is a session. */
    readonly delay: number,
  ) {
    super(type);
  }
}
