// The page: two people who share a room, or one for whom the address has a name, and what the gateway sees of them.

import { fromHex } from "./bytes.js";
import { watchGateway } from "./gateway.js";
import { showLock } from "./lock.js";
import { Person } from "./person.js";
import * as plain from "./plain.js";
import * as sealed from "./sealed.js";

const query = new URLSearchParams(location.search);
const encryption = query.get("encryption") === "off" ? plain : sealed;
showLock(encryption.isProtected);
watchGateway();

// The keys come with the page from whoever serves it, as the page itself does. A page for mainnet has its master key built in:
// MasterPublicKey.productionKey() of @dfinity/vetkeys.
const { canister, rootKey, masterKey } = await (await fetch("config.json")).json();
const options = {
  gateway: `wss://${location.host}/ws`,
  network: location.origin,
  rootKey: fromHex(rootKey),
  masterKey: fromHex(masterKey),
  canister,
  encryption,
};

const alone = query.get("person")?.slice(0, 24);
const people = (alone ? [alone] : ["Ada", "Bob"]).map((name) => new Person(name, options).member);

/** Resolves when a member has a session. */
const whenOpen = (member) =>
  new Promise((resolve) => member.addEventListener("state", ({ detail }) => detail.state === "open" && resolve()));

if (!alone) {
  const [ada, bob] = people;
  ada.addEventListener("room", ({ detail: { room } }) => ada.add(room, bob.principal), { once: true });
  await Promise.all(people.map(whenOpen));
  ada.open();
}
addEventListener("pagehide", () => people.forEach((member) => member.leave()));
addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
