// Sessions from one end to the other, against a real Caddy over wss://. examples/e2e/client_test.go starts it with the local
// network, trusts Caddy's internal CA through NODE_EXTRA_CA_CERTS and passes the addresses in ICWS_E2E.

import assert from "node:assert/strict";
import net from "node:net";
import { after, test } from "node:test";
import { generateRandomIdentity } from "@icws-gateway/client";
import { Person } from "./person.mjs";

assert.ok(process.env.ICWS_E2E, "ICWS_E2E is not set: run this through `go test -tags e2e -run TestClient ./examples/e2e`");
const stack = JSON.parse(process.env.ICWS_E2E);

const people = [];
function start(options = {}) {
  const person = new Person({ gateway: stack.gateway, network: stack.network, canister: stack.canister, ...options });
  people.push(person);
  return person;
}
after(async () => {
  for (const person of people) if (!person.end) await person.close();
});

/** Asks the harness until check(answer) holds. */
async function eventually(path, check, what) {
  const limit = Date.now() + 45_000;
  for (;;) {
    const answer = await fetch(stack.control + path);
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    const value = await answer.json();
    if (check(value)) return value;
    if (Date.now() > limit) assert.fail(`${what}: last seen ${JSON.stringify(value)}`);
    await new Promise((wake) => setTimeout(wake, 50));
  }
}
const clients = (canister) => `/clients?canister=${canister}`;

test("opens, and closes with 1000", async () => {
  const person = start();
  assert.equal(person.ws.isConnectionEstablished(), false);
  assert.throws(() => person.ws.send({ text: "too early" }), /not established/);
  await person.opened();
  assert.equal(person.ws.isConnectionEstablished(), true);
  assert.equal(person.ws.readyState, person.ws.OPEN);
  const me = person.ws.getPrincipal().toText();
  await eventually(clients(stack.canister), (list) => me in list, "the canister lists the client");
  const end = await person.close();
  assert.deepEqual(end.closeReason, { name: "normal", code: 1000, text: "", retry: "never" });
  assert.deepEqual([end.code, end.reason, person.ws.isConnectionEstablished(), person.ws.readyState], [1000, "", false, 3]);
  await eventually(clients(stack.canister), (list) => !(me in list), "the canister has been told that the client left");
  assert.deepEqual([person.happened, person.errors], [["open", "close"], []]);
});

test("20 times ping and pong, the canister first", async () => {
  const person = start({ canister: stack.greeter });
  await person.opened();
  let expected = "ping";
  for (let i = 1; i <= 20; i++) {
    assert.equal(await person.message(i), expected);
    person.ws.send({ text: `${expected}-ping` });
    expected += "-ping-pong";
  }
  assert.equal(await person.message(21), expected);
  await person.close();
  assert.deepEqual(person.errors, []);
});

test("40 messages sent at once are answered in order, up to 70 kB", async () => {
  const person = start();
  await person.opened();
  const texts = Array.from({ length: 40 }, (_, i) => `${i} ${"x".repeat(Math.floor(1.8 ** (i / 2)))}`);
  for (const text of texts) person.ws.send({ text });
  assert.ok(person.ws.bufferedAmount > 70_000, "what is still to be signed counts as buffered");
  await person.message(texts.length);
  assert.deepEqual(person.happened.slice(1), texts.map((text) => `${text}-pong`));
  assert.equal(person.ws.bufferedAmount, 0);
  await person.close();
  assert.deepEqual(person.errors, []);
});

test("a message of another type than the canister's is refused at once, and the session goes on", async () => {
  const person = start();
  await person.opened();
  assert.throws(() => person.ws.send({ text: 7 }), /text/);
  person.ws.send({ text: "still here" });
  assert.equal(await person.message(1), "still here-pong");
});

test("a second session of the same identity supersedes the first, which is told so", async () => {
  const identity = generateRandomIdentity();
  const first = start({ identity });
  await first.opened();
  const second = start({ identity });
  await second.opened();
  const { closeReason } = await first.closed();
  assert.deepEqual([closeReason.name, closeReason.code, closeReason.retry], ["refused", 1008, "never"]);
  assert.match(closeReason.text, /same identity/);
  second.ws.send({ text: "still here" });
  assert.equal(await second.message(1), "still here-pong");
});

test("a canister that closes the session arrives as 4001, after its messages", async () => {
  const person = start();
  await person.opened();
  person.ws.send({ text: "close" });
  const { closeReason } = await person.closed();
  assert.deepEqual(closeReason, { name: "closed_by_canister", code: 4001, text: "ClosedByApplication", retry: "never" });
});

test("a canister that traps ends the session with its words, and the next session opens", async () => {
  const person = start();
  await person.opened();
  let why;
  person.ws.addEventListener("reconnecting", ({ closeReason }) => (why = closeReason));
  const sent = person.ws.send({ text: "trap" });
  await person.until(() => person.happened.length >= 4, "a new session");
  assert.deepEqual(person.happened, ["open", "reconnecting after failed", "open", "reopened after failed"]);
  assert.equal(why.code, 1011);
  assert.match(why.text, /the client asked for a trap/);
  await assert.rejects(sent, (e) => e.name === "NotAcknowledgedError" && e.fate === "unknown" && e.closeReason === why);
  person.ws.send({ text: "again" });
  assert.equal(await person.message(4), "again-pong");
});

