// What the tests of single rules begin with.

import assert from "node:assert/strict";
import { Canister } from "./canister.mjs";
import { Person } from "./person.mjs";

/** A person with an open session, and the gateway's end of it. */
export async function open(t, canister = new Canister(), config = {}) {
  t.mock.method(globalThis, "fetch", canister.fetch);
  const person = new Person(canister.person(config));
  leaving(t, person);
  await person.opened();
  return { person, canister, socket: canister.sockets.at(-1) };
}

/** Has a person leave when a test is over, before the next one begins: it may have timers of its own. */
export function leaving(t, person) {
  t.after(async () => {
    person.ws.close();
    await when(() => person.end);
  });
}

/** Waits until something holds that no event tells of. */
export async function when(check) {
  const limit = Date.now() + 45_000;
  while (!check()) {
    assert.ok(Date.now() < limit, `not within 45 s: ${check}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
