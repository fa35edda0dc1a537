// The browser of the tests, with a profile of its own, and what they do with the page.

import { mkdtemp, readdir, readFile, readlink, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { chromium } from "playwright-core";

/** Set before the first test runs. */
let profile, browser;

before(async () => {
  profile = await mkdtemp(join(tmpdir(), "icws-chromium-"));
  browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    viewport: { width: 900, height: 640 },
    // No sandbox inside containers; no talking to anybody but the page under test.
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  browser.setDefaultTimeout(60_000);
});
after(async () => {
  await browser?.close();
  await rm(profile, { recursive: true, force: true });
});

/**
 * A tab with nothing in it yet. What goes wrong in its pages is listed in its `problems`. With identityOf it has the identity of
 * another tab, as a duplicated tab has.
 */
export async function newTab({ identityOf } = {}) {
  const page = await browser.newPage();
  page.problems = [];
  page.on("pageerror", (error) => page.problems.push(String(error)));
  page.on("console", (line) => line.type() === "error" && page.problems.push(line.text()));
  if (identityOf) {
    const identity = await identityOf.evaluate(() => sessionStorage.getItem("identity"));
    await page.addInitScript((identity) => sessionStorage.setItem("identity", identity), identity);
  }
  return page;
}

/** Waits until the page has an open session. */
export function whenOpen(page) {
  return page.locator('#status[data-state="open"]').waitFor();
}

export async function say(page, text) {
  await page.getByLabel("Message").fill(text);
  await page.getByLabel("Message").press("Enter");
}

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

/** Stops every process of the browser, as those of a phone that falls asleep. Returns what wakes them up. */
export async function fallAsleep() {
  const all = await processes();
  if (all.length < 3) throw new Error(`the browser has ${all.length} processes`);
  for (const pid of all) signal(pid, "SIGSTOP");
  return () => all.forEach((pid) => signal(pid, "SIGCONT"));
}
