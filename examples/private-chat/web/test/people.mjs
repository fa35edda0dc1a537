// People in Node.js with the modules of the page, for the tests.

import assert from "node:assert/strict";
import { after, test as nodeTest } from "node:test";
import { WebSocket } from "ws";
import { modules } from "../bundle.mjs";

globalThis.WebSocket ??= WebSocket; // Node 20 has none
export const page = await modules();

export const url = process.env.ICWS_SITE;
assert.ok(url, "ICWS_SITE is not set: run this through `go test -tags e2e ./examples/private-chat`");
const config = await (await fetch(`${url}/config.json`)).json();
export const { canister } = config;
export const [rootKey, masterKey] = [config.rootKey, config.masterKey].map(page.bytes.fromHex);
const where = { gateway: `${url.replace("https", "wss")}/ws`, network: url, rootKey, masterKey, canister };

/** How long anything may take before a test gives up, in milliseconds. */
const PATIENCE = 60_000;

/** A test that ends, also when what it waits for never comes. */
export const test = (name, run) => nodeTest(name, { timeout: 2 * PATIENCE }, run);

const people = [];
after(() => people.forEach((person) => person.leave()));

/** Events that somebody waits for. */
class Events {
  happened = [];
  #wake = [];

  add(type, detail) {
    this.happened.push({ type, ...detail });
    this.#wake.splice(0).forEach((wake) => wake());
  }

  /** The first event not yet taken for which which(event) holds; it is taken. */
  async take(type, which = () => true) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no ${type} within ${PATIENCE} ms after ${this}`)), PATIENCE);
    });
    try {
      for (;;) {
        const i = this.happened.findIndex((event) => event.type === type && which(event));
        if (i >= 0) return this.happened.splice(i, 1)[0];
        await Promise.race([new Promise((wake) => this.#wake.push(wake)), late]);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  toString() {
    return JSON.stringify(this.happened, (_, v) => (typeof v === "bigint" ? String(v) : v instanceof Uint8Array ? "bytes" : v));
  }
}

const TYPES = ["state", "room", "left", "key", "message", "unreadable", "unsent", "refused"];

/** A member as the page has one, whose session is open. */
export async function join(options) {
  const member = new page.Member({ ...where, encryption: page.sealed, ...options });
  member.events = new Events();
  for (const type of TYPES) member.addEventListener(type, ({ detail }) => member.events.add(type, detail));
  people.push(member);
  await member.events.take("state", ({ state }) => state === "open");
  return member;
}

/** A room of the first one's with the others in it, of which everybody has been told. */
export async function roomOf(owner, ...others) {
  owner.open();
  const { room } = await owner.events.take("room");
  for (const other of others) {
    owner.add(room, other.principal);
    for (const who of [owner, other]) await who.events.take("room", ({ members }) => members.includes(other.principal));
  }
  return room;
}

/** A session that sends what it is told to: what no page sends, and what a canister that is not honest could make of it. */
export class Raw {
  events = new Events();

  constructor(identity = page.generateRandomIdentity()) {
    this.principal = identity.getPrincipal().toText();
    this.ws = new page.IcWebSocket(
      where.gateway,
      undefined,
      page.createWsConfig({ canisterId: canister, canisterActor: page.actor(canister), identity, networkUrl: url, rootKey, reconnect: false }),
    );
    this.ws.onopen = () => this.events.add("open");
    this.ws.onmessage = ({ data }) => {
      const [[kind, told]] = Object.entries(data);
      this.events.add(kind, told);
    };
    people.push(this);
  }

  static async join(identity) {
    const raw = new Raw(identity);
    await raw.events.take("open");
    return raw;
  }

  send(message) {
    this.ws.send(message);
  }

  leave() {
    this.ws.close();
  }
}

/** A WebSocket that keeps back what it is to send between hold() and release(). */
export class Held extends WebSocket {
  static held;

  static hold() {
    Held.held = [];
  }

  static release() {
    const held = Held.held;
    Held.held = undefined;
    held.forEach((send) => send());
  }

  send(...args) {
    if (Held.held) Held.held.push(() => super.send(...args));
    else super.send(...args);
  }
}
