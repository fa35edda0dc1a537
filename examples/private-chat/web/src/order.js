// Nobody on the way can make messages up, but they could repeat them, hold them back, or change their order. Each sender counts
// their messages of an epoch, and the count is authenticated.

export class Order {
  #last = new Map();

  /**
   * Takes a message that has been opened.
   *
   * @returns {bigint} how many of the sender's messages are missing before it. Before the first one that is seen none is: who comes
   *   later has missed what was before
   * @throws if it is there already, or comes after one that was sent later
   */
  take({ room, epoch, sender, counter }) {
    const of = `${room}/${epoch}/${sender}`;
    const last = this.#last.get(of);
    if (last !== undefined && counter <= last) throw new Error("it is a repetition, or comes too late");
    this.#last.set(of, counter);
    return last === undefined ? 0n : counter - last - 1n;
  }
}
