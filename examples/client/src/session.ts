// One session: one socket, one client key, from the handshake to the end (PROTOCOL section 1). It does not come back.

import type { SignIdentity } from "@icp-sdk/core/agent";
import type { Principal } from "@icp-sdk/core/principal";
import { Acks, NotAcknowledgedError, type Waiting } from "./acks.js";
import { keepAlive, messageArgs, openArgs, readServiceMessage } from "./candid.js";
import type { Clock } from "./clock.js";
import { envelope } from "./envelope.js";
import { MAX_FRAME, readFrame, readMessage, type ClientKey } from "./frame.js";
import { readHandshake } from "./handshake.js";
import { Line } from "./line.js";
import { checkAge, prove } from "./proof.js";
import { closeReason, ends, type CloseReason } from "./reasons.js";

/** From the beginning to the handshake, which gateways send at once, in milliseconds. */
const CONNECT_TIMEOUT = 20_000;
/** From ws_open to the OpenMessage, in milliseconds. */
const OPEN_TIMEOUT = 60_000;
/** How long the other side of a close is waited for, in milliseconds. */
const CLOSE_TIMEOUT = 3_000;
/** How many bytes may wait to be verified, and what a frame counts at least. */
const MAX_WAITING = 32 << 20;
const LEAST_WAITING = 1 << 10;

/** Of a socket that takes messages, see WebSocket.readyState. */
const OPEN = 1;

/** What a session is about. */
export interface SessionOptions {
  canisterId: Principal;
  identity: SignIdentity;
  /** It is waited for before the first message is judged. */
  rootKey: Promise<Uint8Array>;
  /** It is held against the first message. */
  clock: Clock;
  /** The oldest certificate that is accepted, in milliseconds. */
  maxAge: number;
  /** The longest time without an ack, in milliseconds. */
  ackTimeout: number;
}

/** What becomes of it. Nothing is called after ended. */
export interface SessionEvents {
  opened(): void;
  /** A message of the application. What it throws ends the session. */
  message(content: Uint8Array): void;
  failed(error: Error): void;
  /** isUnanswered tells whether the canister was asked to open a session and nothing came back. */
  ended(reason: CloseReason, isUnanswered: boolean): void;
}

/** The socket to use: that of browsers, or one that does the same. */
export type Socket = Pick<
  WebSocket,
  "binaryType" | "bufferedAmount" | "readyState" | "send" | "close" | "onopen" | "onmessage" | "onerror" | "onclose"
>;

