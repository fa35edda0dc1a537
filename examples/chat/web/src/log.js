// The lines of the conversation, in the page and in sessionStorage: a reload keeps them, and another tab does not have them.

const log = document.getElementById("log");
const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

/** How many lines are shown, and how many messages a reload keeps. */
const LINES = 200;
const KEY = "history";

/** Whether the newest line is in view, as far as the reader chose. */
let atEnd = true;
log.addEventListener("scroll", () => {
  atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
});
const toEnd = () => atEnd && log.scrollTo({ top: log.scrollHeight });
new ResizeObserver(toEnd).observe(log);

/** Adds a line and keeps the newest in view unless the reader has scrolled up. */
function append(className, ...content) {
  const item = document.createElement("li");
  item.className = className;
  item.append(...content); // text throughout: what others write is never markup
  log.append(item);
  while (log.children.length > LINES) log.firstChild.remove();
  toEnd();
  return item;
}

function element(tag, className, ...content) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...content);
  return made;
}

/** Shows what somebody has said: {author, name, text, at}, with the author as text and the time in milliseconds. */
export function show({ author, name, text, at }, me) {
  const mine = author === me; // a name is what its author says, a principal is proven
  const stamp = element("time", "", time.format(at));
  stamp.dateTime = new Date(at).toISOString();
  append(mine ? "mine" : "", element("span", "meta", element("b", "", mine ? "You" : name), " ", stamp), element("p", "bubble", text));
}

/** Says something that nobody has said. Returns the line, whose text may change. */
export const note = (text) => append("note", text);

/** What was said in this tab before, oldest first. */
export function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY)) ?? [];
  } catch {
    return []; // written by an older page
  }
}

let messages = kept();

/** Keeps a message for a reload, as show takes it. */
export function keep(message) {
  messages = [...messages, message].slice(-LINES);
  try {
    sessionStorage.setItem(KEY, JSON.stringify(messages));
  } catch {
    messages = []; // the storage is full: better to forget than to show an old history
    sessionStorage.removeItem(KEY);
  }
}
