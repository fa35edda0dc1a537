// What the lock says: what is protected here and, as plainly, what is not.

const $ = (id) => document.getElementById(id);

const PROTECTED = [
  "What is said: only members of the room can read it, not the gateway, nor boundary nodes, nor the nodes of the network.",
  "Who said it, in which room, and in which order: nobody on the way can change, repeat or move a message without it being noticed.",
  "What comes after somebody was removed: the next epoch has another key.",
];
const OPEN = [
  "How long each message is, and when it is sent.",
  "Who is in which room, who says something there, and your principal.",
  "What was said in an epoch, from somebody who gets its key: a member, or who takes a member's device.",
  "Whoever controls the canister can change it, and a changed canister can ask for any key.",
];

export function showLock(isProtected) {
  $("lock").className = isProtected ? "locked" : "unlocked";
  $("lock-text").textContent = isProtected ? "What is said is encrypted" : "Encryption is off: everybody on the way can read";
  const fill = (id, lines) => $(id).replaceChildren(...lines.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  fill("protected", isProtected ? PROTECTED : ["Nothing, except that others cannot speak for you: what you send is signed."]);
  fill("open", isProtected ? OPEN : ["All that is said.", ...OPEN.slice(0, 2)]);
  const other = $("switch").firstElementChild;
  const query = new URLSearchParams(location.search);
  if (isProtected) query.set("encryption", "off");
  else query.delete("encryption");
  other.href = `?${query}`;
  other.textContent = isProtected ? "Begin again without encryption, to see what the gateway would see" : "Begin again with encryption";
}
