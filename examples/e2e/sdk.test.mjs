// The whole life of a session as the npm client sees it: ic-websocket-js and @dfinity/agent as published, over wss://,
// against a real Caddy. e2e_test.go starts Caddy and the local network, trusts Caddy's internal CA through
// NODE_EXTRA_CA_CERTS and passes the addresses in ICWS_E2E.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { DelegationChain, DelegationIdentity, Ed25519KeyIdentity } from "@dfinity/identity";
import { generateRandomIdentity } from "ic-websocket-js";
import { Session } from "./session.mjs";

assert.ok(process.env.ICWS_E2E, "ICWS_E2E is not set: run this through `go test -tags e2e ./examples/e2e`");
const stack = JSON.parse(process.env.ICWS_E2E);
const hex = (bytes) => Buffer.from(bytes).toString("hex");

const sessions = [];
function start(options = {}) {
  const session = new Session({
    gateway: stack.gateway,
    network: stack.network,
    canister: stack.canister,
    identity: generateRandomIdentity(),
    ...options,
  });
  sessions.push(session);
  return session;
}

/** Asks the harness (e2e_test.go) something about the canister or the network. */
async function ask(path, body) {
  const answer = await fetch(stack.control + path, body && { method: "POST", body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

/** Polls the harness until check(answer) holds. */
async function eventually(path, check, what) {
  const limit = Date.now() + 20_000;
  for (;;) {
    const answer = await ask(path);
    if (check(answer)) return answer;
    if (Date.now() > limit) assert.fail(`${what}: last seen ${JSON.stringify(answer)}`);
    await new Promise((wake) => setTimeout(wake, 50));
  }
}

after(async () => {
  for (const session of sessions) if (!session.end) await session.close();
});

test("opens, and closes with 1000", async () => {
  const session = start();
  await session.opened();
  assert.equal(session.ws.isConnectionEstablished(), true);
  const principal = session.ws.getPrincipal().toText();
  await eventually("/clients", (list) => list.includes(principal), "the canister lists the client");
  assert.deepEqual(await session.close(), { code: 1000, reason: "" });
  await eventually("/clients", (list) => !list.includes(principal), "the canister has been told that the client left");
  assert.deepEqual(session.errors, []);
});

test("20 pings are answered by 20 pongs in order, each longer than the last", async () => {
  const session = start();
  await session.opened();
  // As fast as the SDK can: nothing waits for the answer before. 2^20 would exceed what an ingress message may hold.
  const pings = Array.from({ length: 20 }, (_, i) => `ping ${i} ${"x".repeat(Math.floor(1.8 ** i))}`);
  for (const ping of pings) session.send(ping);
  for (const ping of pings) assert.equal(await session.next(), ping.replace("ping", "pong"));
  await session.close();
  assert.deepEqual(session.errors, []);
});

test("two clients at once receive only their own messages", async () => {
  const [a, b] = [start(), start()];
  await Promise.all([a.opened(), b.opened()]);
  for (let i = 0; i < 10; i++) {
    a.send(`ping a${i}`);
    b.send(`ping b${i}`);
  }
  for (let i = 0; i < 10; i++) {
    assert.equal(await a.next(), `pong a${i}`);
    assert.equal(await b.next(), `pong b${i}`);
  }
  await Promise.all([a.close(), b.close()]);
  assert.equal(a.received.length, 10);
  assert.equal(b.received.length, 10);
});

test("the same identity opens again after it closed", async () => {
  const identity = generateRandomIdentity();
  for (let round = 0; round < 3; round++) {
    const session = start({ identity });
    await session.opened();
    session.send(`ping round ${round}`);
    assert.equal(await session.next(), `pong round ${round}`);
    await session.close();
    assert.deepEqual(session.errors, []);
  }
});

test("a second session of the same identity supersedes the first, which is told so", async () => {
  const identity = generateRandomIdentity();
  const first = start({ identity });
  await first.opened();
  const second = start({ identity });
  await second.opened();
  const end = await first.closed();
  assert.match(end.reason, /same (principal|identity)|superseded|another session/i);
  second.send("ping still here");
  assert.equal(await second.next(), "pong still here");
  await second.close();
});

test("a canister that closes the session arrives as 4001", async () => {
  const session = start();
  await session.opened();
  session.send("close me");
  assert.deepEqual(await session.closed(), { code: 4001, reason: "ClosedByApplication" });
});

test("acks of the canister are answered, so the session lives on", async () => {
  const session = start({ canister: stack.ackCanister, ackIntervalMs: stack.ackIntervalMs });
  await session.opened();
  session.send("ping before");
  assert.equal(await session.next(), "pong before");
  await eventually("/keepalives", (n) => n >= 1, "a keep-alive has reached the canister");
  session.send("ping after");
  assert.equal(await session.next(), "pong after");
  assert.deepEqual(session.errors, []);
  await session.close();
});

test("a canister that is not allowed is refused with a reason", async () => {
  const before = (await ask("/upstream")).calls;
  const session = start({ canister: stack.notAllowed });
  const end = await session.closed();
  assert.equal(end.code, 1008);
  assert.match(end.reason, /canister/);
  assert.match(end.reason, /not allowed/);
  assert.equal((await ask("/upstream")).calls, before, "a refused session must cost the network nothing");
});

test("a message that the canister rejects closes the session with the canister's own words", async () => {
  const session = start();
  await session.opened();
  session.send("trap");
  const end = await session.closed();
  assert.equal(end.code, 1011);
  assert.match(end.reason, /ws_message/);
});

// Internet Identity gives the page a chain whose root is a signature by the II canister, and whose last link is the
// page's own session key. The harness plays the part of Internet Identity.
async function internetIdentity(change = (json) => json) {
  const key = Ed25519KeyIdentity.generate();
  const json = change(await ask("/delegate", { sessionKey: hex(new Uint8Array(key.getPublicKey().toDer())) }));
  return DelegationIdentity.fromDelegation(key, DelegationChain.fromJSON(JSON.stringify(json)));
}

test("a session that began with Internet Identity passes through to the canister", async () => {
  const identity = await internetIdentity();
  const session = start({ identity });
  await session.opened();
  session.send("ping from a delegated key");
  assert.equal(await session.next(), "pong from a delegated key");
  await eventually("/clients", (list) => list.includes(identity.getPrincipal().toText()), "the root's principal is the client");
  await session.close();
  assert.deepEqual(session.errors, []);
});

test("a forged Internet Identity delegation is refused before anything goes upstream", async () => {
  const before = (await ask("/upstream")).calls;
  // The last byte of the signature lies in the witness: the shape stays right, the proof does not.
  const forged = await internetIdentity((json) => {
    const link = json.delegations[0];
    const last = Number.parseInt(link.signature.slice(-2), 16) ^ 1;
    link.signature = link.signature.slice(0, -2) + last.toString(16).padStart(2, "0");
    return json;
  });
  const end = await start({ identity: forged }).closed();
  assert.equal(end.code, 1008);
  assert.match(end.reason, /delegation|signature/);
  assert.equal((await ask("/upstream")).calls, before, "a forged session must cost the network nothing");
});
