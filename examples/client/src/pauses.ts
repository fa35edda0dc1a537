// When to try again: the README of caddy-icws, "When a session ends".

import type { Retry } from "./reasons.js";

/** The first pauses, and the longest, in milliseconds and without luck. */
const FIRST: Readonly<Record<Exclude<Retry, "never">, number>> = { soon: 500, later: 5_000 };
const LONGEST = 20_000;

/**
 * How long to wait before the next attempt, in milliseconds. Pauses double with each attempt that has failed, and up to half of
 * that is added by luck: many clients of one gateway are not to come back at once.
 */
export function pause(retry: Exclude<Retry, "never">, failed: number, random: () => number = Math.random): number {
  return Math.min(LONGEST, FIRST[retry] * 2 ** failed) * (1 + random() / 2);
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
