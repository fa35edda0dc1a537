// One session with the SDK as published, in a page or in Node.js.

import { Actor, HttpAgent } from "@dfinity/agent";
import { IcWebSocket, createWsConfig, generateRandomIdentity } from "ic-websocket-js";
import { idlFactory } from "./canister.mjs";

/**
 * Opens a session, answers the canister's first message, and closes after the second.
 *
 * @param {string} gateway wss://example.com/ws
 * @param {string} canister its id
 * @param {string} network https://icp-api.io for mainnet
 * @param {(line: string) => void} say is told what happens
 * @returns {Promise<boolean>} whether the canister answered, once the session has ended
 */
export async function converse({ gateway, canister, network }, say) {
  const identity = generateRandomIdentity(); // of the person who is logged in, in an application
  const agent = HttpAgent.createSync({ host: network, identity });
  // A local network has a key of its own. The SDK asks for it and does not wait for the answer, which is fast after this.
  if (["localhost", "127.0.0.1"].includes(new URL(network).hostname)) await agent.fetchRootKey();
  const canisterActor = Actor.createActor(idlFactory, { agent, canisterId: canister });
  const ws = new IcWebSocket(gateway, undefined, createWsConfig({ canisterId: canister, canisterActor, identity, networkUrl: network }));
  let messages = 0;
  ws.onopen = () => say("open");
  ws.onmessage = ({ data }) => {
    say(`the canister says ${JSON.stringify(data.text)}`); // quoted: it may hold anything
    if (++messages === 1) ws.send({ text: "hello" });
    else ws.close();
  };
  ws.onerror = ({ error }) => say(String(error));
  return new Promise((ended) => {
    ws.onclose = ({ code, reason }) => {
      say(`closed: ${code} ${reason ? JSON.stringify(reason) : code === 1006 ? "is the address right, and its certificate trusted here?" : ""}`);
      ended(messages > 1);
    };
  });
}
