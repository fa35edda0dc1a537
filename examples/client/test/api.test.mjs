// What an IcWebSocket makes of a configuration and of sessions that follow each other.

import { Actor } from "@icp-sdk/core/agent";
import { IcWebSocket, createWsConfig, generateRandomIdentity } from "@icws-gateway/client";
import assert from "node:assert/strict";
import { test } from "node:test";
import { rootKey, mainnetRootKey } from "../dist/rootkey.js";
import { Canister } from "./canister.mjs";
import { leaving, open, when } from "./open.mjs";
import { Person, actor } from "./person.mjs";

const id = "bkyz2-fmaaa-aaaaa-qaaaq-cai";
const good = () => ({ canisterId: id, canisterActor: actor(id), identity: generateRandomIdentity(), networkUrl: "https://network.test", WebSocket: new Canister().WebSocket });
const create = (odd, url = "wss://gateway.test") => new IcWebSocket(url, undefined, createWsConfig({ ...good(), ...odd }));

test("a configuration that lacks something is refused at once, in words", (t) => {
  const of = (types) => Actor.createActor(({ IDL }) => IDL.Service(types(IDL)), { agent: {}, canisterId: id });
  const second = (type) => of((IDL) => ({ ws_message: IDL.Func([IDL.Record({}), ...type(IDL)], [], []) }));
  const cases = [
    [{ canisterActor: undefined }, /Canister actor is required/],
    [{ canisterActor: of(() => ({})) }, /no ws_message: does it use the CDK/],
    [{ canisterActor: second(() => []) }, /second argument of ws_message must be opt/],
    [{ canisterActor: second((IDL) => [IDL.Text]) }, /second argument of ws_message must be opt/],
    [{ canisterActor: second((IDL) => [IDL.Opt(IDL.Text), IDL.Text]) }, /second argument of ws_message must be opt/],
    [{ identity: undefined }, /Identity is required/],
    [{ identity: { transformRequest() {} } }, /Identity must be a SignIdentity/],
    [{ identity: { sign() {} } }, /Identity must be a SignIdentity/],
    [{ networkUrl: "" }, /Network url is required/],
    [{ networkUrl: "icp-api.io" }, /Network url icp-api.io is no URL/],
    [{ canisterId: "no canister" }, /./],
  ];
  for (const [odd, error] of cases) assert.throws(() => create(odd), error);
  assert.throws(() => create({}, []), /Gateway url is required/);
  assert.throws(() => create({}, ["wss://gateway.test", "ftp://gateway.test"]), /ftp:\/\/gateway.test is none of a WebSocket/);
  const { WebSocket } = globalThis;
  t.after(() => (globalThis.WebSocket = WebSocket));
  delete globalThis.WebSocket;
  assert.throws(() => create({ WebSocket: undefined }), /give the one of the package ws/);
});

test("the gateway is told that sharded ranges are read", () => {
  const asks = (url) => {
    const canister = new Canister();
    create({ WebSocket: canister.WebSocket }, url).close();
    return canister.sockets[0].url;
  };
  assert.equal(asks("wss://gateway.test/ws"), "wss://gateway.test/ws?ranges=sharded");
  assert.equal(asks(new URL("wss://gateway.test/?a=b")), "wss://gateway.test/?a=b&ranges=sharded");
  assert.equal(asks("wss://gateway.test/?ranges=flat"), "wss://gateway.test/?ranges=flat");
  assert.equal(asks("https://gateway.test/ws#part"), "wss://gateway.test/ws?ranges=sharded");
});

