// What must be refused or stay unreadable, with the modules of the page, over a real Caddy. e2e_test.go starts all of it.

import assert from "node:assert/strict";
import { Held, Raw, canister, join, masterKey, page, roomOf, test } from "./people.mjs";

const { KeyOpener, MasterPublicKey, Principal, TransportSecretKey, bytes, sealed } = page;
const canisterBytes = Principal.fromText(canister).toUint8Array();

/** A master key that is not this network's. */
const forgedKey = MasterPublicKey.productionKey().publicKeyBytes();

/** A room of one, and its key as the canister hands it over: encrypted to this opener. */
async function encryptedKey(opener) {
  const ada = await Raw.join();
  ada.send({ open: null });
  const { room } = await ada.events.take("room");
  ada.send({ get_key: { room, epoch: 1n, transport_key: opener.transportKey } });
  const { encrypted_key } = await ada.events.take("key");
  return { room, encrypted: new Uint8Array(encrypted_key) };
}

/** A member beside a session whose sender does as they please, in one room, with the key of its first epoch. */
async function withStranger() {
  const opener = new KeyOpener(masterKey, canisterBytes);
  const [bob, eve] = await Promise.all([join(), Raw.join()]);
  const room = await roomOf(bob);
  bob.add(room, eve.principal);
  await eve.events.take("room");
  eve.send({ get_key: { room, epoch: 1n, transport_key: opener.transportKey } });
  const { encrypted_key } = await eve.events.take("key");
  const key = await opener.open(room, 1n, new Uint8Array(encrypted_key));
  const seal = (about, text) => sealed.seal(key, { room, epoch: 1n, sender: eve.principal, ...about }, text);
  const send = (counter, ciphertext) => eve.send({ say: { room, epoch: 1n, counter, ciphertext } });
  return { bob, eve, room, key, seal, send };
}

test("a key opens with nothing but what it was asked for", async () => {
  const opener = new KeyOpener(masterKey, canisterBytes);
  const { room, encrypted } = await encryptedKey(opener);
  await opener.open(room, 1n, encrypted);
  const refused = (what, open) => assert.rejects(open, Error, what);
  await refused("another transport key", new KeyOpener(masterKey, canisterBytes).open(room, 1n, encrypted));
  await refused("another epoch", opener.open(room, 2n, encrypted));
  await refused("another room", opener.open(room + 1n, 1n, encrypted));
  for (const at of [0, 20, 47, 48, 100, 143, 144, 170, 191]) {
    const changed = Uint8Array.from(encrypted);
    changed[at] ^= 1;
    await refused(`a flipped bit in byte ${at}`, opener.open(room, 1n, changed));
  }
  await refused("a key that is cut short", opener.open(room, 1n, encrypted.slice(0, 191)));
});

test("a key of another master key, or of another canister, does not open", async () => {
  const transport = TransportSecretKey.random();
  const { room, encrypted } = await encryptedKey(new KeyOpener(masterKey, canisterBytes, transport));
  await new KeyOpener(masterKey, canisterBytes, transport).open(room, 1n, encrypted);
  await assert.rejects(new KeyOpener(forgedKey, canisterBytes, transport).open(room, 1n, encrypted), "a forged master key");
  await assert.rejects(new KeyOpener(masterKey, Uint8Array.of(1), transport).open(room, 1n, encrypted), "another canister");
});

test("a member with a forged master key reads and says nothing", async () => {
  const [ada, bob] = await Promise.all([join(), join({ masterKey: forgedKey })]);
  const room = await roomOf(ada, bob);
  await ada.say(room, "for those who verify");
  assert.match((await bob.events.take("unreadable")).why, /not the one that the network derives/);
  await assert.rejects(bob.say(room, "to whoever gave me that key"), /not the one that the network derives/);
});

test("a flipped bit anywhere in a ciphertext makes it unreadable", async () => {
  const { bob, seal, send } = await withStranger();
  const good = await seal({ counter: 1n }, "hello");
  send(1n, good);
  assert.equal((await bob.events.take("message")).text, "hello");
  let counter = 1n;
  for (let at = 0; at < good.length; at++) {
    const changed = await seal({ counter: ++counter }, "hello");
    changed[at] ^= 1 << at % 8;
    send(counter, changed);
    assert.equal((await bob.events.take("unreadable")).counter, counter, `byte ${at}`);
  }
  send(++counter, good.slice(0, 5));
  await bob.events.take("unreadable");
  const last = await seal({ counter: ++counter }, "still here");
  send(counter, last);
  assert.equal((await bob.events.take("message")).text, "still here");
});

test("what was sealed for another place, or not at all, is unreadable", async () => {
  const { bob, room, eve, seal, send } = await withStranger();
  let counter = 0n;
  for (const [what, about] of Object.entries({
    "another room": { room: room + 1n },
    "another epoch": { epoch: 2n },
    "another sender": { sender: bob.principal },
    "another counter": { counter: 77n },
  })) {
    send(++counter, await seal({ counter, ...about }, what));
    assert.equal((await bob.events.take("unreadable")).counter, counter, what);
  }
  send(++counter, bytes.utf8("not encrypted at all, and long enough"));
  await bob.events.take("unreadable");
  // What somebody else said does not become one's own.
  await bob.say(room, "I am Bob");
  const said = await eve.events.take("said", ({ sender }) => sender.toText() === bob.principal);
  await bob.events.take("message");
  send(said.counter, new Uint8Array(said.ciphertext));
  assert.equal((await bob.events.take("unreadable")).sender, eve.principal);
});

