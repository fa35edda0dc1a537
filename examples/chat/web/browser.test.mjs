// People in a real browser. browser_test.go starts the chat and trusts its certificate authority in HOME.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fallAsleep, newTab, say, whenOpen } from "./chromium.mjs";

const url = process.env.ICWS_CHAT;
assert.ok(url, "ICWS_CHAT is not set: run this through `go test -tags e2e ./examples/chat`");

/** Opens the page and waits for the session. */
async function join_(name) {
  const page = await newTab();
  await page.goto(url);
  await whenOpen(page);
  await page.getByLabel("Name").fill(name);
  return page;
}

async function shot(page, name) {
  if (process.env.ICWS_SHOTS) await page.screenshot({ path: join(process.env.ICWS_SHOTS, `${name}.png`) });
}

test("two people chat", async () => {
  const ada = await join_("Ada");
  const grace = await join_("Grace");
  await ada.getByText("2 people are here").waitFor();

  await say(ada, "Hello, is anybody here?");
  await grace.locator("#log li", { hasText: "Hello, is anybody here?" }).waitFor();
  await say(grace, "I am. This came through a canister.");
  await ada.locator("#log li", { hasText: "This came through a canister." }).waitFor();
  for (let i = 1; i <= 5; i++) await say(ada, `Message ${i}`);
  await grace.locator("#log li", { hasText: "Message 5" }).waitFor();

  // Everybody sees everything, in one order, with their own lines marked.
  const lines = (page) => page.locator("#log .bubble").allTextContents();
  const expected = ["Hello, is anybody here?", "I am. This came through a canister.", ...[1, 2, 3, 4, 5].map((i) => `Message ${i}`)];
  await ada.locator("#log li", { hasText: "Message 5" }).waitFor();
  assert.deepEqual(await lines(ada), expected);
  assert.deepEqual(await lines(grace), expected);
  assert.equal(await ada.locator("#log li.mine").count(), 6);
  assert.equal(await grace.locator("#log li.mine").count(), 1);

  // What others write is text, whatever it looks like.
  await say(grace, "<img src=x onerror=alert(1)>");
  await ada.locator("#log .bubble", { hasText: "<img src=x" }).waitFor();
  assert.equal(await ada.locator("#log img").count(), 0);

  await ada.locator("summary").click();
  assert.match(await ada.locator("#latency").textContent(), /^\d+ ms from sending to verified$/);
  await shot(ada, "ada");
  await grace.emulateMedia({ colorScheme: "dark" });
  await grace.setViewportSize({ width: 390, height: 700 });
  await shot(grace, "grace");

  await grace.close();
  await ada.getByText("Only you are here").waitFor();
  assert.deepEqual(ada.problems, []);
  await ada.close();
});

test("the keyboard is enough, and every control has a name", async () => {
  const page = await join_("Ada");
  for (const control of await page.locator("input, button").all()) {
    const name = await control.evaluate((element) => element.labels?.[0]?.textContent ?? element.textContent);
    assert.notEqual(name.trim(), "", await control.evaluate((element) => element.outerHTML));
  }
  await page.getByLabel("Message").focus();
  await page.keyboard.type("typed");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.id), "send");
  await page.keyboard.press("Enter");
  await page.locator("#log li.mine", { hasText: "typed" }).waitFor();
  assert.equal(await page.locator('#log[role="log"][aria-live="polite"]').count(), 1);
  await page.close();
});

/** Opens the page with its sockets in the hands of the test: it can break the last one, and send the next ones nowhere. */
async function joinWithSockets() {
  const page = await newTab();
  await page.addInitScript(() => {
    const Native = WebSocket;
    window.attempts = 0;
    window.WebSocket = class extends Native {
      constructor(url, protocols) {
        super(window.nowhere ? "wss://localhost:1/" : url, protocols);
        window.attempts++;
        window.lastSocket = this;
      }
    };
  });
  await page.goto(url);
  await whenOpen(page);
  await page.getByLabel("Name").fill("Ada");
  return page;
}

