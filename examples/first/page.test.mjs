// The page in a real browser. TestFirstClient of examples/quickstart builds it, and starts what it talks to.

import assert from "node:assert/strict";
import { test } from "node:test";
import { newTab } from "../chat/web/chromium.mjs";

const url = process.env.ICWS_PAGE;
assert.ok(url, "ICWS_PAGE is not set: run this through `go test -tags e2e ./examples/quickstart`");

/** Opens the page with a changed address, waits for a line of its log that begins with this, and returns all until then. */
async function visit(change, last) {
  const page = await newTab();
  const address = new URL(url);
  change(address.searchParams);
  await page.goto(address.href);
  const lines = page.getByRole("log").getByRole("listitem");
  await lines.filter({ hasText: new RegExp(`^${last}`) }).waitFor();
  const log = await lines.allTextContents();
  await page.close();
  return log;
}

test("the page shows what the canister answers", async () => {
  const log = await visit(() => {}, "closed: ");
  assert.match(log.shift(), /^opening wss:\/\/localhost:\d+\/ws for \S+ on https:\/\/localhost:\d+$/);
  assert.deepEqual(log.slice(0, 3), ["open", 'the canister says "ping"', 'the canister says "hello-pong"']);
  assert.match(log[3], /^closed: 1000/);
});

test("the page shows why the gateway refuses", async () => {
  const log = await visit((query) => query.set("canister", "aaaaa-aa"), "closed: ");
  assert.match(log.at(-1), /^closed: 1008 .*canister.* not allowed/);
});

test("the page shows that there is no gateway", async () => {
  const log = await visit((query) => query.set("gateway", process.env.ICWS_NOBODY), "closed: ");
  assert.match(log.at(-1), /^closed: 1006 is the address right, and its certificate trusted here\?/);
});

test("the page shows what is wrong with its address", async () => {
  await visit((query) => query.set("canister", "no canister"), "AgentError|.*Error");
  await visit((query) => query.delete("canister"), "which canister\\?");
});
