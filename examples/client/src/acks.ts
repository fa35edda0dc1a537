// What the canister has acknowledged (PROTOCOL section 1, "Ack/keep-alive").

import type { CloseReason } from "./reasons.js";

/** Why a message was not acknowledged. */
export type Fate =
  /** It has never left this client. */
  | "unsent"
  /** It was sent, and the session ended before the canister said that it had arrived. */
  | "unknown";

/** A message was not acknowledged before the session ended. Nothing is repeated in secret: that is the application's choice. */
export class NotAcknowledgedError extends Error {
  override readonly name = "NotAcknowledgedError";

  constructor(
    readonly fate: Fate,
    /** How the session ended, if that is known already. */
    readonly closeReason: CloseReason | undefined,
  ) {
    super(
      (fate === "unsent" ? "the message was not sent" : "whether the canister has got the message is not known") +
        (closeReason ? `: the session ended with ${closeReason.code} ${closeReason.text}`.trimEnd() : ""),
    );
  }
}

/** Who waits for an ack. */
export interface Waiting {
  resolve(): void;
  reject(fate: Fate): void;
}

/** Messages that were sent and not yet acknowledged, and the timer that ends a session in which nothing is. */
export class Acks {
  #last = 0n;
  #acked = 0n;
  #waiting = new Map<bigint, Waiting>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** late is called when the canister has said nothing for that long, in milliseconds. */
  constructor(
    private readonly timeout: number,
    private readonly late: () => void,
  ) {}

  /** The number of the next message. */
  next(): bigint {
    return this.#last + 1n;
  }

  /** The canister has opened the session: it acknowledges at its interval from now on, also to a client that sends nothing. */
  expect(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.late, this.timeout);
  }

  /** A message goes out with the next number. */
  sent(waiting?: Waiting): void {
    this.#last++;
    if (waiting) this.#waiting.set(this.#last, waiting);
  }

  /** The canister has got all up to a number, and the next ack is due. Throws if that is more than was sent. */
  received(upTo: bigint): void {
    if (upTo > this.#last) throw new Error(`the canister acknowledges message ${upTo}, and ${this.#last} were sent`);
    while (this.#acked < upTo) {
      this.#acked++;
      this.#waiting.get(this.#acked)?.resolve();
      this.#waiting.delete(this.#acked);
    }
    this.expect();
  }

  /** The session is over. */
  end(): void {
    clearTimeout(this.#timer);
    for (const waiting of this.#waiting.values()) waiting.reject("unknown");
    this.#waiting.clear();
  }
}