const notes = (page) => page.locator("#log li.note").allTextContents();

test("a lost connection comes back by itself, and is one line, however many attempts it takes", async () => {
  const page = await joinWithSockets();
  await page.evaluate(() => {
    window.nowhere = true;
    window.lastSocket.close(3000, "the network is gone");
  });
  await page.waitForFunction(() => window.attempts === 4);
  const [line, ...more] = await notes(page);
  assert.match(line, /^Connection lost \(the network is gone\)\. (Next attempt in \d+ s\.|Trying\.)$/);
  assert.deepEqual(more, []);
  await shot(page, "reconnecting");
  await page.evaluate(() => (window.nowhere = false));
  await whenOpen(page);
  assert.match((await notes(page)).join("|"), /^Connection lost \(the network is gone\), back after \d+ s\.$/);
  await say(page, "back again");
  await page.locator("#log li.mine", { hasText: "back again" }).waitFor();
  await page.close();
});

test("a message that was under way when the connection broke is reported, and not repeated", async () => {
  const page = await joinWithSockets();
  let frames = 0;
  await page.evaluate(() => (window.lastSocket.send = () => window.lastSocket.close(3000, "cut"))); // the frame gets lost
  page.on("websocket", (socket) => socket.on("framesent", () => frames++));
  await say(page, "into the void");
  await page.locator("#log li.note", { hasText: "It is not known whether this arrived: into the void" }).waitFor();
  await whenOpen(page);
  await say(page, "and on");
  await page.locator("#log li.mine", { hasText: "and on" }).waitFor();
  assert.equal(frames, 2, "ws_open and one message");
  assert.equal(await page.locator("#log li.mine").count(), 1);
  await page.close();
});

test("a reload keeps the history, the newest 200 lines of it", async () => {
  const page = await join_("Ada");
  await say(page, "before the reload");
  await page.locator("#log li.mine", { hasText: "before the reload" }).waitFor();
  await page.reload();
  await whenOpen(page);
  const lines = () => page.locator("#log .bubble").allTextContents();
  assert.deepEqual(await lines(), ["before the reload"]);
  assert.equal(await page.locator("#log li.mine").count(), 1);
  assert.deepEqual(await notes(page), ["This page was loaded again. What was said in between is not here."]);
  assert.equal(await page.getByLabel("Name").inputValue(), "Ada");
  await shot(page, "reloaded");

  await page.evaluate(() => {
    const [message] = JSON.parse(sessionStorage.getItem("history"));
    sessionStorage.setItem("history", JSON.stringify(Array.from({ length: 200 }, (_, i) => ({ ...message, text: `line ${i}` }))));
  });
  await page.reload();
  await whenOpen(page);
  await say(page, "the newest");
  await page.locator("#log li.mine", { hasText: "the newest" }).waitFor();
  assert.equal(await page.locator("#log li").count(), 200);
  await page.reload();
  await whenOpen(page);
  assert.deepEqual((await lines()).slice(-2), ["line 199", "the newest"]);
  assert.equal(await page.evaluate(() => JSON.parse(sessionStorage.getItem("history")).length), 200);
  assert.deepEqual(page.problems, []);
  await page.close();
});

test("somebody logs in, and is the same person in every tab until the login ends", async () => {
  const page = await join_("Ada");
  const principal = (page) => page.locator("#principal").textContent();
  const nobody = await principal(page);
  await say(page, "as nobody in particular");
  await page.locator("#log li.mine", { hasText: "as nobody in particular" }).waitFor();
  const opening = page.waitForEvent("popup");
  await page.getByRole("button", { name: "Log in" }).click();
  const popup = await opening;
  await popup.getByLabel("Name").fill("Ada");
  const agree = popup.getByRole("button", { name: "Log in to localhost:" });
  await page.waitForFunction(() => document.readyState === "complete");
  await shot(popup, "identity");
  await agree.click();

  await page.getByRole("button", { name: "Log out" }).waitFor();
  await whenOpen(page);
  const ada = await principal(page);
  assert.notEqual(ada, nobody);
  await say(page, "as Ada");
  await page.locator("#log li.mine", { hasText: "as Ada" }).waitFor();
  assert.equal(await page.locator("#log li.mine").count(), 1, "what nobody in particular said is not hers");
  await shot(page, "logged-in");

  const other = await newTab();
  await other.goto(url);
  await whenOpen(other);
  assert.equal(await principal(other), ada);
  await page.locator("#log li.note", { hasText: "Disconnected: replaced by a newer connection of the same identity" }).waitFor();

  await other.getByRole("button", { name: "Log out" }).click();
  await other.getByRole("button", { name: "Log in" }).waitFor();
  await whenOpen(other);
  assert.notEqual(await principal(other), ada);
  assert.deepEqual([...page.problems, ...other.problems], []);
  await page.close();
  await other.close();
});

