// One session of the unmodified SDK, turned into promises.
//
// The SDK is written for browsers: it takes WebSocket, ErrorEvent and MessageEvent from the global scope. Node 20 has
// only the last one, so this file supplies the others. Nothing of the SDK itself is replaced or patched.

import { Actor, HttpAgent } from "@dfinity/agent";
import { Principal } from "@dfinity/principal";
import { WebSocket } from "ws";
import { IcWebSocket, createWsConfig } from "ic-websocket-js";
import { idlFactory } from "../first/canister.mjs";
import { waitForRootKey } from "./rootkey.mjs";

globalThis.WebSocket = WebSocket;
globalThis.ErrorEvent ??= class ErrorEvent extends Event {
  constructor(type, init = {}) {
    super(type);
    this.error = init.error;
    this.message = init.message ?? String(init.error ?? "");
  }
};

/** How long anything may take before a test gives up, in milliseconds. Far below the SDK's own 60 s. */
const PATIENCE = 45_000;

/** Rejects with what was awaited once PATIENCE has passed. */
function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${PATIENCE} ms`)), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export class Session {
  /** Texts received, in order; whole messages where they have a type of their own. */
  received = [];
  /** Errors the SDK reported through onerror. */
  errors = [];
  #waiting = [];
  #taken = 0;
  #opened;
  #closed;
  #typed;

  /**
   * @param {object} o
   * @param {string} o.gateway  wss:// address of the handler
   * @param {string} o.network  http:// address of the network, where the SDK fetches the root key
   * @param {string} o.canister canister id, text
   * @param {object} o.identity a SignIdentity of @dfinity/agent
   * @param {number} [o.ackIntervalMs] must equal the canister's
   * @param {function} [o.type] Candid type of application messages, of IDL; records of one text otherwise
   */
  constructor({ gateway, network, canister, identity, ackIntervalMs, type }) {
    this.#typed = Boolean(type);
    const agent = HttpAgent.createSync({ host: network, identity });
    const service = type ? ({ IDL }) => idlFactory({ IDL }, type(IDL)) : idlFactory;
    const canisterActor = Actor.createActor(service, { agent, canisterId: canister });
    this.ws = new IcWebSocket(
      gateway,
      undefined,
      createWsConfig({
        canisterId: Principal.fromText(canister),
        canisterActor,
        identity,
        networkUrl: network,
        ackMessageIntervalMs: ackIntervalMs,
      }),
    );
    waitForRootKey(this.ws, identity);
    let opened, refused, done;
    this.#opened = new Promise((resolve, reject) => ([opened, refused] = [resolve, reject]));
    this.#opened.catch(() => {}); // a test that expects a refusal looks at closed() only
    this.#closed = new Promise((resolve) => (done = resolve));
    this.ws.onopen = () => opened();
    this.ws.onclose = ({ code, reason }) => {
      this.end = { code, reason: String(reason) };
      refused(new Error(`closed with ${code} "${reason}" before it was open; ${this.errors.join("; ")}`));
      for (const wake of this.#waiting.splice(0)) wake();
      done(this.end);
    };
    this.ws.onmessage = ({ data }) => {
      this.received.push(this.#typed ? data : data.text);
      for (const wake of this.#waiting.splice(0)) wake();
    };
    this.ws.onerror = ({ error }) => this.errors.push(String(error));
  }

  /** Resolves when the SDK has verified the canister's OpenMessage. */
  opened() {
    return within(this.#opened, "open event");
  }

  /** Resolves to {code, reason} when the socket has closed. */
  closed() {
    return within(this.#closed, "close event");
  }

  send(message) {
    this.ws.send(this.#typed ? message : { text: message });
  }

  /** The next message not yet taken, in order of arrival. */
  async next() {
    while (this.received.length === this.#taken) {
      if (this.end) throw new Error(`closed with ${this.end.code} "${this.end.reason}" while waiting for a message`);
      await within(new Promise((wake) => this.#waiting.push(wake)), "message");
    }
    return this.received[this.#taken++];
  }

  /** Closes as an application would and waits for the end. */
  async close() {
    this.ws.close();
    return this.closed();
  }
}
