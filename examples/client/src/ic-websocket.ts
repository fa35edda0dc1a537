// What an application uses.

import type { SignIdentity } from "@icp-sdk/core/agent";
import { IDL } from "@icp-sdk/core/candid";
import { Principal } from "@icp-sdk/core/principal";
import { messageType, type GetApplicationMessageType, type _WS_CANISTER_SERVICE } from "./candid.js";
import { Clock } from "./clock.js";
import type { IcWebSocketConfig } from "./config.js";
import {
  EVENTS,
  IcWebSocketClockSkewEvent,
  IcWebSocketCloseEvent,
  IcWebSocketErrorEvent,
  IcWebSocketReconnectEvent,
  type Handler,
  type IcWebSocketEventMap,
  type Listener,
} from "./events.js";
import { fetchTime } from "./network.js";
import { onWake, pause } from "./pauses.js";
import { closeReason, ends, mayBeTheClock, type CloseReason, type Retry } from "./reasons.js";
import { rootKey } from "./rootkey.js";
import { Session, type Socket } from "./session.js";

/** How long after an ack is due the session is given up, in milliseconds. */
const ACK_GRACE = 30_000;
const DEFAULT_ACK_INTERVAL = 300_000;
const DEFAULT_MAX_AGE_MINUTES = 5;
/** How long a session lasts, in milliseconds, that shows that the pauses can begin anew. */
const STEADY = 30_000;

/** An IC WebSocket: messages to a canister and from it, each signed or proved. It comes back by itself, see close and reconnecting. */
export class IcWebSocket<
  S extends _WS_CANISTER_SERVICE,
  ApplicationMessageType = GetApplicationMessageType<S>,
