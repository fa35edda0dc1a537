// When to try again: the README of caddy-icws, "When a session ends".

import type { Retry } from "./reasons.js";

/** The first pauses, and the longest, in milliseconds. */
const FIRST: Readonly<Record<Exclude<Retry, "never">, number>> = { soon: 500, later: 5_000 };
const LONGEST = 30_000;

/**
 * How long to wait before the next attempt, in milliseconds. Pauses double with each attempt that has failed, and half of each
 * is luck: many clients of one gateway are not to come back at once.
 */
export function pause(retry: Exclude<Retry, "never">, failed: number, random: () => number = Math.random): number {
  const longest = Math.min(LONGEST, FIRST[retry] * 2 ** failed);
  return longest * (0.5 + random() / 2);
}

/** Calls wake when this device is online again, or its page in sight. Returns what ends that. */
export function onWake(wake: () => void): () => void {
  const visible = () => document.visibilityState === "visible" && wake();
  const inBrowser = typeof document !== "undefined";
  if (inBrowser) {
    addEventListener("online", wake);
    document.addEventListener("visibilitychange", visible);
  }
  return () => {
    if (!inBrowser) return;
    removeEventListener("online", wake);
    document.removeEventListener("visibilitychange", visible);
  };
}
