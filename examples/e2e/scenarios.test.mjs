// Runs the table of scenarios.mjs, in Node.js or in a page, on the version of @icp-sdk/core that ICWS_CORE names.

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

assert.ok(process.env.ICWS_E2E, "ICWS_E2E is not set: run this through `go test -tags e2e -run TestScenarios ./examples/e2e`");
const world = JSON.parse(process.env.ICWS_E2E);
const { ICWS_CORE: core, ICWS_PLACE: place } = process.env;
const chromium = place === "chromium" && (await import("../chat/web/chromium.mjs"));

/** Has something happen, as scenarios_test.go knows it. */
async function control(path, body) {
  const answer = await fetch(world.control + path, { method: "POST", body: body && JSON.stringify(body) });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : undefined;
}

/** The table as one script, with the client from its sources and packages that are installed beside it. */
async function bundle(options) {
  const client = fileURLToPath(new URL("../client/", import.meta.url));
  const { build } = createRequire(client)("esbuild");
  const { outputFiles } = await build({
    absWorkingDir: client,
    entryPoints: [fileURLToPath(new URL("scenarios.mjs", import.meta.url))],
    alias: { "@icws-gateway/client": "./src/index.ts", "@icp-sdk/core": core, ws: "ws" },
    bundle: true,
    write: false,
    target: "es2022",
    logLevel: "error",
    ...options,
  });
  return outputFiles[0].text;
}

async function inNode() {
  const dir = await mkdtemp(join(tmpdir(), "icws-scenarios-"));
  try {
    const file = join(dir, "scenarios.cjs");
    await writeFile(file, await bundle({ platform: "node", format: "cjs" }));
    const { names, run } = createRequire(file)(file);
    const ask = (path, body) => control(path === "/sleep" ? `${path}?pid=${process.pid}` : path, body);
    return { names, run: (name) => run(name, world, ask) };
  } finally {
    await rm(dir, { recursive: true });
  }
}

async function inChromium() {
  const script = await bundle({ platform: "browser", format: "iife", globalName: "scenarios" });
  const { names } = await inNode();
  const ask = async (path, body) => {
    const wake = path === "/sleep" ? await chromium.fallAsleep() : () => {};
    try {
      return await control(path, body);
    } finally {
      wake();
    }
  };
  const run = async (name) => {
    const page = await chromium.newTab();
    await page.goto(world.gateway.replace(/^wss(.*)ws$/, "https$1scenarios")); // an empty page
    await page.exposeFunction("control", ask);
    await page.addScriptTag({ content: script });
    await page.evaluate(([name, world]) => scenarios.run(name, world, control), [name, world]);
    await page.close();
  };
  return { names, run };
}

const { names, run } = await (chromium ? inChromium() : inNode());
for (const name of world.only ? [world.only] : names) test(name, () => run(name));
