// Somebody with a session: rooms, their keys, and what is said in them. It knows nothing of pages.

import { Principal } from "@icp-sdk/core/principal";
import { IcWebSocket, createWsConfig, generateRandomIdentity } from "@icws-gateway/client";
import { actor } from "./canister.js";
import { KeyOpener } from "./keys.js";
import { Order } from "./order.js";
import { Outbox } from "./outbox.js";

const GONE = "you are not in the room";

/**
 * Events, each with its own detail: "state" {state, why}; "room" {room, epoch, owner, members}; "left" {room}; "key" {room, epoch}, when
 * it is verified; "message" {room, epoch, sender, counter, at, text, missing}; "unreadable" {room, epoch, sender, counter, why};
 * "unsent" {room, text, why}; "refused" {room, request, reason}. Principals are texts.
 */
export class Member extends EventTarget {
  #ws;
  #opener;
  #encryption;
  #rooms = new Map();
  /** Keys by room and epoch, as promises, and those of them that the canister has not given yet. */
  #keys = new Map();
  #asked = new Map();
  #counters = new Map();
  #order = new Order();
  #outbox = new Outbox();
  #writing = Promise.resolve();
  #reading = new Map();

  /**
   * @param {object} o gateway (wss:// URL), network (its URL), rootKey and masterKey (bytes), canister (text); encryption is sealed.js or
   *   plain.js. identity, and WebSocket where there is no global one, are optional
   */
  constructor({ gateway, network, rootKey, masterKey, canister, encryption, identity = generateRandomIdentity(), WebSocket }) {
    super();
    this.principal = identity.getPrincipal().toText();
    this.#encryption = encryption;
    this.#opener = new KeyOpener(masterKey, Principal.fromText(canister).toUint8Array());
    const config = { canisterId: canister, canisterActor: actor(canister), identity, networkUrl: network, rootKey, WebSocket };
    this.#ws = new IcWebSocket(gateway, undefined, createWsConfig(config));
    this.#ws.onopen = () => {
      this.#tell("state", { state: "open" });
      for (const { room, epoch } of this.#asked.values()) this.#ask(room, epoch);
    };
    this.#ws.onmessage = ({ data }) => this.#told(data);
    this.#ws.onerror = ({ message }) => this.#tell("state", { state: this.#ws.isConnectionEstablished() ? "open" : "connecting", why: message });
    this.#ws.onreconnecting = ({ closeReason }) => this.#lost("connecting", closeReason.text);
    this.#ws.onclose = ({ closeReason }) => {
      this.#lost("closed", closeReason.text);
      this.#giveUp(() => true, "the session is over");
    };
  }

  /** The rooms that this member is in. */
  get rooms() {
    return [...this.#rooms.values()];
  }

  /** These four throw while there is no session. */
  open() {
    this.#ws.send({ open: null });
  }
  add(room, who) {
    this.#ws.send({ add: { room, who: Principal.fromText(who) } });
  }
  remove(room, who) {
    this.#ws.send({ remove: { room, who: Principal.fromText(who) } });
  }
  close(room) {
    this.#ws.send({ close: { room } });
  }

  /** Ends the session. */
  leave() {
    this.#ws.close();
  }

  /** Says something in a room, after what was said before. Resolves when it has been handed to the socket. */
  say(room, text) {
    const said = this.#writing.then(() => this.#say(room, text));
    this.#writing = said.catch(() => {});
    return said;
  }

  /** The text of what was said in any epoch that this member was in. */
  async read({ room, epoch, sender, counter, ciphertext }) {
    return this.#encryption.open(await this.#key(room, epoch), { room, epoch, sender, counter }, new Uint8Array(ciphertext));
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #told(message) {
    const [[kind, told]] = Object.entries(message);
    switch (kind) {
      case "room": {
        const room = { room: told.room, epoch: told.epoch, owner: told.owner.toText(), members: told.members.map((who) => who.toText()) };
        this.#rooms.set(room.room, room);
        return this.#tell("room", room);
      }
      case "left":
        this.#rooms.delete(told.room);
        this.#giveUp(({ room }) => room === told.room, GONE);
        return this.#tell("left", told);
      case "key":
        return void this.#got(told);
      case "said": {
        const said = { ...told, sender: told.sender.toText() };
        if (said.sender === this.principal) this.#outbox.arrived(said); // now, and not when it has been opened: a refusal may follow
        // One after the other: the key of the first one may still be on its way.
        const before = this.#reading.get(said.room) ?? Promise.resolve();
        this.#reading.set(said.room, before.then(() => this.#heard(said)));
        return;
      }
      case "refused":
        if (told.request === "get_key") this.#giveUp(({ room }) => room === told.room, told.reason);
        if (told.request === "say") return this.#notSaid(told);
        return this.#tell("refused", told);
      default:
        this.#tell("refused", { room: 0n, request: kind, reason: "the canister said something that only clients say" });
    }
  }

  /** The key of an epoch, which is asked for once. Without encryption there is none. */
  #key(room, epoch) {
    if (!this.#encryption.isProtected) return undefined;
    const id = `${room}/${epoch}`;
    if (!this.#keys.has(id)) {
      const key = new Promise((resolve, reject) => this.#asked.set(id, { room, epoch, resolve, reject }));
      key.catch(() => this.#keys.delete(id)); // so that it can be asked for again
      this.#keys.set(id, key);
      this.#ask(room, epoch);
    }
    return this.#keys.get(id);
  }

  /** Asks for a key, or leaves that to the next session. */
  #ask(room, epoch) {
    if (this.#ws.isConnectionEstablished()) this.#ws.send({ get_key: { room, epoch, transport_key: this.#opener.transportKey } });
  }

  async #got({ room, epoch, encrypted_key }) {
    const id = `${room}/${epoch}`;
    const asked = this.#asked.get(id);
    if (!asked) return; // asked for again by a later session, and there already
    this.#asked.delete(id);
    try {
      asked.resolve(await this.#opener.open(room, epoch, new Uint8Array(encrypted_key)));
      this.#tell("key", { room, epoch });
    } catch (error) {
      asked.reject(new Error(`the key of the room is not the one that the network derives for it: ${error.message}`));
    }
  }

  #giveUp(which, why) {
    for (const [id, asked] of this.#asked) {
      if (!which(asked)) continue;
      this.#asked.delete(id);
      asked.reject(new Error(why));
    }
  }

  async #say(room, text) {
    let epoch, key;
    do {
      epoch = this.#rooms.get(room)?.epoch;
      if (epoch === undefined) throw new Error(GONE);
      key = await this.#key(room, epoch);
    } while (this.#rooms.get(room)?.epoch !== epoch); // the next one began meanwhile
    const id = `${room}/${epoch}`;
    const counter = (this.#counters.get(id) ?? 0n) + 1n;
    const ciphertext = await this.#encryption.seal(key, { room, epoch, sender: this.principal, counter }, text);
    this.#ws.send({ say: { room, epoch, counter, ciphertext } });
    this.#counters.set(id, counter);
    this.#outbox.put({ room, epoch, counter, text });
  }

  /** What was said as the epoch ended is said again in the next one, with its key. */
  #notSaid({ room, reason }) {
    const said = this.#outbox.refused(room);
    if (!said) return this.#tell("refused", { room, request: "say", reason });
    if (!(this.#rooms.get(room)?.epoch > said.epoch)) return this.#tell("unsent", { room, text: said.text, why: reason });
    this.say(room, said.text).catch((error) => this.#tell("unsent", { room, text: said.text, why: error.message }));
  }

  async #heard(said) {
    const { room, epoch, sender, counter, at } = said;
    const about = { room, epoch, sender, counter };
    try {
      const text = await this.read(said);
      this.#tell("message", { ...about, at, text, missing: this.#order.take(about) });
    } catch (error) {
      this.#tell("unreadable", { ...about, why: error.message });
    }
  }

  /** What has not come back may have arrived or not; nothing is repeated in secret. */
  #lost(state, why) {
    this.#tell("state", { state, why });
    for (const { room, text } of this.#outbox.empty()) {
      this.#tell("unsent", { room, text, why: "the connection was lost, and whether it arrived is not known" });
    }
  }
}