/** A way to the gateway that can be cut. */
async function way() {
  const sockets = new Set();
  const { hostname, port } = new URL(stack.gateway);
  const server = net.createServer((from) => {
    const to = net.connect(Number(port), hostname);
    from.pipe(to).pipe(from);
    for (const socket of [from, to]) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => [from, to].forEach((s) => s.destroy()));
    }
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const url = new URL(stack.gateway);
  url.port = server.address().port;
  const cut = () => sockets.forEach((socket) => socket.destroy());
  return { url: url.href, cut, end: () => new Promise((ended) => (server.close(ended), cut())) };
}

test("a connection that breaks is replaced by a new session", async (t) => {
  const { url, cut, end } = await way();
  t.after(end);
  const person = start({ gateway: url });
  await person.opened();
  const fate = assert.rejects(person.ws.send({ text: "lost or not" }), { fate: "unknown" });
  await person.message(1);
  cut();
  await person.until(() => person.happened.includes("reopened after connection_lost"), "a new session");
  await fate;
  assert.deepEqual(person.happened, ["open", "lost or not-pong", "reconnecting after connection_lost", "open", "reopened after connection_lost"]);
  person.ws.send({ text: "back" });
  assert.equal(await person.message(5), "back-pong");
  assert.equal((await person.close()).code, 1000);
});

test("the next gateway is taken when one is gone", async (t) => {
  const [one, two] = [await way(), await way()];
  t.after(() => two.end());
  const person = start({ gateway: [one.url, two.url] });
  await person.opened();
  await one.end();
  await person.until(() => person.happened.includes("reopened after connection_lost"), "a new session");
  person.ws.send({ text: "through the other" });
  assert.equal(await person.message(4), "through the other-pong");
});

test("closing in a pause ends it", async () => {
  const { url, end } = await way();
  const person = start({ gateway: url });
  await person.opened();
  await end();
  await person.until(() => person.happened.length > 1, "the loss");
  assert.deepEqual([person.ws.readyState, person.ws.isConnectionEstablished()], [person.ws.CONNECTING, false]);
  assert.throws(() => person.ws.send({ text: "nowhere" }), /not established/);
  assert.deepEqual((await person.close()).closeReason, { name: "normal", code: 1000, text: "", retry: "never" });
  assert.equal(person.ws.readyState, person.ws.CLOSED);
  assert.deepEqual(person.happened, ["open", "reconnecting after connection_lost", "close"]);
});

test("acknowledgements are answered with keep-alives, and resolve what they cover", async () => {
  const person = start({ canister: stack.eager, config: { ackMessageIntervalMs: stack.eagerMs } });
  await person.opened();
  const me = person.ws.getPrincipal().toText();
  await Promise.all([person.ws.send({ text: "one" }), person.ws.send({ text: "two" })]);
  assert.deepEqual(person.happened, ["open", "one-pong", "two-pong"]);
  await eventually(clients(stack.eager), (list) => list[me] >= 4, "two messages and a keep-alive have reached the canister");
  person.ws.send({ text: "three" });
  assert.equal(await person.message(3), "three-pong");
  await person.close();
  assert.deepEqual(person.errors, []);
});

/** Has the clock of this device be wrong for the rest of a test. */
function wrongBy(t, ms) {
  const RealDate = Date;
  globalThis.Date = class Date extends RealDate {
    constructor(...args) {
      if (args.length > 0) super(...args);
      else super(Date.now());
    }
    static now() {
      return RealDate.now() + ms;
    }
  };
  t.after(() => (globalThis.Date = RealDate));
}

for (const minutes of [10, -10]) {
  test(`a clock that is ${minutes} minutes ahead is corrected, and told`, async (t) => {
    wrongBy(t, minutes * 60_000);
    const person = start();
    await person.until(() => person.happened.includes("reopened after refused"), "a session");
    assert.deepEqual(person.happened, [`clock ${minutes} min ahead`, "reconnecting after refused", "open", "reopened after refused"]);
    person.ws.send({ text: "in time" });
    assert.equal(await person.message(4), "in time-pong");
    await person.close();
    assert.deepEqual(person.errors, []);
  });
}

test("a clock that is 2 minutes behind is corrected by the first message", async (t) => {
  wrongBy(t, -120_000);
  const person = start();
  await person.opened();
  assert.deepEqual(person.happened, ["clock -2 min ahead", "open"]);
  await person.close();
});

test("a canister that is not allowed is refused with a reason", async () => {
  const { closeReason } = await start({ canister: stack.notAllowed }).closed();
  assert.deepEqual([closeReason.name, closeReason.retry], ["refused", "never"]);
  assert.match(closeReason.text, /canister.* not allowed/);
});

test("a network with another root key than the one that is built in is not believed", async () => {
  const { mainnetRootKey } = await import("../dist/rootkey.js");
  const person = start({ config: { rootKey: mainnetRootKey(), reconnect: false } });
  const { closeReason } = await person.closed();
  assert.deepEqual([closeReason.name, closeReason.code, closeReason.text], ["bad_message", 4000, "Error receiving message"]);
  assert.match(person.errors.join(), /[Ss]ignature/);
  assert.deepEqual(person.happened, ["close"]);
});
