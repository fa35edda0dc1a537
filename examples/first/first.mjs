// The smallest client in Node.js.
//
// Usage: node first.mjs <gateway, wss://...> <canister id> <network, https://icp-api.io>

import { WebSocket } from "ws";
import { converse } from "./converse.mjs";

// A browser has these. Node has them from version 22 on, some of them.
globalThis.WebSocket ??= WebSocket;
globalThis.ErrorEvent ??= class ErrorEvent extends Event {
  constructor(type, init = {}) {
    super(type);
    this.error = init.error;
    this.message = init.message ?? String(init.error ?? "");
  }
};

const [gateway, canister, network] = process.argv.slice(2);
if (!network) {
  console.error("usage: node first.mjs <gateway, wss://...> <canister id> <network, https://icp-api.io>");
  process.exit(2);
}
const answered = await converse({ gateway, canister, network }, console.log).catch((error) => console.error(String(error)));
process.exit(answered ? 0 : 1);
