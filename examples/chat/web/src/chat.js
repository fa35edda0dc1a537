// The page: a form, a log and a status line around one Connection.

import { Secp256k1KeyIdentity } from "@dfinity/identity-secp256k1";
import { generateRandomIdentity } from "ic-websocket-js";
import { Connection } from "./connection.js";

const $ = (id) => document.getElementById(id);
const log = $("log");
const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

/** Whether the newest line is in view, as far as the reader chose. */
let atEnd = true;
log.addEventListener("scroll", () => {
  atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
});
const toEnd = () => atEnd && log.scrollTo({ top: log.scrollHeight });
new ResizeObserver(toEnd).observe(log);

/** Adds a line to the log and keeps the newest in view unless the reader has scrolled up. */
function append(item) {
  log.append(item);
  toEnd();
}

function showMessage({ name, text, at }, mine) {
  const item = document.createElement("li");
  item.className = mine ? "mine" : "";
  const when = new Date(Number(at / 1_000_000n));
  const meta = document.createElement("span");
  meta.className = "meta";
  const author = document.createElement("b");
  author.textContent = mine ? "You" : name; // textContent throughout: what others write is never markup
  const stamp = document.createElement("time");
  stamp.dateTime = when.toISOString();
  stamp.textContent = time.format(when);
  meta.append(author, " ", stamp);
  const bubble = document.createElement("p");
  bubble.className = "bubble";
  bubble.textContent = text;
  item.append(meta, bubble);
  append(item);
}

function note(text) {
  const item = document.createElement("li");
  item.className = "note";
  item.textContent = text;
  append(item);
}

function status(state, text) {
  $("status").dataset.state = state;
  $("status-text").textContent = text;
  $("send").disabled = state !== "open";
}

function showPeople(count) {
  $("people").textContent = count === 1 ? "Only you are here" : `${count} people are here`;
}

/**
 * The identity of this tab, which a reload keeps and another tab does not have. It protects no more than a name here; one
 * that protects something belongs where no script can read its key, as AuthClient keeps it.
 */
function tabIdentity() {
  const kept = sessionStorage.getItem("identity");
  if (kept) return Secp256k1KeyIdentity.fromJSON(kept);
  const fresh = generateRandomIdentity();
  sessionStorage.setItem("identity", JSON.stringify(fresh));
  return fresh;
}

const { canister } = await (await fetch("config.json")).json();
const gateway = `wss://${location.host}/ws`;
const identity = tabIdentity();
const me = identity.getPrincipal().toText();
$("gateway").textContent = gateway;
$("canister").textContent = canister;
$("principal").textContent = me;
$("name").value = sessionStorage.getItem("name") ?? `Guest ${me.slice(0, 5)}`;

// Caddy passes /api to the network on this very origin, so the page needs no second host.
const connection = new Connection({ gateway, network: location.origin, canister, identity });

/** When each message not yet seen back was sent: the canister answers its author too, in order, and that is the proof. */
const sent = [];

connection.addEventListener("open", () => {
  sent.length = 0;
  status("open", "Connected");
  $("text").focus();
});
connection.addEventListener("message", ({ detail: message }) => {
  showPeople(message.online);
  if (!message.text) return;
  const mine = message.author.toText() === me; // a name is what its author says, a principal is proven
  if (mine) $("latency").textContent = `${Math.round(performance.now() - sent.shift())} ms from sending to verified`;
  showMessage(message, mine);
});
connection.addEventListener("closed", ({ detail: { code, reason, retryIn } }) => {
  const why = reason || `code ${code}`;
  if (retryIn === undefined) {
    status("closed", "Disconnected");
    note(`Disconnected: ${why}`);
    return;
  }
  status("connecting", "Reconnecting");
  note(`Connection lost (${why}). Trying again in ${Math.ceil(retryIn / 1000)} s.`);
});

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("name").value.trim();
  const text = $("text").value.trim();
  if (!name || !text) return;
  sessionStorage.setItem("name", name);
  connection.send({ author: identity.getPrincipal(), name, text, at: 0n, online: 0 });
  sent.push(performance.now());
  $("text").value = "";
  $("text").focus();
});
addEventListener("pagehide", () => connection.stop());
addEventListener("pageshow", ({ persisted }) => persisted && location.reload());

connection.start();
