// People in a real browser. browser_test.go starts the chat and trusts its certificate authority in HOME.

import assert from "node:assert/strict";
import { readdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { newTab, profile, say, whenOpen } from "./chromium.mjs";

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

test("a lost connection comes back by itself", async () => {
  const page = await newTab();
  // The page's own socket, kept where the test can break it as a network would.
  await page.addInitScript(() => {
    const Native = WebSocket;
    window.WebSocket = class extends Native {
      constructor(...args) {
        super(...args);
        window.lastSocket = this;
      }
    };
  });
  await page.goto(url);
  await whenOpen(page);
  await page.evaluate(() => window.lastSocket.close(3000, "the network is gone"));
  await page.locator("#log li.note", { hasText: "Connection lost" }).waitFor();
  await whenOpen(page);
  await page.getByLabel("Name").fill("Ada");
  await say(page, "back again");
  await page.locator("#log li.mine", { hasText: "back again" }).waitFor();
  await page.close();
});

/** The processes of the browser under test: the one that holds its profile, and all below it. */
async function processes() {
  const tree = [Number((await readlink(join(profile, "SingletonLock"))).split("-").at(-1))];
  const parents = new Map();
  for (const pid of await readdir("/proc")) {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
    if (Number(pid)) parents.set(Number(pid), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
  }
  for (const above of tree) for (const [pid, parent] of parents) if (parent === above) tree.push(pid);
  return tree;
}

function signal(pid, name) {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (error.code !== "ESRCH") throw error; // it has ended since
  }
}

test("a phone that wakes up comes back by itself", async () => {
  const page = await join_("Ada");
  const all = await processes();
  assert.ok(all.length > 2, `the browser has ${all.length} processes`);
  for (const pid of all) signal(pid, "SIGSTOP");
  await sleep(45_000); // longer than ping_interval and pong_timeout
  for (const pid of all) signal(pid, "SIGCONT");
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