test("what is repeated or comes late is not shown, and what is missing is told", async () => {
  const { bob, seal, send } = await withStranger();
  const sealedBy = new Map();
  for (const counter of [1n, 2n, 3n, 6n]) sealedBy.set(counter, await seal({ counter }, `message ${counter}`));
  const replay = (counter) => send(counter, sealedBy.get(counter));
  replay(1n);
  assert.equal((await bob.events.take("message")).text, "message 1");
  replay(1n);
  assert.match((await bob.events.take("unreadable")).why, /repetition/);
  replay(3n);
  const third = await bob.events.take("message");
  assert.deepEqual([third.text, third.missing], ["message 3", 1n]);
  replay(2n);
  assert.match((await bob.events.take("unreadable")).why, /too late/);
  replay(6n);
  assert.equal((await bob.events.take("message")).missing, 2n);
  // A counter that was made up does not keep the real ones out.
  send(1000n, sealedBy.get(6n));
  await bob.events.take("unreadable");
  send(7n, await seal({ counter: 7n }, "message 7"));
  assert.deepEqual((await bob.events.take("message")).missing, 0n);
});

test("each epoch is for those who were in it", async () => {
  const identity = page.generateRandomIdentity();
  const [ada, bob, carol, ear] = await Promise.all([join({ identity }), join(), join(), Raw.join()]);
  const room = await roomOf(ada, bob);
  ada.add(room, ear.principal);
  await ear.events.take("room");
  const hear = async () => {
    const said = await ear.events.take("said");
    return { ...said, sender: said.sender.toText() };
  };
  await ada.say(room, "in the first epoch");
  const first = await hear();
  assert.equal((await bob.events.take("message")).text, "in the first epoch");
  ada.remove(room, bob.principal);
  await bob.events.take("left");
  await ada.events.take("room", ({ epoch }) => epoch === 2n);
  ada.add(room, carol.principal);
  await carol.events.take("room");
  await ada.say(room, "in the second epoch");
  const second = await hear();
  assert.equal((await carol.events.take("message")).text, "in the second epoch");

  await assert.rejects(bob.read(second), /no such room, or you are not in it/);
  await assert.rejects(carol.read(first), /you were not in the room in that epoch/);
  await assert.rejects(bob.say(room, "am I still here?"), /not in the room/);
  await assert.rejects(bob.read({ ...second, epoch: 1n }), /does not open/, "with the key that he has");
  assert.equal(await bob.read(first), "in the first epoch", "what he could read he can read");
  // A page that is opened anew has no keys, and may have those of every epoch that its owner was in.
  ada.leave();
  await ada.events.take("state", ({ state }) => state === "closed");
  const again = await join({ identity });
  await again.events.take("room");
  assert.equal(await again.read(first), "in the first epoch");
  assert.equal(await again.read(second), "in the second epoch");
});

test("the identity is no transport key", async () => {
  const eve = await Raw.join();
  eve.send({ open: null });
  const { room } = await eve.events.take("room");
  const transport_key = new Uint8Array(48);
  transport_key[0] = 0xc0;
  eve.send({ get_key: { room, epoch: 1n, transport_key } });
  assert.equal((await eve.events.take("refused")).reason, "that is not a transport key");
});

test("who is removed while their request for a key is under way gets none", async () => {
  const [ada, bob, ear] = await Promise.all([join(), join({ WebSocket: Held }), Raw.join()]);
  const room = await roomOf(ada, bob);
  ada.add(room, ear.principal);
  await ear.events.take("room");
  await ada.say(room, "before");
  const said = await ear.events.take("said");
  await bob.events.take("message");
  const stranger = await join({ WebSocket: Held }); // has no key yet
  ada.add(room, stranger.principal);
  await stranger.events.take("room");
  Held.hold();
  const reading = stranger.read({ ...said, sender: said.sender.toText() });
  ada.remove(room, stranger.principal);
  await stranger.events.take("left");
  await assert.rejects(reading, /not in the room/);
  Held.release();
  await stranger.events.take("refused", ({ request }) => request === "get_key");
  assert.ok(!stranger.events.happened.some(({ type }) => type === "key"), "a key");
});

test("what was said as an epoch ended is said in the next one, once", async () => {
  const [ada, bob, carol] = await Promise.all([join(), join({ WebSocket: Held }), join()]);
  const room = await roomOf(ada, bob, carol);
  await bob.say(room, "one");
  await ada.events.take("message");
  Held.hold();
  await bob.say(room, "two"); // sealed for the first epoch
  ada.remove(room, carol.principal);
  await bob.events.take("room", ({ epoch }) => epoch === 2n);
  Held.release();
  const heard = await ada.events.take("message");
  assert.deepEqual([heard.text, heard.epoch], ["two", 2n]);
  await bob.say(room, "three");
  assert.equal((await ada.events.take("message")).text, "three");
  assert.ok(!bob.events.happened.some(({ type }) => type === "unsent" || type === "refused"));
});
