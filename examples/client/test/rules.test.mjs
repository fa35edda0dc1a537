// The rules of a session, one at a time, against a canister in this process.

import { Cbor } from "@icp-sdk/core/agent";
import assert from "node:assert/strict";
import { test } from "node:test";
import { Canister } from "./canister.mjs";
import { open, when } from "./open.mjs";
import { Person } from "./person.mjs";

const minutes = (n) => n * 60_000;

/** Ends a session that one frame has to end, and says how. */
async function endOf(t, spoil, config = {}) {
  const { person, socket, canister } = await open(t, new Canister(), { reconnect: false, ...config });
  await spoil(socket, canister, person);
  const { closeReason } = await person.closed();
  assert.deepEqual(socket.closed, { code: closeReason.code, reason: closeReason.text }, "the gateway is told the same");
  return [closeReason.name, closeReason.code, person.errors.join()];
}

test("a clock that is minutes wrong is corrected before anything is lost", async (t) => {
  for (const ahead of [minutes(10), minutes(-10)]) {
    await t.test(`${ahead / 60_000} minutes ahead`, async (t) => {
      const { person, canister, socket } = await open(t, new Canister({ ahead }));
      const clock = `clock ${ahead / 60_000} min ahead`;
      assert.deepEqual(person.happened, [clock, "reconnecting after refused", "open", "reopened after refused"]);
      assert.equal(canister.asked, 1);
      await socket.say("hello");
      assert.equal(await person.message(4), "hello");
      person.ws.send({ text: "signed with the right time" });
      await socket.until(1);
      const [{ left, timestamp }] = socket.got;
      assert.ok(left > minutes(2.9) && left < minutes(5), `${left} ms are left`);
      assert.ok(Math.abs(Number(timestamp / 1_000_000n) - canister.now()) < minutes(1), "the message's own time is corrected, too");
    });
  }
});

test("a clock that is wrong by less than what an opening bears is corrected by the first message alone", async (t) => {
  const { person, canister } = await open(t, new Canister({ ahead: minutes(-2) }));
  assert.deepEqual([person.happened, canister.asked], [["clock -2 min ahead", "open"], 0]);
});

test("a clock that is right to the minute is left alone, and nobody is asked", async (t) => {
  for (const ahead of [0, 55_000, -55_000]) {
    const { person, canister } = await open(t, new Canister({ ahead }));
    assert.deepEqual([person.happened, canister.asked], [["open"], 0]);
  }
});

test("a clock that is put right is noticed by the next session", async (t) => {
  const { person, canister, socket } = await open(t, new Canister({ ahead: 80_000 }));
  let last;
  person.ws.addEventListener("clockskew", ({ ahead }) => (last = ahead));
  canister.ahead = 5_000; // which is right to the minute
  socket.end(1012);
  await person.until(() => canister.sockets.length === 2 && person.ws.isConnectionEstablished(), "another session");
  assert.deepEqual(person.happened, ["clock 1 min ahead", "open", "reconnecting after session_over", "clock 0 min ahead", "open", "reopened after session_over"]);
  assert.equal(last, 0);
});

test("a clock that is put right during a session is noticed when the network refuses what was signed", async (t) => {
  const now = Date.now();
  t.mock.timers.enable({ apis: ["Date"], now: now + minutes(10) });
  const { person, canister } = await open(t, new Canister({ ahead: minutes(10) }));
  const before = person.happened.length;
  t.mock.timers.setTime(now + 1000);
  canister.ahead = 0;
  person.ws.send({ text: "signed as if the clock was wrong" });
  await person.until(() => person.happened.length >= before + 4, "a session");
  assert.deepEqual(person.happened.slice(before), ["clock 0 min ahead", "reconnecting after refused", "open", "reopened after refused"]);
});

test("a page that slept while it opened does not take that for a wrong clock", async (t) => {
  const now = Date.now();
  t.mock.timers.enable({ apis: ["Date"], now });
  const canister = new Canister({ opens: false });
  t.mock.method(globalThis, "fetch", canister.fetch);
  const person = new Person(canister.person({ reconnect: false }));
  await when(() => canister.sockets[0].client);
  t.mock.timers.setTime(now + minutes(3));
  await canister.sockets[0].serve({ OpenMessage: { client_key: canister.sockets[0].client } });
  assert.equal((await person.closed()).closeReason.name, "open_timeout");
  assert.deepEqual(person.happened, ["close"]);
});

