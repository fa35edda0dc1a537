// The package as somebody gets it: packed, installed into a fresh project, compiled strictly, built with Vite, and used by React.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const here = fileURLToPath(new URL(".", import.meta.url));
const work = mkdtempSync(join(tmpdir(), "icws-pack-"));
after(() => rmSync(work, { recursive: true, force: true }));

// What the runner of this test tells its processes is not for those in the projects.
const { NODE_TEST_CONTEXT, NODE_OPTIONS, ...env } = process.env;

/** Runs a command and returns what it printed. Its errors are part of the failure. */
function run(cwd, command, ...args) {
  try {
    return execFileSync(command, args, { cwd, env, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  } catch (error) {
    throw new Error(`${command} ${args.join(" ")}: ${error.stdout}\n${error.stderr}`);
  }
}

const [{ filename, files }] = JSON.parse(run(join(here, ".."), "npm", "pack", "--json", "--loglevel=error", "--pack-destination", work));

test("it has a license, a README, both entry points with types and their sources, and nothing of the tests", () => {
  const paths = files.map(({ path }) => path);
  for (const path of ["LICENSE", "README.md", "package.json", ...["index", "react"].flatMap((f) => [`dist/${f}.js`, `dist/${f}.d.ts`, `src/${f}.ts`])]) {
    assert.ok(paths.includes(path), `${path} of ${paths}`);
  }
  assert.deepEqual(paths.filter((path) => !/^(LICENSE|README\.md|package\.json|(dist|src)\/[^/]+)$/.test(path)), []);
});

// The oldest and the newest of what it goes with, and two generations of Vite.
for (const variant of ["react18", "react19"]) {
  const project = join(work, variant);
  const pkg = join(project, "node_modules", "@icws-gateway", "client");

  test(`${variant}: a fresh project installs it`, () => {
    cpSync(join(here, "fresh"), project, { recursive: true, filter: (path) => !/\/react1[89]$|node_modules/.test(path.slice(here.length)) });
    cpSync(join(here, "fresh", variant), project, { recursive: true, filter: (path) => !path.includes("/node_modules") });
    for (const file of ["canister.mjs", "service.mjs"]) cpSync(join(here, file), join(project, file));
    run(project, "npm", "ci", "--ignore-scripts", "--no-fund", "--no-audit", "--prefer-offline");
    // Without --ignore-scripts and --force: nobody is told to use them.
    run(project, "npm", "install", "--no-fund", "--no-audit", "--prefer-offline", join(work, filename));
    const { scripts = {}, dependencies, peerDependenciesMeta } = JSON.parse(readFileSync(join(pkg, "package.json"), "utf8"));
    assert.deepEqual(Object.keys(scripts).filter((name) => /install|^prepare$/.test(name)), [], "installing it runs no script");
    assert.deepEqual([dependencies, peerDependenciesMeta], [undefined, { react: { optional: true } }]);
    assert.equal(readFileSync(join(pkg, "LICENSE"), "utf8"), readFileSync(join(here, "../../../LICENSE"), "utf8"));
  });

  test(`${variant}: a page that uses it compiles strictly`, () => {
    run(project, "node", "node_modules/typescript/bin/tsc", "-p", ".");
  });

  test(`${variant}: Vite builds a page with it`, () => {
    run(project, "node", "node_modules/vite/bin/vite.js", "build");
    const [script] = readdirSync(join(project, "dist/assets"));
    assert.match(readFileSync(join(project, "dist/assets", script), "utf8"), /Handshake message error/, "the client is in it");
  });

  test(`${variant}: it adds at most 15 kB to a page, compressed and without its peers, and asks for no others`, () => {
    run(project, "node", "node_modules/vite/bin/vite.js", "build", "--mode", "client");
    const assets = join(project, "dist-client/assets");
    const scripts = readdirSync(assets).map((name) => readFileSync(join(assets, name), "utf8"));
    const size = scripts.reduce((sum, script) => sum + gzipSync(script, { level: 9 }).length, 0);
    console.log(`${variant}: ${size} bytes`);
    assert.ok(size > 3_000 && size <= 15_000, `${size} bytes`);
    const peers = scripts.flatMap((script) => [...script.matchAll(/\b(?:from|import)\s*["`']([^"`']+)["`']/g)].map(([, name]) => name));
    assert.deepEqual(peers.filter((name) => !/^(@icp-sdk\/core\/|react$|\.\/)/.test(name)), []);
    assert.ok(peers.includes("react") && peers.includes("@icp-sdk/core/agent"), peers.join());
  });

  test(`${variant}: the hook`, () => {
    const said = run(project, "node", "--test", "--test-reporter=tap", "hook.test.mjs");
    assert.match(said, /^# pass [1-9]/m);
  });
}
