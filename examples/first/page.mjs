// The smallest client in a page. In a dapp the three addresses are constants.

import { converse } from "./converse.mjs";

const query = new URLSearchParams(location.search);
const gateway = query.get("gateway") ?? `wss://${location.host}/ws`;
const network = query.get("network") ?? location.origin;
const canister = query.get("canister");

function say(line) {
  const item = document.createElement("li");
  item.textContent = line;
  document.getElementById("log").append(item);
}

if (canister) {
  say(`opening ${gateway} for ${canister} on ${network}`);
  converse({ gateway, canister, network }, say).catch((error) => say(String(error)));
} else {
  say("which canister? Add ?canister=<id> to the address of this page");
}