test("the root key is the one that was given, mainnet's, or that of a test network, which is asked", async (t) => {
  const given = Uint8Array.of(1);
  const { encode } = (await import("@icp-sdk/core/agent")).Cbor;
  const answers = [
    [() => new Response(encode({ root_key: given })), given],
    [() => new Response(encode({ root_key: "no bytes" })), /names no root key/],
    [() => new Response(encode({})), /names no root key/],
    [() => new Response(encode({ root_key: new Uint8Array(64 << 10) })), /answers more than 65536 bytes/],
    [() => new Response(encode({ root_key: given }), { status: 500 }), /answers 500/],
  ];
  let answer;
  const fetch = t.mock.method(globalThis, "fetch", async () => answer());
  assert.deepEqual(await rootKey({ rootKey: given, networkUrl: "http://localhost" }), given);
  assert.deepEqual(await rootKey({ networkUrl: "https://network.test" }), mainnetRootKey());
  assert.equal(fetch.mock.callCount(), 0);
  for (const [how, expected] of answers) {
    answer = how;
    for (const config of [{ networkUrl: "http://localhost:8000" }, { networkUrl: "https://network.test", rootKey: "fetch" }]) {
      if (expected instanceof RegExp) await assert.rejects(rootKey(config), expected);
      else assert.deepEqual(await rootKey(config), expected);
    }
  }
  const [url, { signal }] = fetch.mock.calls[0].arguments;
  assert.equal(String(url), "http://localhost:8000/api/v2/status");
  assert.ok(signal instanceof AbortSignal, "it does not wait for ever");
});

test("a root key that does not come is told of when the first message cannot be judged", async (t) => {
  const canister = new Canister();
  t.mock.method(globalThis, "fetch", async () => new Response(null, { status: 503 }));
  const person = new Person(canister.person({ rootKey: "fetch", reconnect: false }));
  assert.equal((await person.closed()).closeReason.name, "bad_message");
  assert.match(person.errors.join(), /status answers 503/);
});

test("nothing is sent before a session is open", async (t) => {
  const canister = new Canister({ opens: false });
  const person = new Person(canister.person());
  leaving(t, person);
  await when(() => canister.sockets[0].client);
  assert.equal(person.ws.readyState, person.ws.OPEN);
  assert.throws(() => person.ws.send({ text: "too early" }), /not established/);
});

test("attempts that fail are counted until a session lasts, and the state is CONNECTING between them", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { person, canister } = await open(t);
  const counts = [];
  person.ws.addEventListener("reconnecting", ({ failed, delay }) => {
    counts.push(failed);
    assert.ok(delay >= 500 * 2 ** failed && delay <= 750 * 2 ** failed);
    assert.equal(person.ws.readyState, person.ws.CONNECTING);
  });
  const again = async (opens) => {
    const { length } = canister.sockets;
    canister.opens = opens;
    t.mock.timers.tick(30_000);
    assert.equal(canister.sockets.length, length + 1);
    await when(() => (opens ? person.ws.isConnectionEstablished() : canister.sockets[length].client));
  };
  for (const opens of [false, false, true]) {
    const before = counts.length;
    canister.sockets.at(-1).end(1012);
    await when(() => counts.length > before);
    await again(opens);
  }
  canister.sockets.at(-1).end(1012);
  assert.equal(person.ws.readyState, person.ws.CONNECTING, "at once");
  await when(() => counts.length === 4);
  assert.deepEqual(counts, [0, 1, 2, 3], "a session that ends at once is no better than none");
  await again(true);
  t.mock.timers.tick(30_000);
  canister.sockets.at(-1).end(1012);
  await when(() => counts.length === 5);
  assert.equal(counts[4], 0);
  person.ws.close();
  assert.equal(person.ws.readyState, person.ws.CLOSED);
  t.mock.timers.tick(60_000);
  assert.equal(canister.sockets.length, 5, "who has closed does not come back");
});

