// Work that is done one after the other, and that leaves the page time to draw and to answer people in between: a signature takes
// about a millisecond and the check of a certificate some ten, and an application may send a thousand messages at once.

/** How long work goes on without a pause, in milliseconds: half of what a screen has for one picture. */
const STRETCH = 8;

/** When this page last had time for something else, by performance.now. */
let paused = -Infinity;

/** Does not throw. */
type Job = () => void | Promise<void>;

/** Jobs that wait for each other. */
export class Line {
  readonly #jobs: Job[] = [];
  #isWorking = false;

  /** Does a job when all that wait are done. */
  add(job: Job): void {
    this.#jobs.push(job);
    void this.#work();
  }

  /** Does a job before all that wait. */
  addFirst(job: Job): void {
    this.#jobs.unshift(job);
    void this.#work();
  }

  async #work(): Promise<void> {
    if (this.#isWorking) return;
    this.#isWorking = true;
    while (this.#jobs.length > 0) {
      await breathe();
      await this.#jobs.shift()!();
    }
    this.#isWorking = false;
  }
}

/** Lets the page do what else it has to, if it had to wait. Timers would do, but pages in the background have few of them. */
async function breathe(): Promise<void> {
  if (performance.now() - paused <= STRETCH) return;
  await new Promise<void>((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(undefined);
  });
  paused = performance.now();
}
