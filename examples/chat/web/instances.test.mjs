// One person at two gateways. instances_test.go starts both, and a canister with a short ack interval.

import assert from "node:assert/strict";
import { test } from "node:test";
import { newTab, say, whenOpen } from "./chromium.mjs";

const { ICWS_FIRST: first, ICWS_SECOND: second } = process.env;
assert.ok(first && second, "ICWS_FIRST and ICWS_SECOND are not set: run this through `go test -tags e2e ./examples/chat`");

async function open(page, url, name) {
  await page.goto(url);
  await whenOpen(page);
  await page.getByLabel("Name").fill(name);
}

test("a tab learns from the canister's acks that its session was opened elsewhere, and comes back", async () => {
  // Somebody else at the first gateway, who chats: the acks for Grace, without one for Ada, are what the gateway goes by.
  const grace = await newTab();
  await open(grace, first, "Grace");
  const older = await newTab();
  await open(older, first, "Ada");
  assert.equal(await older.locator("#account").isVisible(), false, "a login is offered, and there is no Internet Identity");
  const newer = await newTab({ identityOf: older });
  let frames = 0; // of the newer tab: ws_open, and one keep-alive for each ack, as it says nothing
  newer.on("websocket", (socket) => socket.on("framesent", () => frames++));
  await open(newer, second, "Ada");

  let told = false;
  const lost = older.locator("#log li.note", { hasText: "Connection lost (the canister no longer knows this session" });
  const telling = lost.waitFor().then(() => (told = true));
  for (let i = 0; !told; i++) {
    const text = `anybody? ${i}`;
    await say(grace, text);
    await grace.locator("#log li.mine", { hasText: text }).waitFor();
    await Promise.race([telling, grace.waitForTimeout(500)]);
  }
  assert.ok(frames <= 2, `the canister has sent ${frames - 1} acks since`);

  await whenOpen(older);
  await say(older, "back again");
  await grace.locator("#log li", { hasText: "back again" }).waitFor();
  await older.locator("#log li.mine", { hasText: "back again" }).waitFor();
  await older.getByText("2 people are here").waitFor(); // Grace, and Ada once
  for (const page of [grace, older, newer]) await page.close();
});
