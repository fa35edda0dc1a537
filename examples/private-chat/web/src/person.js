// The pane of one person.

import { Log, element } from "./log.js";
import { Member } from "./member.js";
import { name, nameOf } from "./names.js";

const STATES = { connecting: "Connecting", open: "Connected", closed: "Disconnected" };
const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export class Person {
  #pane;
  #log;
  #room;
  #isOpen = false;

  /** @param {object} options of Member */
  constructor(called, options) {
    this.member = new Member(options);
    name(this.member.principal, called);
    this.#pane = document.getElementById("person").content.firstElementChild.cloneNode(true);
    const heading = this.#find("h2");
    heading.textContent = called;
    heading.id = `person-${called}`;
    this.#pane.setAttribute("aria-labelledby", heading.id);
    this.#find(".principal").textContent = this.member.principal;
    this.#log = new Log(this.#find(".log"), 500);
    document.querySelector("main").insertBefore(this.#pane, document.getElementById("gateway"));
    this.#listen(options.encryption);
    this.#control();
  }

  #find(selector) {
    return this.#pane.querySelector(selector);
  }

  #listen(encryption) {
    const on = (type, handle) => this.member.addEventListener(type, ({ detail }) => handle(detail));
    on("state", ({ state, why }) => {
      this.#isOpen = state === "open";
      this.#find(".status").dataset.state = state;
      this.#find(".status").textContent = STATES[state];
      if (why) this.#note(`${STATES[state]}: ${why}`);
      this.#enable();
    });
    on("room", (room) => {
      if (this.#room && this.#room.room !== room.room) return this.#note("You are in another room, too. This page shows the first one.");
      if (this.#room && this.#room.epoch !== room.epoch && encryption.isProtected) this.#note(`Epoch ${room.epoch} began, with a key of its own.`);
      this.#show(room);
    });
    on("left", ({ room }) => {
      if (this.#room?.room !== room) return;
      this.#show(undefined);
      this.#note("You are no longer in the room. What is said there from now on has a key that you cannot get.");
    });
    on("key", ({ epoch }) => this.#note(`Key of epoch ${epoch}: verified with the network's master key.`));
    on("message", (message) => this.#message(message));
    on("unreadable", ({ sender, why }) => this.#note(`Not shown: a message of ${nameOf(sender)}. ${why}`, "bad"));
    on("unsent", ({ text, why }) => this.#note(`Not sent: ${text}. ${why}`, "bad"));
    on("refused", ({ reason }) => this.#note(`The canister refuses: ${reason}`, "bad"));
  }

  #control() {
    const submit = (selector, field, act) =>
      this.#find(selector).addEventListener("submit", (event) => {
        event.preventDefault();
        const input = event.target.elements[field];
        const text = input.value.trim();
        if (!text) return;
        input.value = "";
        this.#try(() => act(text));
      });
    submit("form.say", "text", (text) => this.member.say(this.#room.room, text));
    submit("form.add", "who", (who) => this.member.add(this.#room.room, who));
    this.#find(".open-room").addEventListener("click", () => this.#try(() => this.member.open()));
  }

  /** Does something that can fail, and says so. */
  async #try(act) {
    try {
      await act();
    } catch (error) {
      this.#note(`Not done: ${error.message}`, "bad");
    }
  }

  #show(room) {
    this.#room = room;
    this.#find(".room").textContent = room ? `${this.#ownerOf(room)} room, epoch ${room.epoch}` : "No room yet";
    this.#find(".members").replaceChildren(...(room?.members ?? []).map((who) => this.#memberLine(room, who)));
    this.#enable();
  }

  #memberLine(room, who) {
    const line = element("li", "", this.#you(who));
    line.title = who;
    if (room.owner === this.member.principal && who !== room.owner) {
      const remove = element("button", "remove", "Remove");
      remove.setAttribute("aria-label", `Remove ${nameOf(who)}`);
      remove.addEventListener("click", () => this.#try(() => this.member.remove(room.room, who)));
      line.append(remove);
    }
    return line;
  }

  #you(who) {
    return who === this.member.principal ? "you" : nameOf(who);
  }

  #ownerOf({ owner }) {
    return owner === this.member.principal ? "Your" : `${nameOf(owner)}'s`;
  }

  #enable() {
    const isOwner = this.#room?.owner === this.member.principal;
    const enable = (selector, yes) => this.#pane.querySelectorAll(selector).forEach((control) => (control.disabled = !yes));
    enable("form.say > button, form.say input", this.#isOpen && this.#room);
    enable("form.add > button, form.add input", this.#isOpen && isOwner);
    enable(".open-room", this.#isOpen && !this.#room);
  }

  #message({ sender, at, text, missing }) {
    if (missing > 0n) this.#note(`${missing} of ${nameOf(sender)}'s messages did not arrive before this one.`, "bad");
    const mine = sender === this.member.principal;
    const when = new Date(Number(at / 1_000_000n));
    const line = element("li", mine ? "mine" : "");
    const stamp = element("time", "", time.format(when));
    stamp.dateTime = when.toISOString();
    const meta = element("span", "meta");
    meta.append(element("b", "", mine ? "You" : nameOf(sender)), " ", stamp);
    line.append(meta, element("p", "bubble", text));
    this.#log.append(line);
  }

  #note(text, kind = "") {
    this.#log.append(element("li", `note ${kind}`, text));
  }
}
