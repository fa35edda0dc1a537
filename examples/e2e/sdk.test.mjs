// The whole life of a session as the npm client sees it: ic-websocket-js and @dfinity/agent as published, over wss://,
// against a real Caddy. sdk_test.go starts Caddy and the local network, trusts Caddy's internal CA through
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

/** Asks the harness (controls_test.go) something about the canister or the network. */
async function ask(path, body) {
  const answer = await fetch(stack.control + path, body && { method: "POST", body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

/** Polls the harness until check(answer) holds. */
async function eventually(path, check, what) {
  const limit = Date.now() + 45_000;
  for (;;) {
    const answer = await ask(path);
    if (check(answer)) return answer;
    if (Date.now() > limit) assert.fail(`${what}: last seen ${JSON.stringify(answer)}`);
    await new Promise((wake) => setTimeout(wake, 50));
  }
}

/** The clients of a canister: principal to the sequence number that it expects next. */
const clients = (canister) => `/clients?canister=${canister}`;

/** How many update calls of an identity have reached the network. */
const calls = (identity) => ask(`/calls?sender=${identity.getPrincipal().toText()}`);

after(async () => {
  for (const session of sessions) if (!session.end) await session.close();
});

test("opens, and closes with 1000", async () => {
  const session = start();
  await session.opened();
  assert.equal(session.ws.isConnectionEstablished(), true);
  const me = session.ws.getPrincipal().toText();
  await eventually(clients(stack.canister), (list) => me in list, "the canister lists the client");
  assert.equal((await session.close()).code, 1000);
  await eventually(clients(stack.canister), (list) => !(me in list), "the canister has been told that the client left");
  assert.deepEqual(session.errors, []);
});

test("20 times ping and pong, each message longer than the last", async () => {
  // The canister says "ping" first and answers each text with the same and "-pong".
  const session = start({ canister: stack.greeter });
  await session.opened();
  let expected = "ping";
  for (let i = 0; i < 20; i++) {
    assert.equal(await session.next(), expected);
    const answer = `${expected}-ping`;
    session.send(answer);
    expected = `${answer}-pong`;
  }
  assert.equal(await session.next(), expected);
  await session.close();
  assert.deepEqual(session.errors, []);
});

test("20 messages sent at once are answered in order, up to 70 kB", async () => {
  const session = start();
  await session.opened();
  const texts = Array.from({ length: 20 }, (_, i) => `${i} ${"x".repeat(Math.floor(1.8 ** i))}`);
  for (const text of texts) session.send(text);
  for (const text of texts) assert.equal(await session.next(), `${text}-pong`);
  await session.close();
  assert.deepEqual(session.errors, []);
});

test("two clients at once receive only their own messages", async () => {
  const [a, b] = [start(), start()];
  await Promise.all([a.opened(), b.opened()]);
  for (let i = 0; i < 10; i++) {
    a.send(`a${i}`);
    b.send(`b${i}`);
  }
  for (let i = 0; i < 10; i++) {
    assert.equal(await a.next(), `a${i}-pong`);
    assert.equal(await b.next(), `b${i}-pong`);
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
    session.send(`round ${round}`);
    assert.equal(await session.next(), `round ${round}-pong`);
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
  assert.equal(end.code, 1008);
  assert.match(end.reason, /same identity/);
  second.send("still here");
  assert.equal(await second.next(), "still here-pong");
  await second.close();
});

test("a canister that closes the session arrives as 4001", async () => {
  const session = start();
  await session.opened();
  session.send("close");
  assert.deepEqual(await session.closed(), { code: 4001, reason: "ClosedByApplication" });
});

test("acknowledgements are answered with keep-alives, and the session lives on", async () => {
  const session = start({ canister: stack.eager, ackIntervalMs: stack.eagerMs });
  await session.opened();
  const me = session.ws.getPrincipal().toText();
  session.send("before");
  assert.equal(await session.next(), "before-pong");
  // 2 is the next message; each keep-alive takes a number.
  await eventually(clients(stack.eager), (list) => list[me] >= 4, "two keep-alives have reached the canister");
  session.send("after");
  assert.equal(await session.next(), "after-pong");
  assert.deepEqual(session.errors, []);
  await session.close();
});

test("a canister that is not allowed is refused with a reason", async () => {
  const identity = generateRandomIdentity();
  const end = await start({ identity, canister: stack.notAllowed }).closed();
  assert.equal(end.code, 1008);
  assert.match(end.reason, /canister.* not allowed/);
  assert.equal(await calls(identity), 0, "a refused session must cost the network nothing");
});

test("a message that the canister traps on closes the session with the reason", async () => {
  const session = start();
  await session.opened();
  session.send("trap");
  const end = await session.closed();
  assert.equal(end.code, 1011);
  assert.match(end.reason, /the client asked for a trap/);
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
  session.send("from a delegated key");
  assert.equal(await session.next(), "from a delegated key-pong");
  const me = identity.getPrincipal().toText();
  await eventually(clients(stack.canister), (list) => me in list, "the canister knows the user and not the session key");
  await session.close();
  assert.deepEqual(session.errors, []);
});

test("a forged Internet Identity delegation is refused before anything goes upstream", async () => {
  // Another session key than the one that was signed for: every byte is well formed, nothing proves it.
  const stolen = hex(new Uint8Array(Ed25519KeyIdentity.generate().getPublicKey().toDer()));
  const mine = Ed25519KeyIdentity.generate();
  const json = await ask("/delegate", { sessionKey: stolen });
  json.delegations[0].delegation.pubkey = hex(new Uint8Array(mine.getPublicKey().toDer()));
  const other = DelegationIdentity.fromDelegation(mine, DelegationChain.fromJSON(JSON.stringify(json)));
  // And one byte of the certificate inside the signature changed.
  const damaged = await internetIdentity((chain) => {
    const link = chain.delegations[0];
    const at = Math.floor(link.signature.length / 2);
    const digit = Number.parseInt(link.signature[at], 16) ^ 1;
    link.signature = link.signature.slice(0, at) + digit.toString(16) + link.signature.slice(at + 1);
    return chain;
  });
  for (const identity of [other, damaged]) {
    const end = await start({ identity }).closed();
    assert.equal(end.code, 1008);
    assert.match(end.reason, /delegation|signature/);
    assert.equal(await calls(identity), 0, "a forged session must cost the network nothing");
  }
});