> extends EventTarget {
  readonly CONNECTING = 0;
  readonly OPEN = 1;
  readonly CLOSING = 2;
  readonly CLOSED = 3;

  readonly canisterId: Principal;

  // What each means is said at IcWebSocketEventMap.
  onopen: Handler<this, "open", ApplicationMessageType> = null;
  onmessage: Handler<this, "message", ApplicationMessageType> = null;
  onerror: Handler<this, "error", ApplicationMessageType> = null;
  onclose: Handler<this, "close", ApplicationMessageType> = null;
  onreconnecting: Handler<this, "reconnecting", ApplicationMessageType> = null;
  onreopened: Handler<this, "reopened", ApplicationMessageType> = null;
  onclockskew: Handler<this, "clockskew", ApplicationMessageType> = null;

  readonly #identity: SignIdentity;
  readonly #messageType: IDL.Type;
  readonly #reconnect: boolean;
  readonly #clock = new Clock((ahead) => void this.dispatchEvent(new IcWebSocketClockSkewEvent(ahead)));
  readonly #askTime: () => Promise<number>;
  readonly #start: (attempt: number) => Session;
  readonly #urls: readonly string[];
  #session: Session;
  #attempts = 0;
  /** Attempts in a row that have not led to a session that lasted. */
  #failed = 0;
  /** Makes that 0 once a session has lasted; undefined unless one is open. */
  #steady: ReturnType<typeof setTimeout> | undefined;
  /** How many URLs in a row have refused for good. */
  #refusals = 0;
  /** How the last session ended, while there is no new one. */
  #lost: CloseReason | undefined;
  /** Ends a pause; undefined while there is none. */
  #stopWaiting: (() => void) | undefined;
  #isStopped = false;
  #isOver = false;

  /**
   * Connects to a gateway.
   *
   * @param url the gateway's address, wss://..., or several, each of which is tried after the one before it
   * @param protocols as WebSocket has them; undefined unless the gateway asks for one
   * @param config see createWsConfig
   * @throws if the configuration lacks something, if a URL is none of a WebSocket, or if there is no WebSocket
   */
  constructor(url: string | URL | readonly (string | URL)[], protocols: string | string[] | undefined, config: IcWebSocketConfig<S>) {
    super();
    // Handlers are listeners, so what one throws is reported as browsers do it, and ends nothing.
    for (const type of EVENTS) {
      this.addEventListener(type, (event) => {
        // It returns nothing: to Node.js a promise that a listener returns is a listener's failure when it is rejected.
        (this[`on${type}`] as ((event: Event) => void) | null)?.call(this, event);
      });
    }
    this.canisterId = Principal.from(config.canisterId);
    if (!config.canisterActor) throw new Error("Canister actor is required");
    this.#messageType = messageType(config.canisterActor);
    this.#identity = signing(config.identity);
    if (!config.networkUrl) throw new Error("Network url is required");
    if (!URL.canParse(config.networkUrl)) throw new Error(`Network url ${config.networkUrl} is no URL such as https://icp-api.io`);
    const Constructor = config.WebSocket ?? globalThis.WebSocket;
    if (!Constructor) throw new Error("there is no WebSocket here: give the one of the package ws as WebSocket in the configuration");
    const urls = (typeof url === "string" || url instanceof URL ? [url] : url).map(gatewayUrl);
    if (urls.length === 0) throw new Error("Gateway url is required");
    this.#urls = urls;
    this.#reconnect = config.reconnect ?? true;
    this.#start = (attempt) =>
      new Session(
        new Constructor(urls[attempt % urls.length]!, protocols) as Socket,
        {
          canisterId: this.canisterId,
          identity: this.#identity,
          rootKey: rootKey(config),
          clock: this.#clock,
          maxAge: (config.maxCertificateAgeInMinutes || DEFAULT_MAX_AGE_MINUTES) * 60_000,
          ackTimeout: (config.ackMessageIntervalMs || DEFAULT_ACK_INTERVAL) + ACK_GRACE,
        },
        {
          opened: () => this.#opened(),
          message: (content) => this.#deliver(content),
          failed: (error) => void this.dispatchEvent(new IcWebSocketErrorEvent(error)),
          ended: (reason, isUnanswered) => this.#ended(reason, isUnanswered),
        },
      );
    this.#askTime = async () => fetchTime(config.networkUrl, { canisterId: this.canisterId, rootKey: await rootKey(config) });
    this.#session = this.#start(this.#attempts++);
  }

  override addEventListener<Type extends keyof IcWebSocketEventMap<ApplicationMessageType>>(
    type: Type,
    listener: Listener<this, Type, ApplicationMessageType>,
    options?: AddEventListenerOptions | boolean,
  ): void {
    super.addEventListener(type, listener as EventListener, options);
  }

  override removeEventListener<Type extends keyof IcWebSocketEventMap<ApplicationMessageType>>(
    type: Type,
    listener: Listener<this, Type, ApplicationMessageType>,
    options?: EventListenerOptions | boolean,
  ): void {
    super.removeEventListener(type, listener as EventListener, options);
  }

  /**
   * The state of the socket, as WebSocket has it; CONNECTING between two sessions. It is OPEN before the canister has answered: see
   * isConnectionEstablished.
   */
  get readyState(): number {
    if (this.#isOver) return this.CLOSED;
    const { ending, socket } = this.#session;
    const comesBack = this.#reconnect && !this.#isStopped && ending && ending.retry !== "never";
    return this.#stopWaiting || comesBack ? this.CONNECTING : socket.readyState;
  }

  /** Bytes of messages that have not left: those still to be signed, and those that the socket holds. */
  get bufferedAmount(): number {
    return this.#session.bufferedAmount;
  }

  /** The principal that the canister sees. */
  getPrincipal(): Principal {
    return this.#identity.getPrincipal();
  }

  /** Whether messages can be sent. */
  isConnectionEstablished(): boolean {
    return this.#session.isOpen;
  }

  /**
   * Sends a message.
   *
   * @returns a promise that resolves when the canister has acknowledged the message, which can take as long as its
   * interval, and that rejects with a NotAcknowledgedError if the session ends before. It need not be awaited.
   * @throws if the session is not open, or if the message is not of the canister's type
   */
  send(message: ApplicationMessageType): Promise<void> {
    if (!this.#session.isOpen) throw new Error("Connection is not established yet");
    const acknowledged = this.#session.send(IDL.encode([this.#messageType], [message]));
    acknowledged.catch(() => {}); // whoever does not wait for it is not to be told of it as an unhandled rejection
    return acknowledged;
  }

  /** Ends the session with code 1000, and does not come back. */
  close(): void {
    this.#isStopped = true;
    this.#session.close();
    if (this.#stopWaiting) this.#over(ends.closed);
  }

  #deliver(content: Uint8Array): void {
    const [data] = IDL.decode([this.#messageType], content) as [unknown];
    this.dispatchEvent(new MessageEvent("message", { data }));
  }

  #opened(): void {
    const lost = this.#lost;
    this.#lost = undefined;
    this.#refusals = 0;
    this.#steady = setTimeout(() => (this.#failed = 0), STEADY);
    const failed = this.#failed - 1;
    this.dispatchEvent(new Event("open"));
    if (lost && !this.#isStopped) this.dispatchEvent(new IcWebSocketReconnectEvent("reopened", lost, failed, 0));
  }

  #ended(reason: CloseReason, isUnanswered: boolean): void {
    const hasOpened = this.#steady !== undefined;
    clearTimeout(this.#steady);
    this.#steady = undefined;
    if (hasOpened) this.#lost = reason;
    // One gateway may refuse what another takes.
    const isFinal = hasOpened || reason.retry !== "never" || ++this.#refusals >= this.#urls.length;
    const retry = this.#reconnect && (isFinal ? reason.retry : "soon");
    const isTheClock = isUnanswered ? mayBeTheClock(reason) : reason.name === "refused" && this.#clock.mayBeSet;
    if (this.#isStopped || !isTheClock) {
      this.#next(reason, retry);
      return;
    }
    // With the right time the next ws_open may be taken, so that one follows whatever the application thinks of others. A network
    // that does not tell its time says nothing about the clock.
    const askedAt = Date.now();
    let isWaiting = true;
    this.#stopWaiting = () => (isWaiting = false);
    const go = (isCorrected: boolean) => isWaiting && this.#next(reason, isCorrected ? "soon" : retry);
    void this.#askTime().then(
      (time) => isWaiting && go(this.#clock.compare(askedAt, time)),
      () => go(false),
    );
  }

  /** Goes on after the end of a session: with a new one after a pause, or not. */
  #next(reason: CloseReason, retry: Retry | false): void {
    this.#stopWaiting = undefined;
    if (this.#isStopped || !retry || retry === "never") {
      this.#over(reason);
      return;
    }
    this.#lost ??= reason;
    const delay = pause(retry, this.#failed);
    const again = () => {
      this.#stopWaiting?.();
      this.#stopWaiting = undefined;
      try {
        this.#session = this.#start(this.#attempts++);
      } catch (cause) {
        // A browser may not let a page connect to one of several URLs.
        const error = cause instanceof Error ? cause : new Error(String(cause));
        this.dispatchEvent(new IcWebSocketErrorEvent(error));
        this.#next(closeReason(1006, error.message), this.#reconnect && "soon");
      }
    };
    const timer = setTimeout(again, delay);
    const sleep = onWake(again);
    this.#stopWaiting = () => {
      clearTimeout(timer);
      sleep();
    };
    this.dispatchEvent(new IcWebSocketReconnectEvent("reconnecting", reason, this.#failed++, delay));
  }

  #over(reason: CloseReason): void {
    this.#stopWaiting?.();
    this.#stopWaiting = undefined;
    this.#isOver = true;
    this.dispatchEvent(new IcWebSocketCloseEvent(reason));
  }
}

/** Checks that an identity can sign. It may come from another copy of the library than ours. */
function signing(identity: SignIdentity | undefined): SignIdentity {
  if (!identity) throw new Error("Identity is required");
  if (typeof identity.sign !== "function" || typeof identity.transformRequest !== "function") {
    throw new Error("Identity must be a SignIdentity");
  }
  return identity;
}

/**
 * The URL of a gateway, with word that this client reads certificates with sharded canister ranges. Gateways that do not know it
 * ignore it.
 */
function gatewayUrl(url: string | URL): string {
  const full = new URL(url, globalThis.location?.href);
  full.protocol = full.protocol.replace(/^http/, "ws"); // as WebSocket has it
  full.hash = "";
  if (!/^wss?:$/.test(full.protocol)) throw new SyntaxError(`Gateway url ${url} is none of a WebSocket, such as wss://gateway.example/ws`);
  if (!full.searchParams.has("ranges")) full.search += `${full.search ? "&" : "?"}ranges=sharded`;
  return full.href;
}
