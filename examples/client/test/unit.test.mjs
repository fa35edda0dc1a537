// The rules that need no gateway.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Acks } from "../dist/acks.js";
import { checkComplete, decode } from "../dist/cbor.js";
import { onWake, pause } from "../dist/pauses.js";
import { closeReason } from "../dist/reasons.js";
import { isLocal, mainnetRootKey } from "../dist/rootkey.js";

const read = (path) => readFileSync(new URL(path, import.meta.url), "utf8");

test("after which codes a client comes back is what the README says", () => {
  const rows = [...read("../../../README.md").matchAll(/^\| ([0-9, ]+) \| [^|]+ \| ([^|]+) \|$/gm)];
  const said = {};
  for (const [, codes, what] of rows) for (const code of codes.split(", ")) said[code] = what;
  assert.equal(Object.keys(said).length, 12, "the README's table has 12 codes");
  for (const [code, what] of Object.entries(said)) {
    const { retry, name } = closeReason(Number(code), "text");
    const expected = what.startsWith("stay closed") ? "never" : what.includes("pause of 5 seconds") ? "later" : "soon";
    assert.equal(retry, expected, `${code} ${name}: ${what}`);
  }
});

test("pauses grow from half a second to half a minute, and are partly random", () => {
  const shortest = () => 0;
  const longest = () => 1;
  assert.deepEqual([0, 1, 2, 5, 6, 50].map((n) => pause("soon", n, shortest)), [500, 1000, 2000, 16_000, 20_000, 20_000]);
  assert.deepEqual([0, 1, 2, 5, 6, 50].map((n) => pause("soon", n, longest)), [750, 1500, 3000, 24_000, 30_000, 30_000]);
  assert.deepEqual([0, 1, 9].map((n) => pause("later", n, shortest)), [5000, 10_000, 20_000]);
});

test("a pause ends when the device is online again or the page comes into sight, until it is over", (t) => {
  const page = new EventTarget();
  globalThis.document = Object.assign(new EventTarget(), { visibilityState: "hidden" });
  globalThis.addEventListener = page.addEventListener.bind(page);
  globalThis.removeEventListener = page.removeEventListener.bind(page);
  t.after(() => ["document", "addEventListener", "removeEventListener"].forEach((name) => delete globalThis[name]));
  let woken = 0;
  const stop = onWake(() => woken++);
  const seen = () => document.dispatchEvent(new Event("visibilitychange"));
  seen();
  assert.equal(woken, 0, "a page that goes out of sight wakes nobody");
  document.visibilityState = "visible";
  seen();
  page.dispatchEvent(new Event("online"));
  assert.equal(woken, 2);
  stop();
  seen();
  page.dispatchEvent(new Event("online"));
  assert.equal(woken, 2);
});

test("acknowledgements settle what they cover, in order, and no more", async () => {
  const acks = new Acks(60_000, () => assert.fail("late"));
  const settled = [];
  for (const n of [1, 2, 3]) acks.sent({ resolve: () => settled.push(n), reject: (fate) => settled.push(`${n} ${fate}`) });
  acks.received(0n);
  assert.deepEqual(settled, []);
  acks.received(2n);
  assert.deepEqual(settled, [1, 2]);
  acks.received(1n); // repeats nothing
  assert.throws(() => acks.received(4n), /message 4, and 3 were sent/);
  acks.end();
  assert.deepEqual(settled, [1, 2, "3 unknown"]);
});

test("the timer of acknowledgements starts with the session, and anew with each acknowledgement alone", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let late = 0;
  const acks = new Acks(330_000, () => late++);
  t.mock.timers.tick(1_000_000);
  assert.equal(late, 0, "not before there is a session");
  acks.expect();
  acks.sent();
  t.mock.timers.tick(329_999);
  acks.sent(); // does not start it anew
  t.mock.timers.tick(1);
  assert.equal(late, 1);
  acks.received(2n);
  t.mock.timers.tick(329_999);
  assert.equal(late, 1);
  t.mock.timers.tick(1);
  assert.equal(late, 2, "also when nothing is outstanding");
  acks.end();
});

test("a value that is cut off is not read, wherever that is", () => {
  const hex = (text) => Uint8Array.from(Buffer.from(text, "hex"));
  const good = hex("a26161420102616286" + "1903e8" + "1a000186a0" + "1b0000000100000000" + "6163" + "d81840" + "5f4100ff");
  checkComplete(good);
  for (const text of ["", "00", "40", "80", "a0", "f6", "5f4100ff", "9fff"]) checkComplete(hex(text));
  for (const text of ["41", "5801", "590001", "5a00000001", "5a7fffffff00", "5bffffffffffffffff00", "61", "19ff", "1b00", "5f41"]) {
    assert.throws(() => checkComplete(hex(text)), /cut off/, text);
  }
  assert.throws(() => decode(hex("a1616142ff")), /cut off/);
  assert.deepEqual(decode(hex("a1616141ff")), { a: Uint8Array.of(0xff) });
});

test("mainnet's key is built in, and only networks on this machine are asked for theirs", () => {
  assert.equal(createHash("sha256").update(mainnetRootKey()).digest("hex"), "737ba355e855bd4b61279056603e05501db5e5bad147c6eba7be8c2a13f4b6b3");
  for (const url of ["http://localhost:8000", "http://127.0.0.1:4943", "https://app.localhost:8443", "http://[::1]:80"]) assert.ok(isLocal(url), url);
  for (const url of ["https://icp-api.io", "https://icp-api.io/", "https://localhost.example", "https://127.0.0.1.example", "https://10.0.0.1"]) {
    assert.ok(!isLocal(url), url);
  }
});

for (const peer of ["tsconfig", "core5"]) {
  test(`a front end that was written for ic-websocket-js compiles strictly, types of ${peer}`, () => {
    execFileSync("node", ["node_modules/typescript/bin/tsc", "-p", `test/types/${peer}.json`], { encoding: "utf8", stdio: "pipe" });
  });
}
