// One person at a page, for the tests: a session turned into promises.

import { Actor } from "@icp-sdk/core/agent";
import { IcWebSocket, createWsConfig, generateRandomIdentity } from "@icws-gateway/client";
import { WebSocket } from "ws";
import { service } from "./service.mjs";

/** The actor of a canister with that interface. Nothing is called through it. */
export const actor = (canisterId) => Actor.createActor(service, { agent: {}, canisterId });

/** How long anything may take before a test gives up, in milliseconds. */
const PATIENCE = 45_000;

export class Person {
  /** Everything that happened: texts of messages, and the types of other events. */
  happened = [];
  errors = [];
  #changed = [];

  /** @param {object} o gateway, network, canister; identity and config, which adds to the configuration, are optional */
  constructor({ gateway, network, canister, identity = generateRandomIdentity(), config = {} }) {
    this.identity = identity;
    this.ws = new IcWebSocket(
      gateway,
      undefined,
      createWsConfig({ canisterId: canister, canisterActor: actor(canister), identity, networkUrl: network, WebSocket, ...config }),
    );
    this.ws.onopen = () => this.#happen("open");
    this.ws.onmessage = ({ data }) => this.#happen(data.text);
    this.ws.onerror = ({ message }) => this.errors.push(message);
    this.ws.onreconnecting = (event) => this.#happen(`reconnecting after ${event.closeReason.name}`);
    this.ws.onreopened = (event) => this.#happen(`reopened after ${event.closeReason.name}`);
    this.ws.onclockskew = ({ ahead }) => this.#happen(`clock ${Math.round(ahead / 60_000)} min ahead`);
    this.ws.onclose = (end) => {
      this.end = end;
      this.#happen("close");
    };
  }

  #happen(what) {
    this.happened.push(what);
    for (const wake of this.#changed.splice(0)) wake();
  }

  /** Waits until check(this) holds. */
  async until(check, what) {
    let late;
    const limit = new Promise((_, reject) => {
      late = setTimeout(() => reject(new Error(`not within ${PATIENCE} ms: ${what}; ${this.happened} ${this.errors}`)), PATIENCE);
    });
    try {
      while (!check(this)) {
        if (this.end) throw new Error(`closed with ${this.end.code} "${this.end.reason}" before: ${what}; ${this.errors.join("; ")}`);
        await Promise.race([new Promise((wake) => this.#changed.push(wake)), limit]);
      }
    } finally {
      clearTimeout(late);
    }
  }

  opened() {
    return this.until(() => this.happened.includes("open"), "open");
  }

  /** Waits for the message at that place among all that happened after "open". */
  async message(place) {
    await this.until(() => this.happened.length > place, `message ${place}`);
    return this.happened[place];
  }

  async closed() {
    await this.until(() => this.end, "close");
    return this.end;
  }

  async close() {
    this.ws.close();
    return this.closed();
  }
}
