// The lines of README for who stays on the SDK beside @icp-sdk/core, as they stand there: one session, with a login as
// @icp-sdk/auth hands it out. beside_test.go runs it.
//
// Usage: node beside.mjs <core-5.4.0 or another core of matrix>, with the addresses in ICWS_E2E. Prints how the session ended.

import { readFile } from "node:fs/promises";
import { createRequire, register } from "node:module";
import { WebSocket } from "ws";
import { idlFactory } from "../first/canister.mjs";
import { waitForRootKey } from "./rootkey.mjs";

// A browser has these, see first.mjs of examples/first.
globalThis.WebSocket = WebSocket;
globalThis.ErrorEvent ??= class ErrorEvent extends Event {
  constructor(type, init = {}) {
    super(type);
    this.error = init.error;
  }
};

const { gateway, network: networkUrl, control, canister: canisterId } = JSON.parse(process.env.ICWS_E2E);

/** Logs in: the key that AuthClient makes, and a delegation of an Internet Identity for it. */
async function logIn() {
  const { DelegationChain, DelegationIdentity, ECDSAKeyIdentity } = createRequire(new URL("matrix/", import.meta.url))(`${process.argv[2]}/identity`);
  const key = await ECDSAKeyIdentity.generate();
  const sessionKey = Buffer.from(key.getPublicKey().toDer()).toString("hex");
  const answer = await fetch(`${control}/delegate`, { method: "POST", body: JSON.stringify({ sessionKey }) });
  return DelegationIdentity.fromDelegation(key, DelegationChain.fromJSON(await answer.text()));
}

/** Runs the lines. What they take for granted is given to them; packages are those that are installed here. */
async function run(given) {
  const readme = await readFile(new URL("../../README.md", import.meta.url), "utf8");
  const blocks = [...readme.matchAll(/^```js\n(.*?)^```$/gms)].filter(([, text]) => text.includes("login.getDelegation()"));
  if (blocks.length !== 1) throw new Error(`README.md has ${blocks.length} blocks of the SDK beside @icp-sdk/core`);
  const lines = blocks[0][1].replace('"wss://example.com/ws"', "gateway");
  globalThis.given = given;
  const source = `const { ${Object.keys(given)} } = globalThis.given;\n${lines}\nexport { identity, ws };`;
  const hook = `export const resolve = (name, context, next) =>
    name === "readme:beside" ? { url: name, shortCircuit: true }
      : next(name, context.parentURL === "readme:beside" ? { ...context, parentURL: ${JSON.stringify(import.meta.url)} } : context);
  export const load = (url, context, next) =>
    url === "readme:beside" ? { format: "module", source: ${JSON.stringify(source)}, shortCircuit: true } : next(url, context);`;
  register(`data:text/javascript,${encodeURIComponent(hook)}`);
  return import("readme:beside");
}

const login = await logIn();
const { ws, identity } = await run({ login, idlFactory, canisterId, networkUrl, gateway });
waitForRootKey(ws, identity);
const heard = [];
const errors = [];
ws.onmessage = ({ data }) => {
  heard.push(data.text);
  if (heard.length === 1) ws.send({ text: "hello" });
  else ws.close();
};
ws.onerror = ({ error }) => errors.push(String(error));
ws.onclose = ({ code, reason }) => {
  const same = ws.getPrincipal().toText() === login.getPrincipal().toText();
  process.stdout.write(`${JSON.stringify({ code, reason, heard, errors, same })}\n`, () => process.exit());
};
