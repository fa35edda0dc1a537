// A session that comes back. ic-websocket-js opens one socket and leaves what happens after it closes to the
// application; this wraps it with a fresh session and a growing, jittered pause after each end.

import { Actor, HttpAgent } from "@dfinity/agent";
import { IcWebSocket, createWsConfig } from "ic-websocket-js";
import { idlFactory } from "./idl.js";

/** First and longest pause before a new attempt, in milliseconds. */
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 30_000;

/** Codes after which a new session cannot help: the table in the gateway's README says "stay closed". */
const FINAL = new Set([1000, 1002, 1003, 1008, 4001]);

/** First pause after the code that says that something is full, slow or stopped, in milliseconds. */
const LATER = 1013;
const LATER_PAUSE = 5_000;

export class Connection extends EventTarget {
  #options;
  #ws;
  #attempt = 0;
  #stopped = false;

  /**
   * @param {object} options gateway (wss:// URL), network (URL of the boundary node), canister (text), identity
   * Events: "open"; "message" with detail = the decoded message; "closed" with detail = {code, reason, retryIn};
   * retryIn is in milliseconds, or undefined when no further attempt is made.
   */
  constructor(options) {
    super();
    this.#options = options;
  }

  start() {
    const { gateway, network, canister, identity } = this.#options;
    const agent = HttpAgent.createSync({ host: network, identity });
    const canisterActor = Actor.createActor(idlFactory, { agent, canisterId: canister });
    const ws = new IcWebSocket(
      gateway,
      undefined,
      createWsConfig({ canisterId: canister, canisterActor, identity, networkUrl: network }),
    );
    ws.onopen = () => {
      this.#attempt = 0;
      this.dispatchEvent(new Event("open"));
    };
    ws.onmessage = ({ data }) => this.dispatchEvent(new CustomEvent("message", { detail: data }));
    ws.onerror = ({ error }) => console.warn("session:", error);
    ws.onclose = ({ code, reason }) => this.#ended(code, reason);
    this.#ws = ws;
  }

  /** Sends one message; throws while the session is not open. */
  send(message) {
    this.#ws.send(message);
  }

  /** Ends the session for good, so that the canister learns of it now and not at its next keep-alive check. */
  stop() {
    this.#stopped = true;
    this.#ws?.close();
  }

  #ended(code, reason) {
    let retryIn;
    if (!this.#stopped && !FINAL.has(code)) {
      const first = code === LATER ? LATER_PAUSE : FIRST_PAUSE;
      const pause = Math.min(LONGEST_PAUSE, first * 2 ** this.#attempt++);
      retryIn = pause * (0.5 + Math.random() / 2);
      setTimeout(() => this.start(), retryIn);
    }
    this.dispatchEvent(new CustomEvent("closed", { detail: { code, reason, retryIn } }));
  }
}
