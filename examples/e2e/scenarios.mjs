// What people at a page live through, as a table. scenarios.test.mjs runs it in Node.js and in Chromium; scenarios_test.go has the
// gateways, the canister, which is the chat with the published Rust CDK, and what happens to them.

import { Actor } from "@icp-sdk/core/agent";
import { DelegationChain, DelegationIdentity, ECDSAKeyIdentity, Ed25519KeyIdentity } from "@icp-sdk/core/identity";
import { generateRandomIdentity } from "@icws-gateway/client";
import { idlFactory } from "../chat/web/src/idl.js";
import { Person } from "../client/test/person.mjs";

const fromHex = (hex) => Uint8Array.from(hex.match(/../g), (byte) => parseInt(byte, 16));
const toHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** There is no node:assert in a page. */
function equal(got, want, what = "") {
  const [a, b] = [JSON.stringify(got), JSON.stringify(want)];
  if (a !== b) throw new Error(`${what} got ${a}, want ${b}`);
}
function match(got, want) {
  if (!want.test(got)) throw new Error(`got ${JSON.stringify(got)}, want ${want}`);
}

/** Somebody in the chat. What they say begins with "say". */
class Chatter extends Person {
  constructor(world, { gateway = world.gateway, identity = generateRandomIdentity(), config = {} } = {}) {
    const { network, canister } = world;
    const canisterActor = Actor.createActor(idlFactory, { agent: {}, canisterId: canister });
    super({ gateway, network, canister, identity, config: { canisterActor, rootKey: fromHex(world.rootKey), ...config } });
  }

  say(text) {
    return this.ws.send({ author: this.identity.getPrincipal(), name: "Ada", text, at: 0n, online: 0 });
  }

  /** What has arrived of what was said. */
  get heard() {
    return this.happened.filter((what) => what.startsWith("say"));
  }

  async hears(text) {
    await this.until(() => this.heard.at(-1) === text, `to hear ${text}`);
  }

  async converses(text) {
    this.say(text);
    await this.hears(text);
  }
}

async function open(world, options) {
  const person = new Chatter(world, options);
  await person.opened();
  return person;
}

/** The identity of a login that lasts that long. */
async function logIn(world, seconds) {
  const key = Ed25519KeyIdentity.generate();
  const chain = await world.control("/delegate", { sessionKey: toHex(key.getPublicKey().toDer()), seconds });
  return DelegationIdentity.fromDelegation(key, DelegationChain.fromJSON(chain));
}

/** A gateway that lies in one way, and how its client finds out. */
const lie = (how, name, error, config) => async (world) => {
  const gateway = `${world.lying}/${how}/${crypto.randomUUID()}`;
  const people = Array.from({ length: how === "swap" ? 2 : 1 }, () => new Chatter(world, { gateway, config: { reconnect: false, ...config } }));
  await Promise.all(people.map((person) => person.opened()));
  const texts = ["say one", "say two", "say three"];
  for (const person of people) {
    for (const text of texts) if (person.ws.isConnectionEstablished()) person.say(text);
  }
  for (const person of people) {
    equal((await person.closed()).closeReason.name, name, person.errors.join());
    match(person.errors.join(), error);
    if (people.length === 1) equal(person.heard, texts.slice(0, person.heard.length), "what was delivered before");
  }
};