test("a WebSocket that a browser does not let the page make is an attempt that failed", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const canister = new Canister();
  let made = 0;
  const { WebSocket } = canister;
  canister.WebSocket = class extends WebSocket {
    constructor(url) {
      if (++made === 2) throw new Error("an insecure WebSocket connection may not be initiated");
      super(url);
    }
  };
  const { person, socket } = await open(t, canister);
  socket.end(1012);
  await when(() => person.happened.length === 2);
  t.mock.timers.tick(1000);
  assert.deepEqual(person.errors, ["an insecure WebSocket connection may not be initiated"]);
  t.mock.timers.tick(2000);
  await person.until(() => made === 3 && person.ws.isConnectionEstablished(), "the next attempt");
  assert.deepEqual(person.happened, ["open", "reconnecting after session_over", "reconnecting after connection_lost", "open", "reopened after session_over"]);
});

test("one gateway may refuse what another takes, and the last word is that of all", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const urls = ["wss://one.test", "wss://two.test"];
  for (const refusing of [["one"], ["one", "two"]]) {
    const canister = new Canister();
    const { WebSocket } = canister;
    canister.WebSocket = class extends WebSocket {
      arrive(bytes) {
        if (refusing.some((name) => this.url.includes(name))) this.end(1008, "canister is not allowed");
        else super.arrive(bytes);
      }
    };
    t.mock.method(globalThis, "fetch", canister.fetch);
    const person = new Person({ ...canister.person(), gateway: urls });
    await when(() => person.happened.includes("reconnecting after refused"));
    t.mock.timers.tick(1000);
    if (refusing.length === 1) {
      await person.opened();
      await person.close();
    } else {
      assert.equal((await person.closed()).closeReason.name, "refused");
    }
    assert.equal(canister.sockets.length, 2);
  }
});

test("a handler that returns the promise of what it sends is no failure when the session ends", async (t) => {
  const { person, socket } = await open(t, new Canister(), { reconnect: false });
  person.ws.onmessage = () => person.ws.send({ text: "hello" });
  await socket.say("hello");
  await socket.until(1);
  socket.end(1012);
  await person.closed();
  await new Promise((resolve) => setImmediate(resolve)); // node:test fails with what nobody catches
});

test("who closes when a session comes back is not told to fetch what was missed", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { person, socket } = await open(t);
  socket.end(1012);
  await when(() => person.happened.length === 2);
  person.ws.onopen = () => person.ws.close();
  t.mock.timers.tick(1000);
  await person.closed();
  assert.deepEqual(person.happened, ["open", "reconnecting after session_over", "close"]);
});

test("a page that comes into sight does not wait for the end of a pause", async (t) => {
  globalThis.document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  globalThis.addEventListener = globalThis.removeEventListener = () => {};
  t.after(() => ["document", "addEventListener", "removeEventListener"].forEach((name) => delete globalThis[name]));
  t.mock.timers.enable({ apis: ["setTimeout"] }); // so no pause ends by itself
  const { person, canister, socket } = await open(t);
  socket.end(1012);
  await when(() => person.happened.length === 2);
  document.dispatchEvent(new Event("visibilitychange"));
  await when(() => person.ws.isConnectionEstablished());
  document.dispatchEvent(new Event("visibilitychange"));
  t.mock.timers.tick(60_000);
  assert.equal(canister.sockets.length, 2);
});

test("who closes while a session ends for another reason does not get a new one", async (t) => {
  const { person, canister, socket } = await open(t);
  canister.isSilent = true;
  socket.arrive("a text frame");
  person.ws.close();
  socket.end(4000, "Error receiving message");
  assert.equal((await person.closed()).closeReason.name, "bad_message");
});

test("a connection that fails is told of once", async (t) => {
  const { person, socket } = await open(t, new Canister(), { reconnect: false });
  socket.onerror(new Event("error"));
  socket.end(1006);
  assert.equal((await person.closed()).closeReason.name, "connection_lost");
  assert.match(person.errors.join(), /^the connection failed: is the address right/);
  const { person: leaving, socket: closing } = await open(t);
  leaving.ws.close();
  closing.onerror(new Event("error"));
  await leaving.closed();
  assert.deepEqual(leaving.errors, [], "whoever closes does not care");
});
