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
    /** "reconnecting": how the last session, or the last attempt at one, ended. "reopened": how the last session ended. */
    readonly closeReason: CloseReason,
    /** How many attempts in a row have failed, or led to a session of less than half a minute. */
    readonly failed: number,
    /** Until the next attempt, in milliseconds; 0 once there is a session. */
    readonly delay: number,
  ) {
    super(type);
  }
}

/** This device's clock was found to be more than a minute wrong, or right again. What is signed from now on has the right time. */
export class IcWebSocketClockSkewEvent extends Event {
  constructor(
    /** How far the clock is ahead, in milliseconds; negative if it is behind, 0 if it is right again. */
    readonly ahead: number,
  ) {
    super("clockskew");
  }
}

/** The events of an IcWebSocket, by name. */
export interface IcWebSocketEventMap<ApplicationMessageType> {
  /** The canister has taken the session: messages can be sent. After a reconnect it is a new session, and this comes again. */
  open: Event;
  /** A message of the canister, proved and decoded. */
  message: MessageEvent<ApplicationMessageType>;
  /** Something went wrong; the text says what. If it is the end, close follows. */
  error: IcWebSocketErrorEvent;
  /** The end: nothing comes back after it. Its closeReason says why. */
  close: IcWebSocketCloseEvent;
  /** A session ended for a reason that a new one can cure, which is tried after a pause. */
  reconnecting: IcWebSocketReconnectEvent;
  /** There is a session again, after open: fetch what was missed while there was none. */
  reopened: IcWebSocketReconnectEvent;
  /** The clock is wrong: tell the person, and sign nothing else by it. */
  clockskew: IcWebSocketClockSkewEvent;
}

/** Their names. */
export const EVENTS = ["open", "message", "error", "close", "reconnecting", "reopened", "clockskew"] as const satisfies readonly (keyof IcWebSocketEventMap<unknown>)[];

/** What is called with an event: as on<name>, or as a listener, which can also be an object. */
export type Handler<This, Type extends keyof IcWebSocketEventMap<M>, M> = ((this: This, ev: IcWebSocketEventMap<M>[Type]) => any) | null;
export type Listener<This, Type extends keyof IcWebSocketEventMap<M>, M> =
  | Handler<This, Type, M>
  | { handleEvent(ev: IcWebSocketEventMap<M>[Type]): any };