test("a clock is corrected also where an application does not want to be reconnected", async (t) => {
  const { person } = await open(t, new Canister({ ahead: minutes(10) }), { reconnect: false });
  assert.equal(person.ws.isConnectionEstablished(), true);
});

test("a refusal that has nothing to do with the clock is the end", async (t) => {
  const canister = new Canister({ opens: false });
  t.mock.method(globalThis, "fetch", canister.fetch);
  const person = new Person(canister.person());
  await when(() => canister.sockets[0].client);
  canister.sockets[0].end(1008, "canister is not allowed");
  const { closeReason } = await person.closed();
  assert.deepEqual([closeReason.name, closeReason.text, canister.asked, canister.sockets.length], ["refused", "canister is not allowed", 1, 1]);
});

test("nobody is asked for the time when the clock cannot be the reason", async (t) => {
  const { person, canister, socket } = await open(t);
  socket.end(1008, "a newer session");
  assert.equal((await person.closed()).closeReason.name, "refused");
  assert.equal(canister.asked, 0, "the session had opened");
  const full = new Canister({ opens: false });
  t.mock.method(globalThis, "fetch", full.fetch);
  const waiting = new Person(full.person());
  await when(() => full.sockets[0].client);
  full.sockets[0].end(1013, "full");
  await waiting.until(() => waiting.happened.includes("reconnecting after try_later"), "a pause");
  await waiting.close();
  assert.equal(full.asked, 0, "the reason was another");
});

test("a network that does not tell its time leaves a refusal what it is", async (t) => {
  const canister = new Canister({ ahead: minutes(10) });
  t.mock.method(globalThis, "fetch", async () => new Response(null, { status: 503 }));
  const { closeReason } = await new Person(canister.person()).closed();
  assert.deepEqual([closeReason.name, canister.sockets.length], ["refused", 1]);
});

test("a time that the network has not signed is not believed", async (t) => {
  const canister = new Canister({ ahead: minutes(10) });
  t.mock.method(globalThis, "fetch", canister.fetch);
  const { mainnetRootKey } = await import("../dist/rootkey.js");
  const { closeReason } = await new Person(canister.person({ rootKey: mainnetRootKey() })).closed();
  assert.deepEqual([closeReason.name, canister.asked, canister.sockets.length], ["refused", 1, 1]);
});

test("who closes while the network is asked for its time stays closed", async (t) => {
  const canister = new Canister({ ahead: minutes(10) });
  let answer;
  t.mock.method(globalThis, "fetch", () => new Promise((resolve) => (answer = resolve)));
  const person = new Person(canister.person());
  await when(() => answer);
  assert.equal(person.ws.readyState, person.ws.CONNECTING);
  person.ws.close();
  assert.equal((await person.closed()).code, 1000);
  answer(await canister.fetch(`/api/v3/canister/${canister.id}/read_state`));
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([canister.sockets.length, person.happened.at(-1)], [1, "close"]);
});

