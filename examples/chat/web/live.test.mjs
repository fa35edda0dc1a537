// The live page of the admin endpoint. live_test.go starts Caddy, and does what it is asked to at ICWS_CONTROL.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { newTab } from "./chromium.mjs";

const { ICWS_ADMIN: admin, ICWS_CONTROL: control, ICWS_CANISTER: canister, ICWS_SHOTS: shots } = process.env;
assert.ok(admin && control, "ICWS_ADMIN and ICWS_CONTROL are not set: run this through `go test -tags e2e ./examples/chat`");

const hostile = '<img src=x onerror="hacked=1">';

async function act(what) {
  const answer = await fetch(`${control}/${what}`, { method: "POST" });
  assert.ok(answer.ok, await answer.text());
}

let page, answer;
const asked = new Set(); // origins that the page has asked
async function openPage() {
  page = await newTab();
  page.on("request", (request) => asked.add(new URL(request.url()).origin));
  // The pauses that the page makes between two polls.
  await page.addInitScript(() => {
    const native = window.setTimeout;
    window.pauses = [];
    window.setTimeout = (f, ms, ...rest) => {
      window.pauses.push(ms);
      return native(f, ms, ...rest);
    };
  });
  answer = await page.goto(`${admin}/icws/`);
}

const tile = (name) => page.locator(".tiles > div", { hasText: name }).locator("dd.now");
const row = (table, text) => page.locator(`table.${table} tbody tr`, { hasText: text });

test("sessions come and go", async () => {
  await openPage();
  assert.equal(answer.status(), 200);
  await page.locator("#state", { hasText: /^ready$/ }).waitFor();
  await page.getByText("No session has ended yet.").waitFor();
  assert.equal(await tile("Sessions").textContent(), "0");

  await act("open");
  await page.waitForFunction(() => document.title.startsWith("1 session "));
  assert.equal(await tile("Sessions").textContent(), "1");
  await row("canisters", canister).locator("td", { hasText: /^ok$/ }).waitFor();
  await page.locator("summary").focus();
  await page.keyboard.press("Enter");
  await row("sessions", "open").locator("td", { hasText: canister }).waitFor();

  await Promise.all([
    page.waitForFunction(() => [...document.querySelectorAll(".tiles > div")].filter((e) => e.textContent.startsWith("Messages") && parseFloat(e.querySelector(".now").textContent) > 0).length === 2),
    act("chat"),
  ]);
  assert.ok((await page.locator("polyline").first().getAttribute("points")).split(" ").length > 1, "nothing is drawn");

  await act("close");
  const closed = row("closes", "client_closed");
  await closed.locator("td", { hasText: /^1000$/ }).waitFor();
  assert.equal(await closed.locator("td", { hasText: canister }).count(), 1);
  await page.waitForFunction(() => document.title.startsWith("0 sessions "));
  await page.getByText("There is no session.").waitFor();
  assert.match(await page.locator(".reasons").textContent(), /^Since the gateway began: 1 client_closed\.$/);
});

test("what canisters and clients say is text, and the page runs nothing but its own script", async () => {
  await act("open");
  await act("trap");
  await row("closes", `canister trapped: ${hostile}`).waitFor();
  await act("leave");
  await row("closes", "client_closed").locator("td", { hasText: /^<img src=x onerror="hacked=1">$/ }).waitFor();
  assert.equal(await page.locator("img").count(), 0);
  assert.deepEqual(page.problems, []);
  assert.deepEqual([...asked], [admin]);

  const policy = answer.headers()["content-security-policy"];
  assert.ok(policy.startsWith("default-src 'none'; ") && !policy.includes("unsafe"), policy);
  // The image is refused first, by img-src. Only then would its handler run.
  await page.evaluate((html) => {
    window.violated = [];
    document.addEventListener("securitypolicyviolation", (event) => window.violated.push(event.violatedDirective));
    document.createElement("div").innerHTML = html;
  }, hostile);
  await page.waitForFunction(() => window.violated.some((directive) => directive.startsWith("script-src")));
  assert.equal(await page.evaluate("typeof hacked"), "undefined");
});

test("it fits, it can be read, and it does not grow", async () => {
  await act("open");
  await act("chat");
  await page.waitForFunction(() => document.title.startsWith("1 session "));
  for (const [name, colorScheme, width] of [["light", "light", 1200], ["dark", "dark", 1200], ["narrow", "light", 400], ["narrow-dark", "dark", 400]]) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height: 900 });
    assert.ok((await page.evaluate(() => document.scrollingElement.scrollWidth)) <= width, `wider than ${width}`);
    if (shots) await page.screenshot({ path: join(shots, `live-${name}.png`), fullPage: true });
  }
  for (const cell of await page.locator("td.num, th.num, dd.now").all()) {
    assert.equal(await cell.evaluate((e) => getComputedStyle(e).textAlign), "right");
  }
  for (const region of await page.locator(".scroll").all()) assert.notEqual(await region.getAttribute("aria-label"), null);
  assert.equal(await page.locator('#state[role="status"]').count(), 1);

  // As after days.
  const kept = await page.evaluate(async () => {
    for (let i = 0; i < 300; i++) {
      while (asking) await new Promise((resolve) => requestAnimationFrame(resolve));
      await poll();
    }
    return [...known.values()].flatMap((g) => g.tiles.map((t) => t.points.length));
  });
  assert.ok(kept.length === 6 && Math.max(...kept) === 200, `${kept}`);

  // Nobody looks.
  const pause = await page.evaluate(async () => {
    Object.defineProperty(document, "hidden", { value: true, configurable: true });
    while (asking) await new Promise((resolve) => requestAnimationFrame(resolve));
    await poll();
    const last = window.pauses.at(-1);
    delete document.hidden;
    document.dispatchEvent(new Event("visibilitychange"));
    return { last, asking };
  });
  assert.deepEqual(pause, { last: 60_000, asking: true });
});

test("it says when Caddy is gone, and comes back with it", async () => {
  await act("stop");
  await page.locator("#state", { hasText: "Caddy has not answered since" }).waitFor();
  assert.equal(await page.locator("main.away").count(), 1);
  await act("start");
  await page.locator("#state", { hasText: /^ready$/ }).waitFor();
  await page.locator("#outage", { hasText: "Caddy did not answer from" }).waitFor();
  assert.equal(await page.locator("main.away").count(), 0);
  // It has begun anew, and so has what is kept of it.
  await page.getByText("No session has ended yet.").waitFor();
  const kept = await page.evaluate(() => [...known.values()].map((g) => g.tiles[0].points.length));
  assert.ok(kept.length === 1 && kept[0] < 100, `${kept}`);
});
