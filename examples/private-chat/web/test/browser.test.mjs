// People in a real browser. e2e_test.go starts all of it and trusts its certificate authority in HOME.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { newTab } from "../../../chat/web/chromium.mjs";

const url = process.env.ICWS_SITE;
assert.ok(url, "ICWS_SITE is not set: run this through `go test -tags e2e ./examples/private-chat`");

async function open(query = "", size = { width: 1280, height: 800 }) {
  const page = await newTab();
  await page.setViewportSize(size);
  await page.goto(`${url}/${query}`);
  return page;
}

const pane = (page, name) => page.getByRole("region", { name, exact: true });
const gateway = (page) => pane(page, "What the gateway sees");
const line = (where, text) => where.locator(".log li", { hasText: text });

async function say(where, text) {
  await where.getByLabel("Message").fill(text); // waits until it is enabled
  await where.getByLabel("Message").press("Enter");
}

async function find(page, word) {
  await page.getByLabel("Look for a word in all that passes").fill(word);
  return page.locator("#found");
}

async function shot(page, name) {
  if (process.env.ICWS_SHOTS) await page.screenshot({ path: join(process.env.ICWS_SHOTS, `${name}.png`), fullPage: true });
}

test("two people read each other, and the gateway reads neither", async () => {
  const page = await open();
  const [ada, bob] = [pane(page, "Ada"), pane(page, "Bob")];
  await bob.locator(".members li", { hasText: "you" }).waitFor();
  await say(ada, "Meet me at the old mill");
  await line(bob, "Meet me at the old mill").locator(".bubble").waitFor();
  await say(bob, "<b>At seven</b>");
  await line(ada, "<b>At seven</b>").locator(".bubble").waitFor();
  assert.equal(await ada.locator(".bubble b").count(), 0, "what is said is no markup");
  await line(ada, "Key of epoch 1: verified").waitFor();
  assert.match(await page.locator("#lock-text").textContent(), /is encrypted/);

  // Their messages went by, and are in none of what did.
  await gateway(page).locator("#frames li.client", { hasText: "ws_message signed by Bob" }).first().waitFor();
  for (const word of ["mill", "seven"]) assert.match(await (await find(page, word)).textContent(), /^in none of \d+ messages$/);
  // What is not protected is said, and is there: the search finds what there is to find.
  assert.match(await (await find(page, "ws_message")).textContent(), /^in [1-9]\d* of \d+ messages$/);
  await page.locator("#lock summary").click();
  await page.getByText("How long each message is, and when it is sent.").waitFor();
  await find(page, "mill");
  await shot(page, "light");
  await page.emulateMedia({ colorScheme: "dark" });
  await gateway(page).locator("#frames li.gateway summary").last().click();
  await gateway(page).locator("#frames pre").waitFor();
  await page.locator("#lock summary").click();
  await shot(page, "dark");
  await page.setViewportSize({ width: 400, height: 800 });
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 400, "nothing sticks out");
  await shot(page, "narrow");
  assert.deepEqual(page.problems, []);
  await page.close();
});

test("somebody who is removed reads nothing of the next epoch", async () => {
  const page = await open();
  const [ada, bob] = [pane(page, "Ada"), pane(page, "Bob")];
  await say(bob, "still here");
  await line(ada, "still here").waitFor();
  await ada.getByRole("button", { name: "Remove Bob" }).click();
  await line(bob, "You are no longer in the room").waitFor();
  assert.ok(await bob.getByLabel("Message").isDisabled());
  await say(ada, "Now we are among ourselves");
  await line(ada, "Now we are among ourselves").waitFor();
  await line(ada, "Key of epoch 2: verified").waitFor();
  assert.equal(await line(bob, "among ourselves").count(), 0);
  await line(bob, "still here").waitFor();
  assert.deepEqual(page.problems, []);
  await page.close();
});

test("two windows, each with one person", async () => {
  const [ada, bob] = await Promise.all([open("?person=Ada"), open("?person=Bob")]);
  const [adas, bobs] = [pane(ada, "Ada"), pane(bob, "Bob")];
  for (const it of [adas, bobs]) await it.locator(".more summary").click();
  await adas.getByRole("button", { name: "Open a room" }).click();
  await adas.getByLabel("Let somebody in, by principal").fill(await bobs.locator(".principal").textContent());
  await adas.getByRole("button", { name: "Add" }).click();
  await say(bobs, "from another window");
  await line(adas, "from another window").locator(".bubble").waitFor();
  await say(adas, "it arrived");
  await line(bobs, "it arrived").locator(".bubble").waitFor();
  for (const page of [ada, bob]) assert.match(await (await find(page, "another window")).textContent(), /^in none of/);
  await shot(bob, "window");
  for (const page of [ada, bob]) assert.deepEqual(page.problems, []);
  await ada.close();
  await bob.close();
});

test("what cannot be done is said", async () => {
  const page = await open("?person=Eve");
  const eve = pane(page, "Eve");
  await eve.locator(".more summary").click();
  await eve.getByRole("button", { name: "Open a room" }).click();
  const add = async (who) => {
    await eve.getByLabel("Let somebody in, by principal").fill(who);
    await eve.getByRole("button", { name: "Add" }).click();
  };
  await add("nobody");
  await line(eve, "Not done: ").waitFor();
  await add(await eve.locator(".principal").textContent());
  await line(eve, "The canister refuses: they are in the room already").waitFor();
  for (const control of await page.locator("input, button").all()) {
    const name = await control.evaluate((it) => it.labels?.[0]?.textContent ?? it.getAttribute("aria-label") ?? it.textContent);
    assert.notEqual(name.trim(), "", await control.evaluate((it) => it.outerHTML));
  }
  await page.close();
});

test("without encryption the gateway reads everything, and the page says so", async () => {
  const page = await open("?encryption=off");
  assert.match(await page.locator("#lock-text").textContent(), /Encryption is off/);
  const [ada, bob] = [pane(page, "Ada"), pane(page, "Bob")];
  await say(ada, "Meet me at the old mill");
  await line(bob, "Meet me at the old mill").locator(".bubble").waitFor();
  await gateway(page).locator(".payload", { hasText: "Meet me at the old mill" }).first().waitFor();
  assert.match(await (await find(page, "mill")).textContent(), /^in [1-9]\d* of \d+ messages$/);
  await shot(page, "off");
  await page.close();
});
