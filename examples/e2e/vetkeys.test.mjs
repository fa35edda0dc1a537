// @dfinity/vetkeys as published opens what the local network encrypts, and refuses what it must not open. vetkeys_test.go
// starts the network and a canister that hands calls on to the management canister.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Actor, HttpAgent } from "@dfinity/agent";
import { Ed25519KeyIdentity } from "@dfinity/identity";
import { Principal } from "@dfinity/principal";
import { EncryptedVetKey, MasterPublicKey, TransportSecretKey } from "@dfinity/vetkeys";

assert.ok(process.env.ICWS_E2E, "ICWS_E2E is not set: run this through `go test -tags e2e ./examples/e2e`");
const stack = JSON.parse(process.env.ICWS_E2E);
const text = (s) => new TextEncoder().encode(s);
const key_id = { curve: { bls12_381_g2: null }, name: "test_key_1" };
const context = text("rooms");
const input = text("room 1");

const agent = await HttpAgent.create({ host: stack.network, identity: Ed25519KeyIdentity.generate(), shouldFetchRootKey: true });
const canister = Actor.createActor(
  ({ IDL }) => {
    const blob = IDL.Vec(IDL.Nat8);
    const key_id = IDL.Record({ curve: IDL.Variant({ bls12_381_g2: IDL.Null }), name: IDL.Text });
    return IDL.Service({
      vetkd_public_key: IDL.Func(
        [IDL.Record({ canister_id: IDL.Opt(IDL.Principal), context: blob, key_id })],
        [IDL.Record({ public_key: blob })],
        [],
      ),
      vetkd_derive_key: IDL.Func(
        [IDL.Record({ input: blob, context: blob, transport_public_key: blob, key_id })],
        [IDL.Record({ encrypted_key: blob })],
        [],
      ),
    });
  },
  { agent, canisterId: stack.canister },
);

const master = MasterPublicKey.deserialize(Buffer.from(stack.masterKey, "hex"));
const derived = (context) => {
  const key = master.deriveCanisterKey(Principal.fromText(stack.canister).toUint8Array());
  return context.length > 0 ? key.deriveSubKey(context) : key;
};

/** Asks the canister for a key that only transport can open. */
async function ask(transport, context, input) {
  const arg = { input, context, transport_public_key: transport.publicKeyBytes(), key_id };
  return new Uint8Array((await canister.vetkd_derive_key(arg)).encrypted_key);
}

test("the public key is the one that clients derive from the master key", async () => {
  for (const context of [text("rooms"), new Uint8Array()]) {
    const { public_key } = await canister.vetkd_public_key({ canister_id: [], context, key_id });
    assert.deepEqual(new Uint8Array(public_key), derived(context).publicKeyBytes());
  }
});

test("two people who ask for the same key get the same key", async () => {
  const keys = [];
  for (const transport of [TransportSecretKey.random(), TransportSecretKey.random()]) {
    const encrypted = EncryptedVetKey.deserialize(await ask(transport, context, input));
    keys.push(encrypted.decryptAndVerify(transport, derived(context), input));
  }
  assert.deepEqual(keys[0].signatureBytes(), keys[1].signatureBytes());
  assert.deepEqual(keys[0].deriveSymmetricKey("chat", 32), keys[1].deriveSymmetricKey("chat", 32));
});

test("without a context it is a key of the canister as a whole", async () => {
  const transport = TransportSecretKey.random();
  const encrypted = EncryptedVetKey.deserialize(await ask(transport, new Uint8Array(), input));
  encrypted.decryptAndVerify(transport, derived(new Uint8Array()), input);
  assert.throws(() => encrypted.decryptAndVerify(transport, derived(context), input));
});

test("nothing else opens it", async () => {
  const transport = TransportSecretKey.random();
  const bytes = await ask(transport, context, input);
  const open = (bytes, transport, key, input) => EncryptedVetKey.deserialize(bytes).decryptAndVerify(transport, key, input);
  open(bytes, transport, derived(context), input);
  assert.throws(() => open(bytes, TransportSecretKey.random(), derived(context), input), "another transport key");
  assert.throws(() => open(bytes, transport, derived(text("other")), input), "another context");
  assert.throws(() => open(bytes, transport, derived(context), text("room 2")), "another input");
  const id = Principal.fromText(stack.canister).toUint8Array();
  const forged = MasterPublicKey.productionKey().deriveCanisterKey(id).deriveSubKey(context);
  assert.throws(() => open(bytes, transport, forged, input), "another master key");
  for (const i of [20, 100, 170]) {
    const damaged = Uint8Array.from(bytes);
    damaged[i] ^= 1;
    assert.throws(() => open(damaged, transport, derived(context), input), `a flipped bit in byte ${i}`);
  }
});

test("a transport key that is none is refused in the words of the network", async () => {
  const transport_public_key = new Uint8Array(48).fill(1);
  await assert.rejects(canister.vetkd_derive_key({ input, context, transport_public_key, key_id }), /The provided transport public key is invalid\./);
});
