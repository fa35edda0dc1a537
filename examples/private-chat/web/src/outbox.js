// What was said and has not come back yet. The canister sends everything that is said to its sender too, and answers in the order in
// which it was asked: so what it refuses is the oldest one of the room.

export class Outbox {
  #said = [];

  put(said) {
    this.#said.push(said);
  }

  /** One's own message has come back. */
  arrived({ room, epoch, counter }) {
    this.#said = this.#said.filter((s) => s.room !== room || s.epoch !== epoch || s.counter !== counter);
  }

  /** Takes out what the canister has refused, undefined if that is nothing of this page. */
  refused(room) {
    const i = this.#said.findIndex((s) => s.room === room);
    return i < 0 ? undefined : this.#said.splice(i, 1)[0];
  }

  /** Takes out everything. */
  empty() {
    return this.#said.splice(0);
  }
}
