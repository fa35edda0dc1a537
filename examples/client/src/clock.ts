// The network's time (PROTOCOL section 4.1: ingress_expiry). A device's clock can be minutes wrong, and then the network refuses
// what is signed by it, and every certificate looks too old or too new.

/**
 * How wrong a clock may be before it is corrected, in milliseconds. An opening takes no longer (OPEN_TIMEOUT of session.ts), so a
 * gateway that is slow cannot make a clock that is right seem wrong. What is signed lives for 3 to 4 minutes, which bears it.
 */
const TOLERATED = 60_000;

/**
 * This device's clock, held against times that the network has certified.
 *
 * Who could lie? Nobody can certify the future. A certificate can only be old, and an old one makes this clock seem ahead, never
 * behind. In what is signed that does no harm: it expires too early, and the network refuses it. In judging ages it would do: who
 * holds every certificate back for ten minutes would have each of them seem new. So ages are only judged after the first message
 * of the session itself. It has the nonce that was drawn for this session and that nobody knew before ws_open left, so it was
 * certified after that: now() is then at most a minute behind the network's time, whatever a gateway does, and a certificate that
 * is accepted at most a minute older than it may be. That is as good as a clock that is right to the minute.
 */
export class Clock {
  #ahead = 0;
  /** The clock as it was then, against one that nobody sets. */
  #setting = setting();

  /** corrected is called with the new value of ahead. */
  constructor(private readonly corrected: (ahead: number) => void) {}

  /** How far this device's clock is ahead of the network's, in milliseconds, negative if it is behind; 0 if it is right to the minute. */
  get ahead(): number {
    return this.#ahead;
  }

  /** The network's time, in milliseconds of Unix time. */
  now(): number {
    return Date.now() - this.#ahead;
  }

  /** Whether the clock may have been set since it was last compared: it was, or this device has slept. */
  get mayBeSet(): boolean {
    return Math.abs(setting() - this.#setting) > TOLERATED;
  }

  /**
   * Learns that something which was asked for at a time of this device was certified at a time of the network, both in
   * milliseconds. Returns whether the clock was corrected.
   */
  compare(askedAt: number, certifiedAt: number): boolean {
    const ahead = askedAt - certifiedAt;
    this.#setting = setting();
    if (Math.abs(ahead - this.#ahead) <= TOLERATED) return false;
    this.#ahead = Math.abs(ahead) <= TOLERATED ? 0 : ahead;
    this.corrected(this.#ahead);
    return true;
  }
}

const setting = (): number => Date.now() - performance.now();
