// The pane with everything that passes the gateway, as the program has it from a tap on the connections.

import { Log, element } from "./log.js";
import { named } from "./names.js";

const $ = (id) => document.getElementById(id);
/** How many messages are kept, and how many bytes are in a row: that is what fits into a narrow window. */
const MOST = 300;
const ROW = 8;

/** One character for each byte. */
const latin = (bytes) => Array.from(bytes, (b) => String.fromCharCode(b)).join("");
const printable = (text) => text.replace(/[^ -~]/g, "\u00b7");
const fromBase64 = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

/** Bytes as programmers read them: where, in hexadecimal, and as text. */
function dump(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += ROW) {
    const row = bytes.subarray(at, at + ROW);
    const hex = Array.from(row, (b) => b.toString(16).padStart(2, "0")).join(" ");
    lines.push(`${at.toString(16).padStart(4, "0")}  ${hex.padEnd(3 * ROW - 1)}  ${printable(latin(row))}`);
  }
  return lines.join("\n");
}

function line(frame, bytes) {
  const from = frame.from === "client" ? "client to gateway" : "gateway to client";
  const about = element("span", "about", `${from}, session ${frame.session}, ${bytes.length} bytes`);
  const summary = element("summary");
  summary.append(about, element("span", "what", named(frame.what)));
  if (frame.payload) summary.append(element("code", "payload", printable(latin(fromBase64(frame.payload))).slice(0, 600)));
  const all = element("details");
  all.append(summary);
  all.addEventListener("toggle", () => all.children.length === 1 && all.append(element("pre", "", dump(bytes))), { once: true });
  const item = element("li", frame.from);
  item.append(all);
  return item;
}

/** Shows what passes from now on, and what has passed of late. */
export function watchGateway() {
  const log = new Log($("frames"), MOST);
  const texts = [];
  let last = 0;
  let count = 0;
  let size = 0;
  const search = () => {
    const word = latin(new TextEncoder().encode($("word").value.trim()));
    if (!word) return ($("found").textContent = "");
    const found = texts.filter((text) => text.includes(word)).length;
    $("found").textContent = found ? `in ${found} of ${texts.length} messages` : `in none of ${texts.length} messages`;
    $("found").className = found ? "bad" : "good";
  };
  $("find").addEventListener("submit", (event) => event.preventDefault());
  $("word").addEventListener("input", search);
  const events = new EventSource("seen");
  events.onmessage = ({ data }) => {
    const frame = JSON.parse(data);
    if (frame.number <= last) return; // the stream was lost and has begun again
    last = frame.number;
    const bytes = fromBase64(frame.bytes);
    texts.push(latin(bytes));
    if (texts.length > MOST) texts.shift();
    $("passed").textContent = `${++count} messages, ${((size += bytes.length) / 1000).toFixed(1)} kB`;
    log.append(line(frame, bytes));
    search();
  };
  events.onerror = () => {
    if (events.readyState === EventSource.CLOSED) $("passed").textContent = "the program has ended";
  };
}