const scenarios = {
  "somebody opens, says something, hears it, and closes": async (world) => {
    const me = await open(world);
    for (let i = 0; i < 20; i++) await me.converses(`say ${i}`);
    const { name, code } = (await me.close()).closeReason;
    equal([name, code, me.errors], ["normal", 1000, []]);
  },

  "1,000 messages each way arrive in order": async (world) => {
    const me = await open(world, { identity: await ECDSAKeyIdentity.generate() }); // as AuthClient makes it
    const texts = Array.from({ length: 1000 }, (_, i) => `say ${i}`);
    // A hundred at a time: a keep-alive waits behind what was sent before it, and the canister waits a minute for it.
    for (let i = 100; i <= texts.length; i += 100) {
      for (const text of texts.slice(i - 100, i)) me.say(text);
      await me.until(() => me.heard.length >= i, `${i} messages`);
    }
    equal(me.heard, texts);
    await me.close();
    equal(me.errors, []);
  },

  "two people hear each other, and two tabs of one person are one": async (world) => {
    const [ada, grace] = await Promise.all([open(world), open(world)]);
    ada.say("say hello");
    await Promise.all([ada.hears("say hello"), grace.hears("say hello")]);
    const again = await open(world, { identity: grace.identity });
    const { name, code, retry } = (await grace.closed()).closeReason;
    equal([name, code, retry], ["refused", 1008, "never"]);
    await ada.converses("say who is there");
    await again.hears("say who is there");
    await Promise.all([ada.close(), again.close()]);
  },

  "the canister closes": async (world) => {
    const me = await open(world);
    await me.converses("say one");
    me.say(""); // which the chat does not take
    const { name, code, retry } = (await me.closed()).closeReason;
    equal([name, code, retry], ["closed_by_canister", 4001, "never"]);
  },

  "the gateway is drained, and put back": async (world) => {
    const me = await open(world);
    await me.converses("say before");
    let attempts = 0;
    me.ws.addEventListener("reconnecting", () => ++attempts === 2 && world.control("/return"));
    await world.control("/drain");
    await me.until(() => me.happened.some((what) => what.startsWith("reopened")), "a new session");
    match(me.happened.join(), /,reconnecting after going_away,(reconnecting after connection_lost,)+open,reopened after going_away/);
    await me.converses("say after");
    await me.close();
  },

  "the instance is killed, and the next URL taken": async (world) => {
    const { url } = await world.control("/first");
    const me = await open(world, { gateway: [url, world.gateway] });
    await me.converses("say before");
    await world.control("/kill");
    await me.until(() => me.happened.some((what) => what.startsWith("reopened")), "a new session");
    match(me.happened.join(), /,reconnecting after connection_lost,open,reopened after connection_lost/);
    await me.converses("say after");
    await me.close();
  },

  // All processes stand still until the gateway has given the session up. TestTwoMinutesAsleep sleeps for two minutes.
  "the phone sleeps": async (world) => {
    const me = await open(world, { gateway: world.sleepy });
    await me.converses("say good night");
    await world.control("/sleep");
    await me.until(() => me.happened.some((what) => what.startsWith("reopened")), "a new session");
    match(me.happened.join(), /,reconnecting after session_over,open,reopened after session_over/);
    await me.converses("say good morning");
    await me.close();
  },

  "the login expires in the middle of a session": async (world) => {
    let me;
    for (let seconds = 5; seconds < 200 && !me?.heard.length; seconds *= 3) {
      me = new Chatter(world, { identity: await logIn(world, seconds) });
      await me.opened().catch(() => {}); // it was too late already
      while (!me.end) await me.converses(`say ${me.heard.length}`).catch(() => me.closed());
    }
    const { name, code, text, retry } = me.end.closeReason;
    equal([name, code, retry], ["refused", 1008, "never"]);
    match(text, /the sender's delegation has expired, log in again/);
    if (me.heard.length === 0) throw new Error("it had expired before anything was said");
    const again = await open(world, { identity: await logIn(world, 3600) });
    await again.converses("say it again");
    await again.close();
  },

  "a gateway that swaps the messages of two people": lie("swap", "bad_message", /a message for another session/),
  "a gateway that drops a message of the canister": lie("drop", "bad_message", /message 3 in place of 2/),
  "a gateway that delivers a message twice": lie("replay", "bad_message", /message 2 in place of 3/),
  "a gateway that reorders two messages of the canister": lie("reorder", "bad_message", /message 3 in place of 2/),
  // The canister acknowledges every 5 minutes, and a client waits for 30 s more. This one expects it at once, and so waits for 30 s.
  "a gateway that delivers nothing any more": lie("silence", "ack_timeout", /acknowledges nothing/, { ackMessageIntervalMs: 1 }),
  "a gateway that drops a message of the client": lie("drop-up", "removed_by_canister", /WrongSequenceNumber/),
  "a gateway that reorders two messages of the client": lie("reorder-up", "removed_by_canister", /WrongSequenceNumber/),
};

export const names = Object.keys(scenarios);

/**
 * @param {string} name one of names
 * @param {object} world gateway, sleepy and lying, URLs of gateways; network, canister, rootKey in hexadecimal
 * @param {(path: string, body?: object) => Promise<any>} control has something happen
 */
export const run = (name, world, control) => scenarios[name]({ ...world, control });