/** An error that ends the session, and how. */
class Ending extends Error {
  constructor(
    readonly reason: CloseReason,
    cause: unknown,
  ) {
    super(`${reason.text}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}

export class Session {
  readonly #key: ClientKey;
  readonly #acks: Acks;
  #gateway: Principal | undefined;
  /** When ws_open left, by this device's clock. Nobody else knew the nonce before. */
  #askedAt: number | undefined;
  #received = 0n;
  #isOpen = false;
  #end: CloseReason | undefined;
  /** What the connection was closed with. */
  #closed: CloseReason | undefined;
  #isOver = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Frames are read, and messages signed, one after the other. */
  readonly #reading = new Line();
  readonly #writing = new Line();
  #waiting = 0;
  #unsigned = 0;
  readonly #unsent = new Set<Waiting>();

  constructor(
    readonly socket: Socket,
    private readonly options: SessionOptions,
    private readonly events: SessionEvents,
  ) {
    this.#key = { client_principal: options.identity.getPrincipal(), client_nonce: crypto.getRandomValues(new BigUint64Array(1))[0]! };
    this.#acks = new Acks(options.ackTimeout, () => this.#fail(new Ending(ends.ackTimeout, "the canister acknowledges nothing")));
    this.#expect(CONNECT_TIMEOUT);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => this.#arrived(data);
    socket.onerror = () => {
      if (this.#end === undefined) this.#tell(new Error("the connection failed: is the address right, and does a gateway answer there?"));
    };
    socket.onclose = ({ code, reason }) => {
      const closed = (this.#closed = closeReason(code, String(reason)));
      // What came before the close is read first: it may be the canister's own word on why.
      this.#reading.add(() => this.#over(this.#end ?? closed));
    };
  }

  get isOpen(): boolean {
    return this.#isOpen && this.#end === undefined;
  }

  /** How it ends or has ended, as far as that is known; undefined while it does not end. */
  get ending(): CloseReason | undefined {
    return this.#end ?? this.#closed;
  }

  /** Bytes of messages that have not gone out: those to be signed, and those that the socket holds. */
  get bufferedAmount(): number {
    return this.#unsigned + this.socket.bufferedAmount;
  }

  /** Sends a message. Resolves when the canister has acknowledged it, rejects with a NotAcknowledgedError. */
  send(content: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) =>
      this.#write(false, content, { resolve, reject: (fate) => reject(new NotAcknowledgedError(fate, this.#end)) }),
    );
  }

  /** Ends the session. */
  close(reason: CloseReason = ends.closed): void {
    if (this.#end !== undefined || this.#isOver) return;
    this.#end = reason;
    this.#isOpen = false;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#over(reason), CLOSE_TIMEOUT);
    this.socket.close(reason.code, reason.text);
  }

  #over(reason: CloseReason): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#end ??= reason;
    this.#isOpen = false;
    clearTimeout(this.#timer);
    for (const waiting of this.#unsent) waiting.reject("unsent"); // an identity may never sign
    this.#acks.end();
    this.events.ended(reason, this.#askedAt !== undefined && this.#received === 0n);
  }

  #tell(error: Error): void {
    if (!this.#isOver) this.events.failed(error);
  }

  #fail(ending: Ending): void {
    if (this.#end !== undefined) return;
    this.#tell(ending);
    this.close(ending.reason);
  }

  /** Gives the other side so many milliseconds to go on with the opening. */
  #expect(time: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#fail(new Ending(ends.openTimeout, "no answer")), time);
  }

  #arrived(data: unknown): void {
    if (this.#end !== undefined) return;
    const frame = data instanceof ArrayBuffer ? new Uint8Array(data) : undefined;
    const size = Math.max(frame?.length ?? 0, LEAST_WAITING);
    this.#waiting += size;
    if (!frame || size > MAX_FRAME || this.#waiting > MAX_WAITING) {
      this.#fail(new Ending(ends.message, frame ? "too much at once" : "a text frame"));
      return;
    }
    this.#reading.add(async () => {
      if (this.#end === undefined) await this.#read(frame).catch((cause) => this.#fail(cause instanceof Ending ? cause : new Ending(ends.message, cause)));
      this.#waiting -= size;
    });
  }

  async #read(frame: Uint8Array): Promise<void> {
    if (!this.#gateway) {
      this.#gateway = readHandshake(frame);
      await this.#open(this.#gateway).catch((cause) => {
        throw new Ending(ends.handshake, cause);
      });
      return;
    }
    const proof = readFrame(frame);
    const message = readMessage(proof.content);
    const { canisterId, maxAge, clock } = this.options;
    const certified = await prove(proof, { canisterId, rootKey: await this.options.rootKey });
    if (!same(message.client, this.#key)) throw new Error("a message for another session");
    if (message.sequence !== this.#received + 1n) throw new Error(`message ${message.sequence} in place of ${this.#received + 1n}`);
    if (this.#end !== undefined) return;
    if (message.sequence === 1n) {
      // A page that slept has not seen its timer, and would take the time for a clock that is wrong.
      if (Math.abs(Date.now() - this.#askedAt!) > OPEN_TIMEOUT) throw new Ending(ends.openTimeout, "the answer came too late");
      clock.compare(this.#askedAt!, certified.at);
    }
    checkAge(certified, clock.now(), maxAge);
    this.#received++;
    if (message.service) this.#serve(message.content);
    else this.events.message(message.content);
  }

  async #open(gateway: Principal): Promise<void> {
    const { identity, canisterId, clock } = this.options;
    const frame = await envelope(identity, canisterId, "ws_open", openArgs(this.#key.client_nonce, gateway), clock);
    if (this.#end !== undefined) return;
    this.#askedAt = Date.now();
    this.socket.send(frame as BufferSource);
    this.#expect(OPEN_TIMEOUT);
  }

  /** Acts on a message of the protocol (PROTOCOL section 2.4). */
  #serve(content: Uint8Array): void {
    try {
      const message = readServiceMessage(content);
      if ("OpenMessage" in message) {
        if (!same(message.OpenMessage.client_key, this.#key)) throw new Error("the session of somebody else was opened");
        clearTimeout(this.#timer);
        this.#isOpen = true;
        this.#acks.expect();
        this.events.opened();
      } else if ("AckMessage" in message) {
        this.#acknowledged(message.AckMessage.last_incoming_sequence_num);
      } else if ("CloseMessage" in message) {
        const why = Object.keys(message.CloseMessage.reason)[0];
        if (why === "ClosedByApplication") this.close(ends.byCanister);
        else throw new Ending(ends.removed, why);
      } else {
        throw new Error("a message that only clients send");
      }
    } catch (cause) {
      throw cause instanceof Ending ? cause : new Ending(ends.service, cause);
    }
  }

  /** Every ack is answered by a keep-alive, before the messages that wait to be signed: the canister gives it a minute. */
  #acknowledged(upTo: bigint): void {
    try {
      this.#acks.received(upTo);
    } catch (cause) {
      throw new Ending(ends.ack, cause);
    }
    this.#write(true, keepAlive(this.#received));
  }

  #write(service: boolean, content: Uint8Array, waiting?: Waiting): void {
    this.#unsigned += content.length;
    if (waiting) this.#unsent.add(waiting);
    const sign = async () => {
      try {
        const { identity, canisterId, clock } = this.options;
        const args = messageArgs(this.#key, this.#acks.next(), clock.now(), service, content);
        const frame = this.#end === undefined && (await envelope(identity, canisterId, "ws_message", args, clock));
        if (!frame || this.#end !== undefined || this.socket.readyState !== OPEN) {
          waiting?.reject("unsent");
          return;
        }
        this.socket.send(frame as BufferSource);
        this.#acks.sent(waiting);
      } catch (cause) {
        this.#fail(new Ending(service ? ends.keepAlive : ends.send, cause));
        waiting?.reject("unsent");
      } finally {
        this.#unsigned -= content.length;
        if (waiting) this.#unsent.delete(waiting);
      }
    };
    if (service) this.#writing.addFirst(sign);
    else this.#writing.add(sign);
  }
}

const same = (a: ClientKey, b: ClientKey): boolean =>
  a.client_nonce === b.client_nonce && a.client_principal.toText() === b.client_principal.toText();
