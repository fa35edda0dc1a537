// The frame of an opinion: one JSON case per line comes in, one verdict per line goes out, in the same order. What an
// opinion takes for the present is the time of the case, so that age is judged and never raced.

import { createInterface } from "node:readline";

const RealDate = Date;
let now = 0;
globalThis.Date = class Date extends RealDate {
  constructor(...args) {
    if (args.length > 0) super(...args);
    else super(now);
  }
  static now() {
    return now;
  }
};

// Libraries log what they refuse. Standard output is for verdicts.
for (const level of ["debug", "info", "log", "warn", "error"]) console[level] = () => {};

/** Bytes from hexadecimal, in memory of their own as a socket delivers them. */
export const bytes = (hex) => new Uint8Array(Buffer.from(hex, "hex"));

/** f, but each answer is computed once. Its arguments are bytes. */
export function remembering(f) {
  const answers = new Map();
  return async (...args) => {
    const id = args.map((a) => Buffer.from(a).toString("hex")).join();
    if (!answers.has(id)) answers.set(id, await f(...args));
    return answers.get(id);
  };
}

/**
 * Answers cases until the input ends. judges are async functions by the name of the opinion; each throws its reason to
 * refuse a case.
 */
export async function serve(judges) {
  for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
    const c = JSON.parse(line);
    now = Number(BigInt(c.now) / 1_000_000n);
    const verdicts = {};
    for (const [name, judge] of Object.entries(judges)) {
      try {
        await judge(c);
        verdicts[name] = "";
      } catch (e) {
        verdicts[name] = String(e?.message ?? e).split("\n")[0].slice(0, 200) || "refused";
      }
    }
    process.stdout.write(JSON.stringify({ id: c.id, verdicts }) + "\n");
  }
  process.exit(0); // timers of sessions that were never closed would hold it
}
