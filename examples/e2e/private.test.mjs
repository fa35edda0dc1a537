// The canister of examples/private-chat, in Go and in Rust, as pages will use it: ic-websocket-js, @dfinity/vetkeys and WebCrypto,
// over wss:// and a real Caddy. private_test.go starts all of it.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Principal } from "@dfinity/principal";
import { EncryptedVetKey, MasterPublicKey, TransportSecretKey } from "@dfinity/vetkeys";
import { generateRandomIdentity } from "ic-websocket-js";
import { Session } from "./session.mjs";

assert.ok(process.env.ICWS_E2E, "ICWS_E2E is not set: run this through `go test -tags e2e ./examples/e2e`");
const stack = JSON.parse(process.env.ICWS_E2E);
const bytes = (s) => new TextEncoder().encode(s);

/** The type of messages in both directions. */
const message = (IDL) => {
  const blob = IDL.Vec(IDL.Nat8);
  const room = { room: IDL.Nat64 };
  const epoch = { ...room, epoch: IDL.Nat64 };
  return IDL.Variant({
    open: IDL.Null,
    add: IDL.Record({ ...room, who: IDL.Principal }),
    remove: IDL.Record({ ...room, who: IDL.Principal }),
    close: IDL.Record(room),
    get_key: IDL.Record({ ...epoch, transport_key: blob }),
    say: IDL.Record({ ...epoch, counter: IDL.Nat64, ciphertext: blob }),
    room: IDL.Record({ ...epoch, owner: IDL.Principal, members: IDL.Vec(IDL.Principal) }),
    left: IDL.Record(room),
    key: IDL.Record({ ...epoch, encrypted_key: blob }),
    said: IDL.Record({ ...epoch, sender: IDL.Principal, counter: IDL.Nat64, at: IDL.Nat64, ciphertext: blob }),
    refused: IDL.Record({ ...room, request: IDL.Text, reason: IDL.Text }),
  });
};

/** Eight bytes, big-endian, for each number. */
function numbers(...list) {
  const view = new DataView(new ArrayBuffer(8 * list.length));
  list.forEach((n, i) => view.setBigUint64(8 * i, n));
  return new Uint8Array(view.buffer);
}

const people = [];
after(async () => {
  for (const person of people) if (!person.session.end) await person.session.close();
});

/** Somebody with a session of their own. */
class Person {
  constructor(canister) {
    const identity = generateRandomIdentity();
    this.canister = canister;
    this.principal = identity.getPrincipal();
    this.session = new Session({ gateway: stack.gateway, network: stack.network, canister, identity, type: message });
    people.push(this);
  }

  /** Waits for the next message, which must be of this kind. */
  async told(kind) {
    const next = await this.session.next();
    assert.deepEqual(Object.keys(next), [kind], JSON.stringify(next, (_, v) => (typeof v === "bigint" ? String(v) : v)));
    return next[kind];
  }

  /** Asks for the key of an epoch and verifies it by nothing but the master key of the network. */
  async key(room, epoch) {
    const transport = TransportSecretKey.random();
    this.session.send({ get_key: { room, epoch, transport_key: transport.publicKeyBytes() } });
    const { encrypted_key } = await this.told("key");
    const dpk = MasterPublicKey.deserialize(Buffer.from(stack.masterKey, "hex"))
      .deriveCanisterKey(Principal.fromText(this.canister).toUint8Array())
      .deriveSubKey(bytes("private-chat"));
    const vetKey = EncryptedVetKey.deserialize(new Uint8Array(encrypted_key)).decryptAndVerify(transport, dpk, numbers(room, epoch));
    return crypto.subtle.importKey("raw", vetKey.deriveSymmetricKey("message", 32), "AES-GCM", false, ["encrypt", "decrypt"]);
  }

  async say(key, room, epoch, counter, text) {
    const iv = crypto.getRandomValues(new Uint8Array(12));
    const additionalData = aad(room, epoch, this.principal, counter);
    const sealed = await crypto.subtle.encrypt({ name: "AES-GCM", iv, additionalData }, key, bytes(text));
    this.session.send({ say: { room, epoch, counter, ciphertext: Buffer.concat([iv, new Uint8Array(sealed)]) } });
  }
}

const aad = (room, epoch, sender, counter) => Buffer.concat([numbers(room, epoch, counter), sender.toUint8Array()]);

/** What was said, by whoever the canister names. */
async function open(key, said, sender = said.sender) {
  const sealed = new Uint8Array(said.ciphertext);
  const algorithm = { name: "AES-GCM", iv: sealed.slice(0, 12), additionalData: aad(said.room, said.epoch, sender, said.counter) };
  return new TextDecoder().decode(await crypto.subtle.decrypt(algorithm, key, sealed.slice(12)));
}

for (const [kind, canister] of Object.entries(stack.canisters)) {
  test(`members of a room read each other, others do not (${kind})`, async () => {
    const [ada, bob] = [new Person(canister), new Person(canister)];
    await Promise.all([ada.session.opened(), bob.session.opened()]);
    ada.session.send({ open: null });
    const { room, epoch } = await ada.told("room");
    assert.equal(epoch, 1n);
    ada.session.send({ add: { room, who: bob.principal } });
    assert.deepEqual((await ada.told("room")).members.map(String), [ada.principal, bob.principal].map(String));
    assert.equal((await bob.told("room")).room, room);

    const [adas, bobs] = [await ada.key(room, 1n), await bob.key(room, 1n)];
    await ada.say(adas, room, 1n, 1n, "the gateway cannot read this");
    const said = await bob.told("said");
    assert.equal(said.sender.toText(), ada.principal.toText());
    assert.equal(await open(bobs, said), "the gateway cannot read this");
    await ada.told("said"); // her own
    await assert.rejects(open(bobs, said, bob.principal), "said by somebody else");
    const flipped = { ...said, ciphertext: Uint8Array.from(said.ciphertext, (b, i) => (i === 20 ? b ^ 1 : b)) };
    await assert.rejects(open(bobs, flipped), "a flipped bit");

    ada.session.send({ remove: { room, who: bob.principal } });
    assert.equal((await ada.told("room")).epoch, 2n);
    await bob.told("left");
    for (const epoch of [1n, 2n]) {
      bob.session.send({ get_key: { room, epoch, transport_key: TransportSecretKey.random().publicKeyBytes() } });
      assert.equal((await bob.told("refused")).reason, "no such room, or you are not in it");
    }
    const second = await ada.key(room, 2n);
    await ada.say(second, room, 2n, 2n, "nor can Bob read this");
    const later = await ada.told("said");
    assert.equal(await open(second, later), "nor can Bob read this");
    await assert.rejects(open(bobs, later), "with the key of the epoch before");
  });

  test(`the identity is no transport key (${kind})`, async () => {
    const eve = new Person(canister);
    await eve.session.opened();
    eve.session.send({ open: null });
    const { room } = await eve.told("room");
    const transport_key = new Uint8Array(48);
    transport_key[0] = 0xc0;
    eve.session.send({ get_key: { room, epoch: 1n, transport_key } });
    assert.equal((await eve.told("refused")).reason, "that is not a transport key");
  });
}
