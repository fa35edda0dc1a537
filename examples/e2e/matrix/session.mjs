// One session of an SDK, with the agent that it is given. Prints as JSON what a person gets to see: how it ended, and the errors.
//
// Usage: node session.mjs <a pair of pairs.json> [late], with the addresses in ICWS_E2E. With "late" nothing waits for the root key.

import { Module, createRequire } from "node:module";
import { WebSocket } from "ws"; // of examples/e2e
import { idlFactory } from "../../first/canister.mjs";
import { waitForRootKey } from "../rootkey.mjs";

// A browser has these, see first.mjs of examples/first.
globalThis.WebSocket = WebSocket;
globalThis.ErrorEvent ??= class ErrorEvent extends Event {
  constructor(type, init = {}) {
    super(type);
    this.error = init.error;
    this.message = init.message ?? String(init.error ?? "");
  }
};

const { sdk, agent, core, takes = [] } = JSON.parse(process.argv[2]);
const { gateway, network, canister } = JSON.parse(process.env.ICWS_E2E);

// Each version is installed under a name of its own. Whoever asks for a package gets the version of this pair, as if it alone were
// installed; the packages are as published.
const require = createRequire(import.meta.url);
const resolve = Module._resolveFilename;
Module._resolveFilename = (name, ...rest) =>
  resolve(name.replace(/^@dfinity\/(agent|candid|identity-secp256k1|principal)$/, `$1-${agent}`), ...rest);

const errors = [];

/** Opens a session as README says. Resolves to how it ended: "works" if the canister's answer arrived. */
async function converse() {
  const { Actor, HttpAgent } = require(takes.includes("Actor") ? `core-${core}/agent` : "@dfinity/agent");
  const { default: Default, IcWebSocket = Default, createWsConfig, generateRandomIdentity } = require(`sdk-${sdk}`); // named since 0.5.0
  const identity = takes.includes("identity") ? require(`core-${core}/identity`).Ed25519KeyIdentity.generate() : generateRandomIdentity();
  const agentOptions = { host: network, identity };
  const canisterActor = Actor.createActor(idlFactory, {
    agent: HttpAgent.createSync ? HttpAgent.createSync(agentOptions) : new HttpAgent(agentOptions), // since 2.0
    canisterId: canister,
  });
  const ws = new IcWebSocket(gateway, undefined, createWsConfig({ canisterId: canister, canisterActor, identity, networkUrl: network }));
  if (process.argv[3] !== "late") waitForRootKey(ws, identity);
  const heard = [];
  ws.onmessage = ({ data }) => {
    heard.push(data.text);
    if (heard.length === 1) ws.send({ text: "hello" });
    else ws.close();
  };
  ws.onerror = ({ error }) => errors.push(String(error));
  return new Promise((ended) => {
    ws.onclose = ({ code, reason }) => ended(code === 1000 && heard.join() === "ping,hello-pong" ? "works" : `${code} ${reason}`);
  });
}

const end = await converse().catch((error) => String(error));
process.stdout.write(`${JSON.stringify({ end, errors })}\n`, () => process.exit());