test("a certificate is of the last minutes, by the network's time", async (t) => {
  const old = (ms) => (socket, canister) => socket.say("late", { at: canister.now() - ms });
  assert.match((await endOf(t, old(minutes(5) + 1000)))[2], /certificate is 30[01] s old/);
  assert.match((await endOf(t, old(minutes(-5) - 5000)))[2], /ahead of the network's time/);
  assert.match((await endOf(t, old(minutes(2)), { maxCertificateAgeInMinutes: 1 }))[2], /certificate is 12[0-9] s old/);
  for (const ahead of [0, minutes(10), minutes(-10)]) {
    const { person, socket, canister } = await open(t, new Canister({ ahead }), { reconnect: false });
    for (const ms of [minutes(5) - 5000, minutes(-5) + 65_000]) await socket.say("in time", { at: canister.now() - ms });
    await person.until(() => person.happened.filter((what) => what === "in time").length === 2, "both");
    await socket.say("late", { at: canister.now() - minutes(6) - 1000 });
    assert.equal((await person.closed()).closeReason.name, "bad_message", `with a clock ${ahead} ms ahead`);
  }
});

test("what is not the canister's ends the session", async (t) => {
  const bad = (odd) => (socket) => socket.say("hello", odd);
  const cases = {
    "other content than was certified": [bad({ certifies: new Uint8Array() }), /content is not what the witness has/],
    "a witness of another state": [bad({ forges: true }), /witness is not what the canister certified/],
    "another's message": [(s) => s.say("hello", { client: { ...s.client, client_nonce: s.client.client_nonce + 1n } }), /for another session/],
    "one that is missing": [bad({ sequence: 3n }), /message 3 in place of 2/],
    "one that is repeated": [bad({ sequence: 1n }), /message 1 in place of 2/],
    "a text frame": [(s) => s.arrive("hello"), /a text frame/],
    "a frame that is too large": [(s) => s.arrive(new Uint8Array((4 << 20) + 1)), /too much at once/],
    "a frame without a part": [(s) => s.arrive(Cbor.encode({ key: "key", content: new Uint8Array(1) })), /a frame without cert/],
    "a kind that is none": [bad({ fields: { is_service_message: 1 } }), /is not a message/],
    "a text as content": [bad({ fields: { content: "hello" } }), /is not a message/],
    "no client": [bad({ fields: { client_key: {} } }), /is not a message/],
    "a negative number": [bad({ fields: { sequence_num: -1 } }), /without a number/],
    "no number": [bad({ fields: { timestamp: "now" } }), /without a number/],
    "no frame": [(s) => s.arrive(Uint8Array.of(0xa0)), /a frame without a key/],
    "no Candid": [(s) => s.say(new TextEncoder().encode("hello")), /Candid|magic/i],
  };
  for (const [what, [spoil, error]] of Object.entries(cases)) {
    const [name, code, errors] = await endOf(t, spoil);
    assert.deepEqual([name, code], ["bad_message", 4000], what);
    assert.match(errors, error, what);
  }
});

test("handshakes that name no gateway end the session", async (t) => {
  t.mock.method(globalThis, "fetch", async () => new Response(null, { status: 503 }));
  for (const gateway_principal of [undefined, "text", new Uint8Array(), new Uint8Array(30)]) {
    const canister = new Canister();
    canister.gateway = { toUint8Array: () => gateway_principal };
    const person = new Person(canister.person({ reconnect: false }));
    assert.equal((await person.closed()).closeReason.name, "bad_message");
    assert.match(person.errors.join(), /does not name the gateway's principal/);
  }
});

test("frames that were verified do not count as waiting", async (t) => {
  const { person, socket } = await open(t);
  const long = "x".repeat((4 << 20) - 2000);
  for (let i = 1; i <= 9; i++) {
    await socket.say(long);
    await person.message(i);
  }
  assert.deepEqual(person.errors, []);
});

test("frames that wait to be verified are bounded", async (t) => {
  const [name, , errors] = await endOf(t, (socket) => {
    for (let i = 0; i < 9; i++) socket.arrive(new Uint8Array(4 << 20));
  });
  assert.equal(name, "bad_message");
  assert.match(errors, /too much at once/);
});

test("frames without anything in them are bounded, too", async (t) => {
  t.mock.method(globalThis, "fetch", () => new Promise(() => {}));
  const canister = new Canister();
  const person = new Person(canister.person({ rootKey: "fetch", reconnect: false }));
  await when(() => canister.sockets[0].client);
  for (let i = 0; i < 40_000; i++) canister.sockets[0].arrive(new Uint8Array());
  assert.match(person.errors.join(), /too much at once/);
  person.ws.close();
});

test("the canister's own words", async (t) => {
  const serve = (message) => (socket) => socket.serve(message);
  const close = (reason) => serve({ CloseMessage: { reason: { [reason]: null } } });
  const cases = {
    "closed on purpose": [close("ClosedByApplication"), "closed_by_canister", 4001, /^$/],
    "wrong sequence": [close("WrongSequenceNumber"), "removed_by_canister", 4000, /WrongSequenceNumber/],
    "keep-alive was late": [close("KeepAliveTimeout"), "removed_by_canister", 4000, /KeepAliveTimeout/],
    "an ack of what was not sent": [serve({ AckMessage: { last_incoming_sequence_num: 1n } }), "bad_ack", 4000, /message 1, and 0 were sent/],
    "a message of clients": [serve({ KeepAliveMessage: { last_incoming_sequence_num: 0n } }), "bad_service_message", 4000, /only clients send/],
    "no service message": [(s) => s.say(Uint8Array.of(1), { service: true }), "bad_service_message", 4000, /./],
  };
  const other = (s) => s.serve({ OpenMessage: { client_key: { ...s.client, client_nonce: s.client.client_nonce ^ 1n } } });
  cases["an opening of somebody else"] = [other, "bad_service_message", 4000, /somebody else/];
  for (const [what, [spoil, name, code, error]] of Object.entries(cases)) {
    const end = await endOf(t, spoil);
    assert.deepEqual(end.slice(0, 2), [name, code], what);
    assert.match(end[2], error, what);
  }
});

test("an ack resolves what it covers and is answered with the number of messages that arrived", async (t) => {
  const { person, socket } = await open(t);
  const [first, second] = [person.ws.send({ text: "one" }), person.ws.send({ text: "two" })];
  await socket.until(2);
  await socket.say("hello");
  await socket.serve({ AckMessage: { last_incoming_sequence_num: 1n } });
  await first;
  await socket.until(3);
  assert.deepEqual(socket.got.map(({ sequence, service, content }) => [sequence, service, content]), [
    [1n, false, "one"],
    [2n, false, "two"],
    [3n, true, { KeepAliveMessage: { last_incoming_sequence_num: 3n } }],
  ]);
  socket.end(1012);
  await assert.rejects(second, { fate: "unknown" });
});

test("what has not left when the session ends was not sent", async (t) => {
  const { person, socket } = await open(t, new Canister(), { reconnect: false });
  const sent = person.ws.send({ text: "signed too late" });
  assert.ok(person.ws.bufferedAmount > 0);
  socket.readyState = 3; // the connection is gone, and its event has not come
  await assert.rejects(sent, { fate: "unsent" });
  assert.equal(person.ws.bufferedAmount, 0);
  assert.deepEqual(socket.got, []);
});

test("an identity that does not sign ends the session, and says so", async (t) => {
  const { person, socket } = await open(t, new Canister(), { reconnect: false });
  person.identity.sign = () => Promise.reject(new Error("the person said no"));
  const sent = person.ws.send({ text: "hello" });
  const { closeReason } = await person.closed();
  assert.deepEqual([closeReason.name, closeReason.code], ["send_failed", 4000]);
  assert.match(person.errors.join(), /the person said no/);
  await assert.rejects(sent, { fate: "unsent", closeReason });
  assert.deepEqual(socket.got, []);
});

test("a keep-alive that cannot be signed ends the session, and says so", async (t) => {
  const [name, code] = await endOf(t, (socket, _, person) => {
    person.identity.sign = () => Promise.reject(new Error("the person said no"));
    return socket.serve({ AckMessage: { last_incoming_sequence_num: 0n } });
  });
  assert.deepEqual([name, code], ["keep_alive_failed", 4000]);
});

test("an identity that never answers leaves no message without a fate", async (t) => {
  const { person, socket } = await open(t, new Canister(), { reconnect: false });
  person.identity.sign = () => new Promise(() => {});
  const sent = [person.ws.send({ text: "one" }), person.ws.send({ text: "two" })];
  socket.end(1012);
  for (const message of sent) await assert.rejects(message, { fate: "unsent" });
});

test("a keep-alive is signed before the messages that wait", async (t) => {
  const { person, socket } = await open(t);
  const sign = person.identity.sign.bind(person.identity);
  let release;
  const held = new Promise((resolve) => (release = resolve));
  person.identity.sign = async (blob) => (await held, sign(blob));
  for (const text of ["one", "two", "three"]) person.ws.send({ text });
  await socket.serve({ AckMessage: { last_incoming_sequence_num: 0n } });
  await socket.say("the ack has been read");
  await person.message(1);
  release();
  await socket.until(4);
  assert.deepEqual(socket.got.map(({ sequence, service, content }) => [sequence, service || content]), [[1n, "one"], [2n, true], [3n, "two"], [4n, "three"]]);
});

test("a page has time for other things while many messages are signed", async (t) => {
  const { person, socket } = await open(t);
  const sign = person.identity.sign.bind(person.identity);
  person.identity.sign = (blob) => {
    for (const until = performance.now() + 3; performance.now() < until; );
    return sign(blob);
  };
  for (let i = 0; i < 100; i++) person.ws.send({ text: `${i}` });
  let longest = 0;
  for (let before = 0; before < 100; ) {
    await new Promise((resolve) => setImmediate(resolve));
    longest = Math.max(longest, socket.got.length - before);
    before = socket.got.length;
  }
  assert.ok(longest <= 4, `${longest} messages were signed without a pause: 4 take 12 ms`);
  assert.deepEqual(socket.got.map(({ content }) => content), Array.from({ length: 100 }, (_, i) => `${i}`));
});

test("what is being verified when the application closes is not delivered", async (t) => {
  const { person, socket } = await open(t);
  const digest = crypto.subtle.digest.bind(crypto.subtle);
  t.mock.method(crypto.subtle, "digest", (...of) => {
    person.ws.close();
    return digest(...of);
  });
  await socket.say("too late");
  await person.closed();
  assert.deepEqual(person.happened, ["open", "close"]);
});

test("who closes is told so, whatever the gateway answers", async (t) => {
  const { person, canister, socket } = await open(t);
  canister.isSilent = true;
  person.ws.close();
  socket.end(1001, "bye");
  assert.equal((await person.closed()).code, 1000);
});

test("nothing that comes after the end is delivered", async (t) => {
  const { person, socket } = await open(t);
  person.ws.onmessage = () => person.ws.close();
  const later = [];
  person.ws.addEventListener("message", ({ data }) => later.push(data.text));
  await Promise.all([socket.say("one"), socket.say("two")]);
  await person.closed();
  assert.deepEqual(later, ["one"]);
  await socket.say("three");
  assert.deepEqual([later, person.errors], [["one"], []]);
});

test("what came before the close is read first", async (t) => {
  const { person, socket } = await open(t, new Canister(), { reconnect: false });
  await socket.say("last words");
  socket.end(1012, "over");
  await person.closed();
  assert.deepEqual(person.happened, ["open", "last words", "close"]);
});

test("timers: no handshake, no answer to ws_open, no ack, no answer to a close", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const ends = async (person, socket, name, ms) => {
    t.mock.timers.tick(ms - 1);
    assert.equal(socket.closed, undefined, `${name} before its time`);
    t.mock.timers.tick(1);
    assert.equal((await person.closed()).closeReason.name, name);
  };
  let asked = 0;
  t.mock.method(globalThis, "fetch", async () => new Response(null, { status: 500 + asked++ }));

  const mute = new Canister();
  mute.WebSocket.prototype.arrive = () => {};
  let person = new Person(mute.person({ reconnect: false }));
  await ends(person, mute.sockets[0], "open_timeout", 20_000);
  assert.equal(asked, 0, "the canister was not asked, so the clock cannot be the reason");

  const deaf = new Canister({ opens: false });
  person = new Person(deaf.person({ reconnect: false }));
  t.mock.timers.tick(15_000); // the timer begins anew with ws_open
  await when(() => deaf.sockets[0].client);
  await ends(person, deaf.sockets[0], "open_timeout", 60_000);
  assert.equal(asked, 1, "the clock may be");

  for (const interval of [undefined, 1000]) {
    const { person, socket } = await open(t, new Canister(), { reconnect: false, ackMessageIntervalMs: interval });
    await ends(person, socket, "ack_timeout", (interval ?? 300_000) + 30_000); // also of one who sends nothing
  }

  const { person: leaving, canister } = await open(t);
  canister.isSilent = true;
  leaving.ws.close();
  t.mock.timers.tick(2_999);
  assert.equal(leaving.end, undefined);
  t.mock.timers.tick(1);
  assert.equal((await leaving.closed()).code, 1000);
});
