// The page: a form, a log and a status line around one IcWebSocket, which comes back by itself.

import { Actor, HttpAgent } from "@icp-sdk/core/agent";
import { IcWebSocket, createWsConfig } from "@icws-gateway/client";
import { account } from "./account.js";
import { idlFactory } from "./idl.js";
import { keep, kept, note, show } from "./log.js";
import * as outage from "./outage.js";

const $ = (id) => document.getElementById(id);

function status(state, text) {
  $("status").dataset.state = state;
  $("status-text").textContent = text;
  $("send").disabled = state !== "open";
}

const { canister, identityProvider } = await (await fetch("config.json")).json();
const gateway = `wss://${location.host}/ws`;
const network = location.origin; // Caddy passes /api to the network on this very origin, so the page needs no second host
const person = await account(identityProvider);
const { identity } = person;
const me = identity.getPrincipal().toText();
$("gateway").textContent = gateway;
$("canister").textContent = canister;
$("principal").textContent = me;
$("name").value = sessionStorage.getItem("name") ?? `Guest ${me.slice(0, 5)}`;

const before = kept();
for (const message of before) show(message, me);
if (before.length > 0) note("This page was loaded again. What was said in between is not here.");

const canisterActor = Actor.createActor(idlFactory, { agent: HttpAgent.createSync({ host: network }), canisterId: canister });
const ws = new IcWebSocket(gateway, undefined, createWsConfig({ canisterId: canister, canisterActor, identity, networkUrl: network }));

/** What was sent and not yet seen back: the canister answers its author too, in order, and that is the proof. */
let sent = [];

ws.onopen = () => {
  status("open", "Connected");
  $("text").focus();
};
ws.onmessage = ({ data: { author, name, text, at, online } }) => {
  $("people").textContent = online === 1 ? "Only you are here" : `${online} people are here`;
  if (!text) return;
  const message = { author: author.toText(), name, text, at: Number(at / 1_000_000n) };
  const own = message.author === me && sent.shift();
  if (own) $("latency").textContent = `${Math.round(performance.now() - own.at)} ms from sending to verified`;
  show(message, me);
  keep(message);
};
ws.onerror = ({ message }) => console.warn("session:", message);
ws.onreconnecting = ({ closeReason, delay }) => {
  status("connecting", "Reconnecting");
  outage.retrying(closeReason, delay);
  reportLost();
};
ws.onreopened = () => outage.over("back");
ws.onclose = ({ closeReason }) => {
  status("closed", "Disconnected");
  outage.over("given up");
  reportLost();
  note(`Disconnected: ${outage.words(closeReason)}`);
  showAccount(); // the login may have expired
};

/** Says of each message that has not come back that nobody knows whether it arrived. Repeating it is up to the person. */
function reportLost() {
  for (const { text } of sent) note(`It is not known whether this arrived: ${text}`);
  sent = [];
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("name").value.trim();
  const text = $("text").value.trim();
  if (!name || !text) return;
  sessionStorage.setItem("name", name);
  ws.send({ author: identity.getPrincipal(), name, text, at: 0n, online: 0 });
  sent.push({ text, at: performance.now() });
  $("text").value = "";
  $("text").focus();
});

function showAccount() {
  $("account").hidden = !person.canLogIn;
  $("account").textContent = person.isLoggedIn() ? "Log out" : "Log in";
}
showAccount();
$("account").addEventListener("click", async () => {
  try {
    await (person.isLoggedIn() ? person.logOut() : person.logIn());
    location.reload(); // with the other identity
  } catch (error) {
    note(`Not logged in: ${error.message}`);
  }
});

// The canister learns now that this person has gone, and not at its next keep-alive check.
addEventListener("pagehide", () => ws.close());
addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