test("a phone that wakes up comes back by itself", async () => {
  const page = await join_("Ada");
  const wake = await fallAsleep();
  await sleep(45_000); // longer than ping_interval and pong_timeout
  wake();
  await page.locator("#log li.note", { hasText: "Connection lost (ping was not answered" }).waitFor();
  await whenOpen(page);
  await say(page, "good morning");
  await page.locator("#log li.mine", { hasText: "good morning" }).waitFor();
  await page.close();
});

test("one identity in two tabs: the older one is told so, the newer one stays", async () => {
  const older = await join_("Ada");
  const newer = await newTab({ identityOf: older });
  await newer.goto(url);
  await whenOpen(newer);
  await older.locator("#log li.note", { hasText: "Disconnected: replaced by a newer connection of the same identity" }).waitFor();
  assert.equal(await older.locator("#status").getAttribute("data-state"), "closed");

  await newer.getByLabel("Name").fill("Ada");
  for (const text of ["still", "here"]) {
    await say(newer, text);
    await newer.locator("#log li.mine", { hasText: text }).waitFor();
  }
  await newer.getByText("Only you are here").waitFor();
  // The older tab has not come back, and the newer one has never been away.
  assert.deepEqual(await older.locator("#log li.note").count(), 1);
  assert.deepEqual(await newer.locator("#log li.note").allTextContents(), []);
  await older.close();
  await newer.close();
});

test("a page that is reloaded while its session opens ends up with one session", async () => {
  const page = await newTab();
  // The page reloads itself after it has sent ws_open, each time a little later. Blocks take longer than a load, so several of
  // the calls are executed in one.
  const reloads = 8;
  await page.addInitScript((reloads) => {
    const { send } = WebSocket.prototype;
    WebSocket.prototype.send = function (frame) {
      WebSocket.prototype.send = send;
      send.call(this, frame);
      const done = Number(sessionStorage.getItem("reloads"));
      if (done === reloads) return;
      sessionStorage.setItem("reloads", done + 1);
      setTimeout(() => location.reload(), 15 * done);
    };
  }, reloads);
  let sockets = 0;
  const last = new Promise((resolve) => page.on("websocket", () => ++sockets === reloads + 1 && resolve()));
  await page.goto(url);
  await last;
  await whenOpen(page);

  await page.getByLabel("Name").fill("Ada");
  for (const text of ["which", "of them", "am I"]) {
    await say(page, text);
    await page.locator("#log li.mine", { hasText: text }).waitFor();
  }
  await page.getByText("Only you are here").waitFor(); // the canister says how many it lists
  assert.equal(sockets, reloads + 1, "each load has opened one socket");
  assert.deepEqual(await page.locator("#log li.note").allTextContents(), []);
  await page.close();
});

test("a page may offer subprotocols", async () => {
  const page = await newTab();
  await page.goto(url);
  const chosen = await page.evaluate(
    () =>
      new Promise((resolve) => {
        const ws = new WebSocket(`wss://${location.host}/ws`, ["token", "another"]);
        ws.onopen = () => resolve(ws.protocol);
        ws.onclose = (event) => resolve(`closed with ${event.code}`);
      }),
  );
  assert.equal(chosen, "token");
  await page.close();
});
